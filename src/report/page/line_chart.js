"use strict";

// Curves over steps. A series: {name, color, dash, points, dots, band, raw}
//
//   points   as in model.js; the line goes through their means
//   dots     evaluations: marks, joined by a thin line
//   faint    what was smoothed away, drawn faintly below
//   tell     text behind the value of a point, such as the rank
//
// options: {y: {format, zero, log, label}, logSteps, spikes: [{step, text}], lines: [{value, name}]}

/** The point nearest to a step. */
function pointAt(points, step) {
  const i = d3.bisector((p) => p.step).left(points, step);
  const after = points[i], before = points[i - 1];
  if (!after || !before) return after || before;
  return step - before.step < after.step - step ? before : after;
}

function stepsText(point) {
  const step = d3.format(",")(point.step);
  return point.first === point.step ? `step ${step}` : `steps ${d3.format(",")(point.first)} to ${step}`;
}

function valueText(point, format) {
  const mean = format(point.mean);
  const spread = point.lowest !== point.highest && (point.lowest !== point.mean || point.highest !== point.mean);
  return spread && point.first !== point.step ? `${mean} (${format(point.lowest)} to ${format(point.highest)})` : mean;
}

function valueExtent(series, lines, { zero, log }) {
  const values = lines.map((line) => line.value);
  for (const { points } of series) {
    for (const p of points) values.push(p.lowest, p.highest);
  }
  let [low, high] = d3.extent(log ? values.filter((v) => v > 0) : values);
  if (zero) low = Math.min(0, low);
  if (low === high) {
    const room = low === 0 ? 1 : Math.abs(low) * 0.1;
    high += room;
    if (!(zero && low === 0)) low -= room;
  }
  return [low, high];
}

/** About five: whole numbers of what is counted, round numbers of what is bytes. */
function yTicks(y, { log, whole, bytes }) {
  if (log) return y.ticks(4);
  if (bytes) return byteTicks(y.domain());
  return y.ticks(5).filter((value) => !whole || Number.isInteger(value));
}

function byteTicks([low, high]) {
  const unit = 1024 ** Math.max(0, Math.floor(Math.log2(Math.max(1, high)) / 10));
  return d3.ticks(low / unit, high / unit, 5).map((value) => value * unit);
}

function drawSeries(plot, one, x, y) {
  const line = d3.line().x((p) => x(p.step)).y((p) => y(p.mean));
  const reduced = one.points.some((p) => p.lowest !== p.highest);
  if (reduced) {
    const band = d3.area().x((p) => x(p.step)).y0((p) => y(p.lowest)).y1((p) => y(p.highest));
    plot.append("path").attr("d", band(one.points)).attr("fill", one.color).attr("fill-opacity", 0.18);
  }
  if (one.faint) {
    plot.append("path").attr("d", line(one.faint)).attr("fill", "none").attr("stroke", one.color)
      .attr("stroke-opacity", 0.3).attr("stroke-width", 1);
  }
  plot.append("path").attr("class", "series").attr("d", line(one.points)).attr("fill", "none")
    .attr("stroke", one.color).attr("stroke-width", one.dots ? 1 : 1.8).attr("stroke-linejoin", "round")
    .attr("stroke-opacity", one.dots ? 0.6 : 1).attr("stroke-dasharray", one.dots ? "3 3" : one.dash || null);
  if (one.dots || one.points.length === 1) {
    plot.append("g").selectAll("circle").data(one.points).enter().append("circle")
      .attr("cx", (p) => x(p.step)).attr("cy", (p) => y(p.mean)).attr("r", 3.4)
      .attr("fill", color("card")).attr("stroke", one.color).attr("stroke-width", 1.8);
  }
}

function drawSpikes(plot, spikes, x, height) {
  plot.append("g").selectAll("path").data(spikes).enter().append("path")
    .attr("d", (s) => `M${x(s.step)},${height - 1}l-4,-8h8z`).attr("fill", color("spike"))
    .append("title").text((s) => s.text);
}

