"use strict";

// The page: which pictures there are, in which order, and what they take from the model.

let model = JSON.parse(document.getElementById("data").textContent);
const live = document.querySelector('meta[http-equiv="Content-Security-Policy"]').content.includes("connect-src 'self'");
const view = { smoothing: 0, logSteps: false, run: 0, layer: null, tokenLayer: null };
const updates = []; // what is not a figure and changes with the data

const main = document.getElementById("report");

function section(id, title, lead) {
  const part = d3.select(main).append("section").attr("id", id);
  const head = part.append("div").attr("class", "section-head");
  const words = head.append("div");
  words.append("h2").text(title);
  if (lead) words.append("p").attr("class", "lead").text(lead);
  return { part, head, grid: part.append("div").attr("class", "grid") };
}

function addFigure(grid, options) {
  return new Figure(grid.node(), options);
}

// ---- curves of the runs, laid over each other

/** One series for each run, or one for each key of a single run. */
function runSeries(keys, change = (points) => points) {
  const several = model.runs.length > 1;
  return model.runs.flatMap((run, r) => Object.entries(keys).map(([key, name], k) => {
    const raw = change(curve(run, key), run);
    return {
      name: several ? (k === 0 ? run.label : `${run.label}: ${name}`) : name,
      color: several ? runColor(r) : runColor(k),
      dash: several ? (k === 0 ? runDash(r) : `${2 + 3 * k} 3`) : null,
      points: smoothed(raw, view.smoothing), faint: view.smoothing > 0 ? raw : null,
    };
  }));
}

function evaluationSeries(key) {
  const several = model.runs.length > 1;
  return model.runs.flatMap((run, r) => run.evaluations.map((evaluation, i) => ({
    name: several ? `${run.label}: ${evaluation.split}` : evaluation.split,
    color: several ? runColor(r) : runColor(i + 1), dots: true, points: evaluationCurve(evaluation, key),
  })));
}

function spikesOf(key) {
  return model.runs.flatMap((run) => run.spikes.filter((s) => s.key === key).map((s) => ({
    step: s.step, text: `${model.runs.length > 1 ? `${run.label}: ` : ""}spike, z ${s.z.toFixed(1)}`,
  })));
}

function hasPoints(series) {
  return series.some((one) => one.points.length > 0);
}

function curves(svg, width, series, y, empty, more = {}) {
  if (!hasPoints(series)) return model.runs.some((run) => run.records > 0) ? empty : "No step is recorded yet.";
  return drawLineChart(svg, width, series, { y, logSteps: view.logSteps, ...more });
}

function bitsPerByteSeries() {
  const train = runSeries({ loss: "train" }, (points, run) => {
    const factor = bitsPerNat(run);
    return factor ? scaled(points, factor) : [];
  });
  return [...train, ...evaluationSeries("bits_per_byte")];
}

function addLearning() {
  const { grid } = section("learning", "Learning");
  addFigure(grid, {
    id: "loss", title: "Loss", help: "Cross-entropy, nats per token.",
    draw: (svg, width) => curves(svg, width, [...runSeries({ loss: "train" }), ...evaluationSeries("loss")], {},
      "The records have no loss.", { spikes: spikesOf("loss") }),
  });
  addFigure(grid, {
    id: "bits-per-byte", title: "Bits per byte", help: "Compares runs of any tokenizer. Train: by the evaluation's bytes per token.",
    draw: (svg, width) => (hasPoints(evaluationSeries("bits_per_byte"))
      ? curves(svg, width, bitsPerByteSeries(), {}, "")
      : model.runs.every((run) => run.evaluations.length === 0) ? "No evaluation yet."
        : "The data do not say how many bytes their tokens stand for."),
  });
  addFigure(grid, {
    id: "learning-rate", title: "Learning rate", help: "Of the schedule, before optim.lr_scale.",
    draw: (svg, width) => curves(svg, width, runSeries({ lr: "learning rate" }), { zero: true }, "The records have no learning rate."),
  });
  addFigure(grid, {
    id: "grad-norm", title: "Gradient norm", help: "Before clipping.",
    draw: (svg, width) => curves(svg, width,
      runSeries({ grad_norm: "all", grad_norm_dense: "dense", grad_norm_expert: "experts" }), { zero: true },
      "The records have no gradient norm.", { spikes: spikesOf("grad_norm") }),
  });
  addFigure(grid, {
    id: "aux-loss", title: "Balance loss", help: "Unscaled, mean over layers; 1 is an even load for the Switch loss.",
    draw: (svg, width) => curves(svg, width, runSeries({ aux_loss: "balance loss" }), {}, "No balance loss."),
  });
  addFigure(grid, {
    id: "z-loss", title: "Router z-loss", help: "Unscaled: how large the router's logits are.",
    draw: (svg, width) => curves(svg, width, runSeries({ z_loss: "z-loss" }), {}, "No router z-loss."),
  });
}

