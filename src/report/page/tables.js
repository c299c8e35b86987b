"use strict";

// What is read, not drawn: facts of the runs, their configs, the tokens of each expert. All text
// goes in as text, whatever a token or a path says.

function fillTable(table, head, rows) {
  table.classed("several", head.length > 2).selectAll("*").remove();
  if (head.length > 0) {
    table.append("thead").append("tr").selectAll("th").data(head).enter().append("th").attr("scope", "col").text((d) => d);
  }
  const line = table.append("tbody").selectAll("tr").data(rows).enter().append("tr");
  line.append("th").attr("scope", "row").text((row) => row[0]);
  line.selectAll("td").data((row) => row.slice(1)).enter().append("td").text((d) => d);
}

function layoutText(facts) {
  if (!isNumber(facts.ranks)) return unknown;
  const parts = [`${facts.ranks} ${facts.ranks === 1 ? "rank" : "ranks"}`];
  if (isNumber(facts.expert)) parts.push(`expert parallel ${facts.expert}`);
  if (isNumber(facts.zero)) parts.push(`ZeRO ${facts.zero}`);
  if (facts.precision) parts.push(facts.precision);
  return parts.join(", ");
}

function expertsText(facts) {
  if (facts.moe_layers.length === 0) return "none: a dense model";
  return `${formatNumber(facts.num_experts)} in each of ${facts.moe_layers.length} layers, ${formatNumber(facts.top_k)} per token`;
}

function hostsText(start) {
  const ranks = d3.nest().key((host) => host).rollup((list) => list.length).entries(start.hosts);
  return ranks.map(({ key, value }) => (value > 1 ? `${key} (${value} ranks)` : key)).join(", ") || unknown;
}

function startsText(facts) {
  return facts.started.map((start) => {
    const time = start.time ? start.time.replace("T", " ").replace(/:\d\dZ$/, " UTC") : unknown;
    return start.step > 0 ? `${time}, going on from step ${formatNumber(start.step)}` : time;
  }).join("; ") || unknown;
}

/** Rows of [name, value of each run]; rows that no run knows are left out. */
function factRows(runs) {
  const fromFacts = (of) => runs.map((run) => (run.facts ? of(run.facts) : unknown));
  const last = (facts) => facts.started[facts.started.length - 1];
  const rows = [
    ["folder", ...runs.map((run) => run.folder)],
    ["steps", ...runs.map((run) => formatNumber(run.last_step) +
      (run.facts && isNumber(run.facts.steps) ? ` of ${formatNumber(run.facts.steps)}` : ""))],
    ["parameters", ...fromFacts((f) => (isNumber(f.parameters_total)
      ? `${formatCount(f.parameters_total)} in all, ${formatCount(f.parameters_active)} active` : unknown))],
    ["experts", ...fromFacts(expertsText)],
    ["layout", ...fromFacts(layoutText)],
    ["data", ...fromFacts((f) => f.data.map((d) => `${d.name || d.path}: ${formatCount(d.tokens)} tokens`).join("; ") || unknown)],
    ["hosts", ...fromFacts((f) => (f.started.length ? hostsText(last(f)) : unknown))],
    ["started", ...fromFacts(startsText)],
    ["training time", ...runs.map((run) => (run.records ? formatDuration(run.seconds) : unknown))],
    ["tokens trained on", ...runs.map((run) => {
      const points = curve(run, "tokens");
      return points.length ? formatCount(points[points.length - 1].highest) : unknown;
    })],
    ["version", ...fromFacts((f) => f.switchyard || unknown)],
  ];
  return rows.filter((row) => row.slice(1).some((value) => value !== unknown));
}

function settingsOf(run) {
  return new Map(run.settings || []);
}

/** Keys that not all runs have with the same value: [key, value of each run]. */
function differingSettings(runs) {
  const maps = runs.map(settingsOf);
  const keys = new Set(maps.flatMap((map) => Array.from(map.keys())));
  return Array.from(keys)
    .map((key) => [key, ...maps.map((map) => (map.has(key) ? map.get(key) : unknown))])
    .filter(([, first, ...others]) => others.some((value) => value !== first));
}

function drawTopTokens(parent, layer) {
  parent.selectAll("*").remove();
  const all = d3.sum(layer.experts, (expert) => expert.copies);
  layer.experts.forEach((expert, e) => {
    const box = parent.append("div").attr("class", "expert");
    const head = box.append("h4").text(`expert ${e} `);
    head.append("span").text(expert.copies ? `${formatShare(expert.copies / all)} of the load` : "no tokens");
    const most = d3.max(expert.top, (token) => token.copies) || 1;
    const items = box.append("ol").selectAll("li").data(expert.top).enter().append("li")
      .attr("title", (t) => `token ${t.id}: ${formatNumber(t.copies)} copies, ` +
        `${formatShare(t.share)} of this token's copies go to this expert`);
    items.append("i").style("width", (t) => `${100 * t.copies / most}%`);
    items.append("span").attr("class", "mono").text((t) => visibleText(t.text || ""));
    items.append("b").text((t) => formatShare(t.share));
  });
}