function drawLineChart(svg, width, series, options) {
  const { y: yOptions, logSteps = false, spikes = [], lines = [] } = options;
  series = series.filter((one) => one.points.length > 0);
  const format = yOptions.format || formatNumber;
  const legend = series.map((one) => ({ ...one, dot: one.dots }));
  if (spikes.length > 0) legend.push({ name: "spike (z \u2265 4)", color: color("spike"), spike: true });
  const top = (series.length > 1 || spikes.length > 0 ? drawLegend(svg, options.legend || legend, width) : 4) + 8;
  const height = top + 200 + 26;

  const [low, high] = valueExtent(series, lines, yOptions);
  const y = (yOptions.log ? d3.scaleLog() : d3.scaleLinear()).domain([low, high]).range([height - 26, top]);
  if (!yOptions.log) y.nice(5);
  const yAxis = d3.axisLeft(y).tickValues(yTicks(y, yOptions)).tickFormat(yOptions.log ? (v) => (y.tickFormat(4, ",.1~g")(v) ? format(v) : "") : format).tickSize(0).tickPadding(6);
  const axis = styleAxis(svg.append("g").call(yAxis));
  const left = Math.ceil(d3.max(axis.selectAll("text").nodes(), (node) => node.getComputedTextLength()) || 20) + 10;
  const right = width - 12;
  axis.attr("transform", `translate(${left},0)`);
  axis.selectAll(".tick line").attr("x1", 0).attr("x2", right - left);

  const steps = Array.from(new Set(series.flatMap((one) => one.points.map((p) => p.step)))).sort(d3.ascending);
  const [from, to] = [steps[0], steps[steps.length - 1]];
  const x = (logSteps ? d3.scaleLog() : d3.scaleLinear())
    .domain(logSteps ? [Math.max(1, from), Math.max(2, to)] : from === to ? [from - 1, to + 1] : [Math.min(from, to), to])
    .range([left, right]).clamp(true);
  const ticks = Math.max(3, Math.floor(width / 90));
  const xAxis = d3.axisBottom(x).tickSize(0).tickPadding(8)
    .tickFormat((step) => (Number.isInteger(step) && (!logSteps || x.tickFormat(ticks)(step)) ? d3.format(",")(step) : ""));
  if (!logSteps) xAxis.ticks(ticks);
  styleAxis(svg.append("g").attr("transform", `translate(0,${height - 26})`).call(xAxis));

  for (const { value, name } of lines) {
    svg.append("line").attr("x1", left).attr("x2", right).attr("y1", y(value)).attr("y2", y(value))
      .attr("stroke", color("soft")).attr("stroke-dasharray", "2 4");
    svg.append("text").attr("x", right).attr("y", y(value) - 5).attr("text-anchor", "end")
      .attr("fill", color("soft")).text(name);
  }
  const plot = svg.append("g");
  for (const one of series) drawSeries(plot, one, x, y);
  drawSpikes(plot, spikes, x, height - 26);

  const marks = d3.sum(series, (one) => one.points.length);
  const lastOf = (one) => `${one.name} ${valueText(one.points[one.points.length - 1], format)}`;
  return {
    height, marks, stops: steps.length,
    summary: `Steps ${from} to ${to}. At the end: ${series.slice(0, 8).map(lastOf).join(", ")}.`,
    nearest(px) {
      const step = x.invert(px), i = d3.bisectLeft(steps, step);
      if (i === 0) return 0;
      return i === steps.length || step - steps[i - 1] < steps[i] - step ? i - 1 : i;
    },
    move(i, key) {
      const by = key === "ArrowLeft" || key === "ArrowDown" ? -1 : 1;
      return Math.max(0, Math.min(steps.length - 1, i + by));
    },
    mark(layer, i) {
      const at = x(steps[i]);
      layer.append("line").attr("x1", at).attr("x2", at).attr("y1", top).attr("y2", height - 26)
        .attr("stroke", color("soft"));
      const tops = series.map((one) => {
        const p = pointAt(one.points, steps[i]);
        layer.append("circle").attr("cx", x(p.step)).attr("cy", y(p.mean)).attr("r", 3.5)
          .attr("fill", one.color).attr("stroke", color("card")).attr("stroke-width", 1.5);
        return y(p.mean);
      });
      return { x: at, y: Math.max(top, d3.min(tops)) };
    },
    read(i) {
      const rows = series.map((one) => {
        const p = pointAt(one.points, steps[i]);
        const other = p.step !== steps[i] ? ` at ${d3.format(",")(p.step)}` : "";
        return { name: one.name, color: one.color, value: valueText(p, format) + other + (one.tell ? one.tell(p) : "") };
      });
      const exact = series.map((one) => pointAt(one.points, steps[i])).find((p) => p.step === steps[i]);
      for (const spike of spikes) {
        if (spike.step >= exact.first && spike.step <= exact.step) rows.push({ name: spike.text, value: "", color: color("spike") });
      }
      return { title: stepsText(exact), rows: rows.slice(0, 24) };
    },
  };
}
