"use strict";

// What the parts of the page share: the model, what the reader has chosen, sections, and curves of
// all runs laid over each other.

let model = JSON.parse(document.getElementById("data").textContent);
const live = document.querySelector('meta[http-equiv="Content-Security-Policy"]').content.includes("connect-src 'self'");
const view = { smoothing: 0, logSteps: false, logValues: false, run: 0, layer: null, tokenLayer: null };
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

function fillSelect(select, choices, chosen) {
  select.selectAll("option").remove();
  select.selectAll("option").data(choices).enter().append("option").attr("value", ([value]) => value).text(([, name]) => name);
  if (chosen !== null) select.property("value", chosen);
}

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
  const log = view.logValues && y.mayBeLog;
  return drawLineChart(svg, width, series, { y: { ...y, log, zero: y.zero && !log }, logSteps: view.logSteps, ...more });
}
