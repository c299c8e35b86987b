"use strict";

// What the program has reduced the runs to (src/report/run_view.h) as series of points:
//
//   {first, step, mean, lowest, highest}
//
// A point stands for the records of steps first to step; one record alone has lowest = highest = mean.

function pointsOf(table, column) {
  if (!column) return [];
  const points = [];
  column.mean.forEach((mean, i) => {
    if (mean === null) return;
    points.push({
      first: table.first_step[i], step: table.step[i], index: i, mean,
      lowest: column.lowest ? column.lowest[i] : mean,
      highest: column.highest ? column.highest[i] : mean,
    });
  });
  return points;
}

function curve(run, key) {
  return pointsOf(run.curves, run.curves.columns[key]);
}

function layerCurve(run, layer, key) {
  return pointsOf(run.layers, layer[key]);
}

function evaluationCurve(evaluation, key) {
  return pointsOf(evaluation, evaluation.columns[key]);
}

function scaled(points, factor) {
  return points.map((p) => ({
    ...p, mean: p.mean * factor, lowest: p.lowest * factor, highest: p.highest * factor,
  }));
}

function shifted(points, by) {
  return points.map((p) => ({ ...p, mean: p.mean + by, lowest: p.lowest + by, highest: p.highest + by }));
}

/** Exponential moving average with its bias taken out, as TensorBoard's. */
function smoothed(points, weight) {
  if (weight === 0) return points;
  let sum = 0, norm = 0;
  return points.map((p) => {
    sum = weight * sum + (1 - weight) * p.mean;
    norm = weight * norm + (1 - weight);
    return { ...p, mean: sum / norm };
  });
}

/** Bits per byte of one nat per token, by the evaluation whose data know their bytes. */
function bitsPerNat(run) {
  for (const { columns } of run.evaluations) {
    if (!columns.bits_per_byte || !columns.loss) continue;
    const last = columns.loss.mean.length - 1;
    return columns.bits_per_byte.mean[last] / columns.loss.mean[last];
  }
  return null;
}

function isReduced(run) {
  return run.curves.records_per_point > 1;
}