// ---- time and memory

function phaseRows() {
  return model.runs.flatMap((run) => {
    const mean = run.means, own = ["data", "forward", "backward", "optimizer", "checkpoint"];
    if (!isNumber(mean.step_ms)) return [];
    const parts = own.map((name, i) => ({ name, value: mean[`${name}_ms`] || 0, color: runColor(i) }));
    const rest = mean.step_ms - d3.sum(parts, (part) => part.value);
    parts.push({ name: "other", value: Math.max(0, rest), color: color("run-8") });
    const who = model.runs.length > 1 ? `${run.label}: ` : "";
    return [
      { name: `${who}step`, total: formatMilliseconds(mean.step_ms), parts },
      { name: `${who}of it in collectives`, total: formatMilliseconds(mean.comm_ms),
        parts: [{ name: "collectives", value: mean.comm_ms, color: runColor(6) }] },
    ];
  });
}

function memoryRows() {
  const kinds = ["parameters", "gradients", "optimizer", "activations", "exchange", "program"];
  return model.runs.flatMap((run) => {
    const who = model.runs.length > 1 ? `${run.label}: ` : "", rows = [];
    const planned = run.facts && run.facts.planned_bytes_per_rank;
    if (planned) {
      const parts = kinds.map((name, i) => ({ name, value: planned[name] || 0, color: runColor(i) }));
      const rest = (planned.total || 0) - d3.sum(parts, (part) => part.value);
      if (rest > 0) parts.push({ name: "other", value: rest, color: color("run-8") });
      rows.push({ name: `${who}planned`, total: formatBytes(planned.total || d3.sum(parts, (p) => p.value)), parts });
    }
    const peak = d3.max(curve(run, "peak_rss_bytes"), (p) => p.highest);
    if (peak) {
      rows.push({ name: `${who}measured peak`, total: formatBytes(peak),
        parts: [{ name: "resident memory", value: peak, color: runColor(6) }] });
    }
    return rows;
  });
}

function slowestSeries() {
  return model.runs.flatMap((run, r) => {
    const who = model.runs.length > 1 ? `${run.label}: ` : "";
    const tell = (p) => (isNumber(run.slowest.rank[p.index]) ? `, rank ${run.slowest.rank[p.index]}` : "");
    return [
      { name: `${who}slowest rank`, color: runColor(model.runs.length > 1 ? r : 1), points: curve(run, "slowest_rank_ms"), tell },
      { name: `${who}typical rank`, color: runColor(model.runs.length > 1 ? r : 0), dash: "5 3", points: curve(run, "typical_rank_ms") },
    ];
  });
}

function slowestHelp() {
  const told = model.runs.filter((run) => run.slowest.most_often.length > 0).map((run) => {
    const most = run.slowest.most_often[0];
    return `${model.runs.length > 1 ? `${run.label}: ` : ""}rank ${most.rank} in ${formatShare(most.records / run.records)} of the records`;
  });
  return "Work of a step outside collectives." + (told.length ? ` Slowest most often: ${told.join("; ")}.` : "");
}

