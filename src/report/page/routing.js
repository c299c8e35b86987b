"use strict";

// How one run's router shares the tokens out, over time.

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
    "How the router shares the tokens out. Healthy: near the even colour, no stripe that stays hot, cold or empty.");
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
    draw: (svg, width) => layerCurves(svg, width, layerSeries("dropped"), { zero: true, least: 0.01, format: formatShare }),
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
