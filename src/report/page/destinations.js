"use strict";

// Where the tokens go: to which experts, from rank to rank. From routing.json, of one step.

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