function addSpeed() {
  const { grid } = section("speed", "Time and memory");
  addFigure(grid, {
    id: "tokens-per-second", title: "Tokens per second", help: "The whole world's, waiting for data included.",
    draw: (svg, width) => curves(svg, width, runSeries({ tokens_per_second: "tokens/s" }), { zero: true, format: formatCount },
      "The records have no rate."),
  });
  addFigure(grid, {
    id: "step-time", title: "Step time", help: "Wall time of a step, waiting for data included.",
    draw: (svg, width) => curves(svg, width, runSeries({ step_ms: "step" }), { zero: true, format: formatMilliseconds },
      "The records have no step time."),
  });
  addFigure(grid, {
    id: "phases", title: "Where a step's time goes",
    help: "Mean over the run, each phase by its slowest rank. Time in collectives lies inside the phases.",
    draw(svg, width) {
      const rows = phaseRows();
      if (rows.length === 0) return "No step is recorded yet.";
      const told = rows[0].parts.map((p) => `${p.name} ${formatMilliseconds(p.value)}`).join(", ");
      return drawBars(svg, width, rows, { format: formatMilliseconds, summary: `${told}.` });
    },
  });
  addFigure(grid, {
    id: "memory", title: "Memory per rank", help: "Planned before the first step; measured on the largest rank.",
    draw(svg, width) {
      const rows = memoryRows();
      if (rows.length === 0) return "No memory is recorded yet.";
      return drawBars(svg, width, rows, { format: formatBytes, bytes: true, summary: `${rows.map((r) => `${r.name} ${r.total}`).join(", ")}.` });
    },
  });
  const slowest = addFigure(grid, {
    id: "slowest-rank", title: "Slowest rank", help: " ",
    draw: (svg, width) => curves(svg, width, slowestSeries(), { zero: true, format: formatMilliseconds },
      "Written before the ranks' times were, or by one rank."),
  });
  updates.push(() => slowest.card.select(".help").text(slowestHelp()));
  addFigure(grid, {
    id: "exchange-volume", title: "Bytes exchanged per step", help: "Rows that left their rank in the all-to-alls, both ways, all ranks.",
    draw: (svg, width) => curves(svg, width, runSeries({ exchange_bytes: "exchanged" }), { zero: true, bytes: true, format: formatBytes },
      "Written before the volume was recorded, or nothing is exchanged."),
  });
}

// ---- routing of one run

function chosenRun() {
  return model.runs[Math.min(view.run, model.runs.length - 1)];
}

const noRouting = () => (chosenRun().records ? "A dense model: no routing." : "No step is recorded yet.");

/** [value, name] of what the heat map can show. */
function loadChoices() {
  const { layers } = chosenRun().load;
  const all = d3.sum(layers, (layer) => layer.experts) <= 96 && layers.length > 1 ? [["all", "all layers"]] : [];
  const busiest = layers.length > 1 ? [["max", "busiest expert of each layer"]] : [];
  return [...all, ...busiest, ...layers.map((layer) => [String(layer.layer), `layer ${layer.layer}`])];
}

function drawLoad(svg, width) {
  const run = chosenRun(), { layers, step, first_step: first } = run.load;
  if (layers.length === 0) return noRouting();
  const times = (layer, column, e) => {
    const value = layer.bins[column][e];
    return value === null ? null : value / 1000;
  };
  const columns = step.map((s, i) => ({ name: d3.format(",")(s), title: stepsText({ first: first[i], step: s }) }));
  let rows;
  if (view.layer === "max") {
    rows = layers.map((layer) => ({
      name: `layer ${layer.layer}`, about: `busiest expert of layer ${layer.layer}`,
      at: (column) => d3.max(layer.bins[column], (v) => v) / 1000,
    }));
  } else {
    const shown = view.layer === "all" ? layers : layers.filter((layer) => String(layer.layer) === view.layer);
    rows = shown.flatMap((layer) => d3.range(layer.experts).map((e) => ({
      name: view.layer === "all" ? `${layer.layer}.${e}` : `${e}`, gap: e === 0,
      about: `layer ${layer.layer}, expert ${e}`, at: (column) => times(layer, column, e),
    })));
  }
  return drawHeatMap(svg, width, {
    rows, columns, fill: loadFill(), legend: drawLoadLegend,
    rowTitle: view.layer === "max" ? null : view.layer === "all" ? "layer.expert" : "expert",
    value: (r, c) => rows[r].at(c),
    say: (r, c) => ({ title: columns[c].title, rows: [{ name: rows[r].about, color: loadFill()(rows[r].at(c)),
      value: rows[r].at(c) === 0 ? "no tokens" : `${formatTimes(rows[r].at(c))} even` }] }),
    summary: `${rows.length} rows over ${columns.length} times; each value is a share of the routed tokens over an even share.`,
  });
}

