"use strict";

// Curves over steps. A series: {name, color, dash, points, dots, band, raw}
//
//   points   as in model.js; the line goes through their means
//   dots     evaluations: marks, joined by a thin line
//   faint    what was smoothed away, drawn faintly below
//   tell     text behind the value of a point, such as the rank
//
// options: {y: {format, zero, log, whole, bytes, least}, logSteps, spikes: [{step, text}], lines: [{value, name}]}

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

function valueExtent(series, lines, { zero, log, least = 1 }) {
  const values = lines.map((line) => line.value);
  for (const { points } of series) {
    for (const p of points) values.push(p.lowest, p.highest);
  }
  let [low, high] = d3.extent(log ? values.filter((v) => v > 0) : values);
  if (zero) low = Math.min(0, low);
  if (low === high) {
    const room = low === 0 ? least : Math.abs(low) * 0.1;
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
    plot.append("path").attr("d", band(one.points)).attr("fill", one.color).attr("fill-opacity", 0.18)
      .attr("stroke", one.color).attr("stroke-opacity", 0.35).attr("stroke-width", 0.8);
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

/** The value scale with its axis at the left; lines reach to the right once that is known. */
function drawValueAxis(svg, series, lines, options, top, bottom) {
  const [low, high] = valueExtent(series, lines, options);
  const y = (options.log ? d3.scaleLog() : d3.scaleLinear()).domain([low, high]).range([bottom, top]);
  if (!options.log) y.nice(5);
  const named = options.log ? y.tickFormat(4, ",.1~g") : () => true;
  const axis = styleAxis(svg.append("g").call(d3.axisLeft(y).tickValues(yTicks(y, options)).tickSize(0)
    .tickPadding(6).tickFormat((value) => (named(value) ? options.format(value) : ""))));
  const widest = d3.max(axis.selectAll("text").nodes(), (node) => node.getComputedTextLength()) || 20;
  const left = Math.max(36, Math.ceil(widest) + 10); // there is room for the word "step"
  axis.attr("transform", `translate(${left},0)`);
  return { y, left, reach: (right) => axis.selectAll(".tick line").attr("x1", 0).attr("x2", right - left) };
}

function drawStepAxis(svg, [from, to], logSteps, [left, right], bottom) {
  const domain = logSteps ? [Math.max(1, from), Math.max(2, to)] : from === to ? [from - 1, to + 1] : [from, to];
  const x = (logSteps ? d3.scaleLog() : d3.scaleLinear()).domain(domain).range([left, right]).clamp(true);
  const count = Math.max(3, Math.floor((right - left) / 80));
  const named = logSteps ? x.tickFormat(count) : () => true;
  const axis = d3.axisBottom(x).tickSize(0).tickPadding(8)
    .tickFormat((step) => (Number.isInteger(step) && named(step) ? d3.format(",")(step) : ""));
  if (!logSteps) axis.ticks(count);
  styleAxis(svg.append("g").attr("transform", `translate(0,${bottom})`).call(axis));
  svg.append("text").attr("x", left - 6).attr("y", bottom + 17).attr("text-anchor", "end")
    .attr("fill", color("soft")).text("step");
  return x;
}

function drawReferenceLines(svg, lines, y, left, right) {
  for (const { value, name } of lines) {
    svg.append("line").attr("x1", left).attr("x2", right).attr("y1", y(value)).attr("y2", y(value))
      .attr("stroke", color("soft")).attr("stroke-dasharray", "2 4");
    svg.append("text").attr("x", right).attr("y", y(value) - 5).attr("text-anchor", "end")
      .attr("fill", color("soft")).text(name);
  }
}

function drawLineChart(svg, width, all, { y: yOptions, logSteps = false, spikes = [], lines = [], legend }) {
  const options = { format: formatNumber, ...yOptions };
  const series = all.map((one) => ({ ...one, points: one.points.filter((p) => !options.log || p.lowest > 0) }))
    .filter((one) => one.points.length > 0);
  if (series.length === 0) return "No value above 0: nothing to draw on a logarithmic scale.";

  const items = (legend || series).map((one) => ({ ...one, dot: one.dots }));
  if (spikes.length > 0) items.push({ name: "spike (z \u2265 4)", color: color("spike"), spike: true });
  const top = (items.length > 1 ? drawLegend(svg, items, width) : 4) + 8, bottom = top + 200;
  const steps = Array.from(new Set(series.flatMap((one) => one.points.map((p) => p.step)))).sort(d3.ascending);
  const ends = [steps[0], steps[steps.length - 1]];
  const { y, left, reach } = drawValueAxis(svg, series, lines, options, top, bottom);
  const right = width - Math.max(12, 4 * d3.format(",")(ends[1]).length);
  reach(right);
  const x = drawStepAxis(svg, ends, logSteps, [left, right], bottom);
  drawReferenceLines(svg, lines, y, left, right);
  const plot = svg.append("g");
  for (const one of series) drawSeries(plot, one, x, y);
  drawSpikes(plot, spikes, x, bottom);
  return {
    height: bottom + 26,
    marks: d3.sum(series, (one) => one.points.length),
    ...readLines({ series, spikes, steps, format: options.format, x, y, top, bottom }),
  };
}

/** How a line chart is read: a stop for each step at which any series has a point. */
function readLines({ series, spikes, steps, format, x, y, top, bottom }) {
  const at = (one, i) => pointAt(one.points, steps[i]);
  const last = (one) => `${one.name} ${valueText(one.points[one.points.length - 1], format)}`;
  return {
    stops: steps.length,
    summary: `Steps ${steps[0]} to ${steps[steps.length - 1]}. At the end: ${series.slice(0, 8).map(last).join(", ")}.`,
    nearest(px) {
      const step = x.invert(px), i = d3.bisectLeft(steps, step);
      if (i === 0) return 0;
      return i === steps.length || step - steps[i - 1] < steps[i] - step ? i - 1 : i;
    },
    move: (i, key) => moveAlong(i, key, steps.length),
    mark(layer, i) {
      layer.append("line").attr("x1", x(steps[i])).attr("x2", x(steps[i])).attr("y1", top).attr("y2", bottom)
        .attr("stroke", color("soft"));
      const heights = series.map((one) => {
        const p = at(one, i);
        layer.append("circle").attr("cx", x(p.step)).attr("cy", y(p.mean)).attr("r", 3.5)
          .attr("fill", one.color).attr("stroke", color("card")).attr("stroke-width", 1.5);
        return y(p.mean);
      });
      return { x: x(steps[i]), y: Math.max(top, d3.min(heights)) };
    },
    read(i) {
      const rows = series.map((one) => {
        const p = at(one, i);
        const elsewhere = p.step !== steps[i] ? ` at ${d3.format(",")(p.step)}` : "";
        return { name: one.name, color: one.color, value: valueText(p, format) + elsewhere + (one.tell ? one.tell(p) : "") };
      });
      const here = series.map((one) => at(one, i)).find((p) => p.step === steps[i]);
      for (const spike of spikes) {
        if (spike.step >= here.first && spike.step <= here.step) rows.push({ name: spike.text, value: "", color: color("spike") });
      }
      return { title: stepsText(here), rows: rows.slice(0, 24) };
    },
  };
}
