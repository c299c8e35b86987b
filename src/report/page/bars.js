"use strict";

// Bars in a row that add up: where a step's time goes, what the memory is for; and the histogram of
// router logits.
//
// rows: [{name, parts: [{name, value, color}], total}]

function drawBars(svg, width, rows, { format, summary, bytes }) {
  rows = rows.map((row) => ({ ...row, parts: row.parts.filter((part) => part.value > 0) }));
  const names = new Map();
  for (const { parts } of rows.filter((row) => row.parts.length > 1)) {
    for (const part of parts) names.set(part.name, part.color);
  }
  const legend = Array.from(names, ([name, fill]) => ({ name, color: fill, box: true }));
  const top = drawLegend(svg, legend, width) + 6;
  const barHeight = 20, rowHeight = 48;
  const longest = d3.max(rows, (row) => d3.sum(row.parts, (part) => part.value));
  const x = d3.scaleLinear().domain([0, longest || 1]).range([1, width - 14]);
  const height = top + rows.length * rowHeight + 22;

  const ticks = svg.append("g").attr("transform", `translate(0,${height - 24})`)
    .call(d3.axisBottom(x).tickValues(bytes ? byteTicks(x.domain()) : x.ticks(Math.max(2, Math.floor(width / 120)))).tickSize(0).tickPadding(8).tickFormat(format));
  styleAxis(ticks);
  ticks.selectAll("text").attr("text-anchor", (value) => (value === 0 ? "start" : x(value) > width - 34 ? "end" : "middle"));
  ticks.selectAll(".tick line").attr("y1", top - height + 24).attr("y2", 0);

  const stops = [];
  rows.forEach((row, r) => {
    const y = top + r * rowHeight;
    svg.append("text").attr("x", 1).attr("y", y + 11).attr("fill", color("ink")).text(row.name)
      .append("tspan").attr("dx", 8).attr("fill", color("soft")).text(row.total);
    let start = 0;
    for (const part of row.parts) {
      const stop = { row, part, x: x(start), y: y + 17, width: Math.max(0.5, x(start + part.value) - x(start) - 1) };
      svg.append("rect").attr("class", "part").attr("x", stop.x).attr("y", stop.y).attr("width", stop.width)
        .attr("height", barHeight).attr("fill", part.color).attr("rx", 1.5);
      stops.push(stop);
      start += part.value;
    }
  });
  const share = ({ row, part }) => part.value / d3.sum(row.parts, (p) => p.value);
  return {
    height, marks: stops.length, stops: stops.length, summary,
    nearest(px, py) {
      const away = (s) => Math.max(s.x - px, px - s.x - s.width, 0) + 4 * Math.max(s.y - py, py - s.y - barHeight, 0);
      return d3.scan(stops, (a, b) => away(a) - away(b));
    },
    move: (i, key) => Math.max(0, Math.min(stops.length - 1, i + (key === "ArrowLeft" || key === "ArrowUp" ? -1 : 1))),
    mark(layer, i) {
      const stop = stops[i];
      layer.append("rect").attr("x", stop.x - 1).attr("y", stop.y - 2).attr("width", stop.width + 2)
        .attr("height", barHeight + 4).attr("fill", "none").attr("stroke", color("ink")).attr("stroke-width", 2).attr("rx", 2);
      return { x: stop.x + stop.width / 2, y: stop.y };
    },
    read(i) {
      const { row, part } = stops[i];
      const rowsRead = [{ name: part.name, value: format(part.value), color: part.color }];
      if (row.parts.length > 1) rowsRead.push({ name: "share", value: formatShare(share(stops[i])) });
      return { title: row.name, rows: rowsRead };
    },
  };
}

/** Counts between edges. */
function drawHistogram(svg, width, { edges, counts }) {
  const top = 12, bottom = 172, height = 198;
  const total = d3.sum(counts);
  const x = d3.scaleLinear().domain([edges[0], edges[edges.length - 1]]).range([44, width - 12]);
  const y = d3.scaleLinear().domain([0, d3.max(counts) / total || 1]).nice(4).range([bottom, top]);
  const yAxis = styleAxis(svg.append("g").attr("transform", "translate(44,0)")
    .call(d3.axisLeft(y).ticks(4).tickFormat(formatShare).tickSize(0).tickPadding(6)));
  yAxis.selectAll(".tick line").attr("x1", 0).attr("x2", width - 56);
  styleAxis(svg.append("g").attr("transform", `translate(0,${bottom})`)
    .call(d3.axisBottom(x).ticks(Math.max(3, Math.floor(width / 90))).tickSize(0).tickPadding(8)));
  const box = (i) => ({ x: x(edges[i]), width: Math.max(0.5, x(edges[i + 1]) - x(edges[i]) - 1), y: y(counts[i] / total) });
  counts.forEach((_, i) => {
    const { x: left, width: wide, y: high } = box(i);
    svg.append("rect").attr("class", "part").attr("x", left).attr("width", wide).attr("y", high)
      .attr("height", bottom - high).attr("fill", color("run-1"));
  });
  return {
    height, marks: counts.length, stops: counts.length,
    summary: `From ${formatNumber(edges[0])} to ${formatNumber(edges[edges.length - 1])}.`,
    nearest: (px) => Math.max(0, Math.min(counts.length - 1, d3.bisectRight(edges, x.invert(px)) - 1)),
    move: (i, key) => moveAlong(i, key, counts.length),
    mark(layer, i) {
      const { x: left, width: wide, y: high } = box(i);
      layer.append("rect").attr("x", left).attr("y", high - 1).attr("width", wide).attr("height", bottom - high + 1)
        .attr("fill", "none").attr("stroke", color("ink")).attr("stroke-width", 2);
      return { x: left, y: high };
    },
    read: (i) => ({
      title: `${formatNumber(edges[i])} to ${formatNumber(edges[i + 1])}`,
      rows: [{ name: "logits", value: formatShare(counts[i] / total) }],
    }),
  };
}