function layerSeries(key, change = (points) => points) {
  const run = chosenRun(), { layers } = run.layers;
  return layers.map((layer, i) => {
    const raw = change(layerCurve(run, layer, key));
    return { name: `layer ${layer.layer}`, color: depthColor(i, layers.length), points: smoothed(raw, view.smoothing) };
  });
}

/** All layers where there is room for their names, else the first, the middle and the last. */
function layerLegend(series) {
  if (series.length <= 8) return series;
  const middle = Math.floor(series.length / 2);
  return [series[0], series[middle], series[series.length - 1]];
}

function layerCurves(svg, width, series, y, more = {}) {
  if (!hasPoints(series)) return noRouting();
  return drawLineChart(svg, width, series, { y, logSteps: view.logSteps, legend: layerLegend(series), ...more });
}

function addRouting() {
  const { head, grid } = section("routing", "Routing",
    "How the router shares the tokens out: healthy is pale, with no stripe that stays dark, hot or cold.");
  const controls = head.append("div").attr("class", "controls");
  const runLabel = controls.append("label").text("Run ");
  const runSelect = runLabel.append("select").attr("id", "run-choice");
  runSelect.on("change", function () {
    view.run = Number(this.value);
    refresh();
  });
  const layerLabel = controls.append("label").text("Heat map ");
  const layerSelect = layerLabel.append("select").attr("id", "layer-choice");
  layerSelect.on("change", function () {
    view.layer = this.value;
    redrawFigures();
  });
  updates.push(() => {
    runLabel.style("display", model.runs.length > 1 ? null : "none");
    fillSelect(runSelect, model.runs.map((run, i) => [String(i), run.label]), String(view.run));
    const choices = loadChoices();
    if (!choices.some(([value]) => value === view.layer)) view.layer = choices.length ? choices[0][0] : null;
    layerLabel.style("display", choices.length > 1 ? null : "none");
    fillSelect(layerSelect, choices, view.layer);
  });
  addFigure(grid, {
    id: "load", title: "Expert load over time", wide: true,
    help: "Share of a layer's routed tokens that an expert takes, before drops, over an even share.", draw: drawLoad,
  });
  addFigure(grid, {
    id: "max-violation", title: "MaxVio by layer", help: "Busiest expert over the mean, less 1; 0 is perfect balance.",
    draw: (svg, width) => layerCurves(svg, width, layerSeries("max_load", (points) => shifted(points, -1)), { zero: true }),
  });
  addFigure(grid, {
    id: "dropped", title: "Dropped by layer", help: "Share of the routed copies that capacity dropped.",
    draw: (svg, width) => layerCurves(svg, width, layerSeries("dropped"), { zero: true, format: formatShare }),
  });
  addFigure(grid, {
    id: "entropy", title: "Router entropy by layer", help: "Of the router's probabilities, in nats; at the dotted line it does not tell experts apart.",
    draw(svg, width) {
      const { layers } = chosenRun().load;
      const experts = d3.max(layers, (layer) => layer.experts);
      const lines = experts > 1 ? [{ value: Math.log(experts), name: `ln ${experts}` }] : [];
      return layerCurves(svg, width, layerSeries("entropy"), { zero: true }, { lines });
    },
  });
  addFigure(grid, {
    id: "dead", title: "Dead experts by layer", help: "Experts that got no token in the recorded step.",
    draw: (svg, width) => layerCurves(svg, width, layerSeries("dead"), { zero: true, whole: true }),
  });
}

function noRoutingFile() {
  const run = chosenRun();
  if (run.records > 0 && run.load.layers.length === 0) return "A dense model: no routing.";
  return "Not there: written at the first evaluation, and by no run before routing.json was.";
}

function drawExchange(svg, width) {
  const { routing } = chosenRun();
  if (!routing || !routing.exchange) return noRoutingFile();
  const { rows, ranks_per_cell: per } = routing.exchange;
  const ranks = (i) => (per > 1 ? `${i * per}\u2013${(i + 1) * per - 1}` : String(i));
  const most = d3.max(rows, (row) => d3.max(row));
  const scale = d3.scaleLinear().domain([0, most || 1]).range([color("low"), color("high")]).interpolate(d3.interpolateLab);
  const sent = rows.map((row) => d3.sum(row)), got = rows.map((_, c) => d3.sum(rows, (row) => row[c]));
  const staying = d3.sum(rows, (row, i) => row[i]) / (d3.sum(sent) || 1);
  return drawHeatMap(svg, width, {
    rows: rows.map((_, i) => ({ name: ranks(i) })), columns: rows.map((_, i) => ({ name: ranks(i) })),
    value: (r, c) => rows[r][c], fill: scale, legend: () => 4, square: true, sums: true,
    rowTitle: "from rank", columnTitle: "to rank",
    say: (r, c) => ({ title: `rank ${ranks(r)} to rank ${ranks(c)}`, rows: [
      { name: "rows", value: formatNumber(rows[r][c]), color: scale(rows[r][c]) },
      { name: `all that ${ranks(r)} sends`, value: formatNumber(sent[r]) },
      { name: `all that ${ranks(c)} gets`, value: formatNumber(got[c]) },
    ] }),
    summary: `${formatShare(staying)} of the rows stay on their rank; each rank gets ${formatNumber(d3.min(got))} to ${formatNumber(d3.max(got))}.`,
  });
}

function drawLogits(svg, width) {
  const { routing } = chosenRun();
  if (!routing) return noRoutingFile();
  const layer = routing.router_logits.find((one) => String(one.layer) === view.tokenLayer);
  const drawable = layer && layer.counts.length > 0 && layer.edges.length === layer.counts.length + 1 && d3.sum(layer.counts) > 0;
  return drawable ? drawHistogram(svg, width, layer) : "No router logits of this layer.";
}

function addDestinations() {
  const { head, grid } = section("destinations", "Where the tokens go");
  const lead = head.select("div").append("p").attr("class", "lead");
  const label = head.append("div").attr("class", "controls").append("label").text("Layer ");
  const select = label.append("select").attr("id", "token-layer");
  select.on("change", function () {
    view.tokenLayer = this.value;
    refresh();
  });
  const card = grid.append("div").attr("class", "card wide").attr("id", "top-tokens");
  card.append("h3").text("What each expert takes most");
  card.append("p").attr("class", "help").text("The bar: how many copies of the token the expert got. " +
    "The figure: the share of the token's copies in this layer that went to it.");
  const empty = card.append("p").attr("class", "empty");
  const experts = card.append("div").attr("class", "experts");
  updates.push(() => {
    const { routing } = chosenRun(), top = routing && routing.top_tokens;
    const layers = top ? top.layers : [];
    const choices = layers.map((layer) => [String(layer.layer), `layer ${layer.layer}`]);
    if (!choices.some(([value]) => value === view.tokenLayer)) view.tokenLayer = choices.length ? choices[0][0] : null;
    fillSelect(select, choices, view.tokenLayer);
    label.style("display", choices.length > 1 ? null : "none");
    lead.text(routing ? `Step ${formatNumber(routing.step)}` + (top ? `, ${formatNumber(top.tokens)} tokens of the split ${top.split}` : "") + "." : "");
    const layer = layers.find((one) => String(one.layer) === view.tokenLayer);
    card.attr("data-state", layer ? "drawn" : "empty");
    empty.attr("hidden", layer ? true : null).text(layer ? "" : noRoutingFile());
    experts.attr("hidden", layer ? null : true);
    if (layer) drawTopTokens(experts, layer);
  });
  addFigure(grid, {
    id: "exchange", title: "Who sends to whom", help: "Token copies of one step's dispatch, kept by capacity; sums at the edges.",
    draw: drawExchange,
  });
  addFigure(grid, {
    id: "logits", title: "Router logits", help: "Of the chosen layer, in the last recorded step.", draw: drawLogits,
  });
}

// ---- facts and settings

function addFacts() {
  const part = d3.select(main).append("section").attr("id", "facts");
  part.append("h2").text("The run").attr("class", "facts-title");
  const card = part.append("div").attr("class", "card").append("div").attr("class", "scroll");
  const table = card.append("table");
  const notes = part.append("ul").attr("class", "notes");
  updates.push(() => {
    part.select("h2").text(model.runs.length > 1 ? "The runs" : "The run");
    fillTable(table, model.runs.length > 1 ? ["", ...model.runs.map((run) => run.label)] : [], factRows(model.runs));
    if (model.runs.length > 1) {
      table.selectAll("thead th").filter((_, i) => i > 0).insert("span", () => null).lower()
        .attr("class", "swatch").style("margin-right", ".4rem").style("background", (_, i) => runColor(i));
    }
    const lines = model.runs.flatMap((run) => [
      ...run.notes.map((note) => `${run.label}: ${note}`),
      ...(isReduced(run) ? [`${run.label}: ${formatNumber(run.records)} records; each point of a curve stands for ` +
        `${run.curves.records_per_point} of them: their mean, and as a band their lowest and highest`] : []),
    ]);
    notes.style("display", lines.length ? null : "none").selectAll("li").remove();
    notes.selectAll("li").data(lines).enter().append("li").text((d) => d);
  });
}

function addSettings() {
  const { part, grid } = section("settings", "Config");
  grid.remove();
  const differences = part.append("div").attr("class", "card settings").attr("id", "differences").style("margin-top", ".8rem");
  const whole = part.append("div");
  updates.push(() => {
    differences.style("display", model.runs.length > 1 ? null : "none").selectAll("*").remove();
    if (model.runs.length > 1) {
      const rows = differingSettings(model.runs);
      differences.append("h3").text("What differs");
      if (rows.length === 0) differences.append("p").attr("class", "empty").text("Nothing: the configs are equal.");
      else fillTable(differences.append("div").attr("class", "scroll").append("table"), ["", ...model.runs.map((run) => run.label)], rows);
    }
    const open = whole.selectAll("details").nodes().map((node) => node.open);
    whole.selectAll("*").remove();
    model.runs.forEach((run, i) => {
      const details = whole.append("details").property("open", open[i] || false);
      details.append("summary").text(model.runs.length > 1 ? `All of ${run.label}` : "All settings");
      if (!run.settings) details.append("p").attr("class", "empty").text("The folder has no config.yaml.");
      else fillTable(details.append("div").attr("class", "card settings").append("table"), [], run.settings);
    });
  });
}

function fillSelect(select, choices, chosen) {
  select.selectAll("option").remove();
  select.selectAll("option").data(choices).enter().append("option").attr("value", ([value]) => value).text(([, name]) => name);
  if (chosen !== null) select.property("value", chosen);
}

// ---- the whole

function refresh() {
  const names = model.runs.map((run) => run.label).join(", ");
  document.title = `${names} \u00b7 Switchyard`;
  document.getElementById("title").textContent = names;
  const first = model.runs[0];
  const steps = first.facts && isNumber(first.facts.steps) ? ` of ${formatNumber(first.facts.steps)}` : "";
  setStatus(live ? (first.records ? `live, step ${formatNumber(first.last_step)}${steps}` : "live, waiting for the first record")
    : model.runs.length > 1 ? `${model.runs.length} runs` : `step ${formatNumber(first.last_step)}${steps}`);
  for (const update of updates) update();
  redrawFigures();
}

function setStatus(text) {
  const status = document.getElementById("status");
  if (status.textContent !== text) status.textContent = text;
}

const pollSeconds = 3;
let tag = "";

async function poll() {
  try {
    const answer = await fetch("data.json", { cache: "no-store", headers: tag ? { "If-None-Match": tag } : {} });
    if (answer.status === 200) {
      tag = answer.headers.get("ETag");
      model = await answer.json();
      refresh();
    }
  } catch {
    setStatus("the run has ended, or is out of reach; this is the last that it told");
  }
  setTimeout(poll, 1000 * pollSeconds);
}

function listen() {
  document.getElementById("smoothing").addEventListener("change", (event) => {
    view.smoothing = Number(event.target.value);
    redrawFigures();
  });
  document.getElementById("log-steps").addEventListener("change", (event) => {
    view.logSteps = event.target.checked;
    redrawFigures();
  });
  const button = document.getElementById("theme");
  const name = () => { button.textContent = `theme: ${chosenTheme}`; };
  name();
  button.addEventListener("click", () => {
    nextTheme();
    name();
    refresh();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    applyTheme();
    refresh();
  });
  let width = window.innerWidth;
  window.addEventListener("resize", () => {
    if (window.innerWidth === width) return;
    width = window.innerWidth;
    redrawFigures();
  });
}

addFacts();
addLearning();
addSpeed();
addRouting();
addDestinations();
addSettings();
listen();
refresh();
if (live) setTimeout(poll, 1000 * pollSeconds);
