"use strict";

// Cells in rows and columns: the load of experts over time, and who sends how much to whom.
//
// cells: {rows: [{name, gap}], columns: [{name, tick}], value(row, column), fill(value), text(value),
//         say(row, column), legend(svg, width), sums, rowTitle, columnTitle}
//
// The cells are one small image, a pixel each, drawn large: thousands cost no more than a few.

/** A PNG with one pixel per cell. */
function cellImage(rows, columns, fill) {
  const canvas = document.createElement("canvas");
  canvas.width = columns;
  canvas.height = rows;
  const context = canvas.getContext("2d");
  const image = context.createImageData(columns, rows);
  for (let row = 0; row < rows; ++row) {
    for (let column = 0; column < columns; ++column) {
      const { r, g, b } = d3.rgb(fill(row, column));
      image.data.set([r, g, b, 255], 4 * (row * columns + column));
    }
  }
  context.putImageData(image, 0, 0);
  return canvas.toDataURL("image/png");
}

/** Labels of an axis, as many as have room. */
function every(count, room, needed) {
  return Math.max(1, Math.ceil(count * needed / room));
}

function drawHeatMap(svg, width, cells) {
  const { rows, columns } = cells;
  const top = cells.legend(svg, width) + (cells.columnTitle ? 18 : 6);
  const label = svg.append("g").attr("fill", color("soft"));
  const names = label.selectAll("text").data(rows).enter().append("text").text((row) => row.name)
    .attr("text-anchor", "end").attr("dy", "0.33em");
  const longest = d3.max(names.nodes(), (node) => node.getComputedTextLength()) || 0;
  const left = Math.ceil(longest) + 10 + (cells.rowTitle ? 16 : 0);
  const sumsRoom = cells.sums ? 62 : 0;
  const right = width - 12 - sumsRoom;
  const cellWidth = cells.square
    ? Math.min(84, (right - left) / columns.length) : (right - left) / columns.length;
  const cellHeight = cells.square ? Math.min(40, Math.max(cellWidth, 6))
    : Math.max(3, Math.min(22, Math.round(320 / rows.length)));
  const plotWidth = cellWidth * columns.length, plotHeight = cellHeight * rows.length;
  const bottom = top + plotHeight, height = bottom + 24 + (cells.sums ? 18 : 0);
  const centre = (i, size, start) => start + (i + 0.5) * size;

  names.attr("x", left - 8).attr("y", (row, i) => centre(i, cellHeight, top))
    .filter((row, i) => i % every(rows.length, plotHeight, 13) !== 0).remove();
  svg.append("image").attr("class", "cells").attr("x", left).attr("y", top)
    .attr("width", plotWidth).attr("height", plotHeight).attr("preserveAspectRatio", "none")
    .attr("style", "image-rendering:pixelated")
    .attr("href", cellImage(rows.length, columns.length, (r, c) => cells.fill(cells.value(r, c))));
  const lines = svg.append("g").attr("stroke", color("card"));
  rows.forEach((row, i) => {
    if (i > 0 && (row.gap || cellHeight >= 12)) {
      lines.append("line").attr("x1", left).attr("x2", left + plotWidth).attr("y1", top + i * cellHeight)
        .attr("y2", top + i * cellHeight).attr("stroke-width", row.gap ? 3 : 1);
    }
  });
  if (cells.square && cellWidth >= 12) {
    for (let i = 1; i < columns.length; ++i) {
      lines.append("line").attr("y1", top).attr("y2", bottom).attr("x1", left + i * cellWidth).attr("x2", left + i * cellWidth);
    }
  }
  const ticks = svg.append("g").attr("fill", color("soft")).attr("text-anchor", "middle");
  const step = every(columns.length, plotWidth, cells.square ? 26 : 90);
  columns.forEach((column, i) => {
    if (i % step === 0) ticks.append("text").attr("x", centre(i, cellWidth, left)).attr("y", bottom + 15).text(column.name);
  });
  if (!cells.square) {
    ticks.append("text").attr("x", left - 8).attr("y", bottom + 15).attr("text-anchor", "end").text("step");
  }
  if (cells.columnTitle) {
    svg.append("text").attr("x", left).attr("y", top - 6).attr("fill", color("soft")).text(cells.columnTitle);
  }
  if (cells.rowTitle) {
    svg.append("text").attr("transform", `translate(11,${top + plotHeight / 2}) rotate(-90)`)
      .attr("text-anchor", "middle").attr("fill", color("soft")).text(cells.rowTitle);
  }
  if (cells.square && cellWidth >= 44 && cellHeight >= 20) {
    const texts = svg.append("g").attr("text-anchor", "middle");
    rows.forEach((_, r) => columns.forEach((__, c) => {
      const value = cells.value(r, c), fill = d3.lab(cells.fill(value));
      texts.append("text").attr("x", centre(c, cellWidth, left)).attr("y", centre(r, cellHeight, top))
        .attr("dy", "0.33em").attr("fill", fill.l > 55 ? "#14181d" : "#ffffff").text(formatCount(value));
    }));
  }
  if (cells.sums) drawSums(svg, cells, { left, top, bottom, cellWidth, cellHeight, plotWidth, centre });

  const stops = rows.length * columns.length;
  const clamp = (value, count) => Math.max(0, Math.min(count - 1, Math.floor(value)));
  return {
    height, marks: stops, stops, summary: cells.summary,
    nearest(x, y) {
      return clamp((y - top) / cellHeight, rows.length) * columns.length + clamp((x - left) / cellWidth, columns.length);
    },
    move(i, key) {
      let row = Math.floor(i / columns.length), column = i % columns.length;
      if (key === "ArrowLeft") column = Math.max(0, column - 1);
      if (key === "ArrowRight") column = Math.min(columns.length - 1, column + 1);
      if (key === "ArrowUp") row = Math.max(0, row - 1);
      if (key === "ArrowDown") row = Math.min(rows.length - 1, row + 1);
      return row * columns.length + column;
    },
    mark(layer, i) {
      const x = left + (i % columns.length) * cellWidth, y = top + Math.floor(i / columns.length) * cellHeight;
      layer.append("rect").attr("x", x - 1).attr("y", y - 1).attr("width", Math.max(3, cellWidth + 2))
        .attr("height", cellHeight + 2).attr("fill", "none").attr("stroke", color("ink")).attr("stroke-width", 2);
      return { x: x + cellWidth / 2, y };
    },
    read: (i) => cells.say(Math.floor(i / columns.length), i % columns.length),
  };
}

function drawSums(svg, cells, { left, top, bottom, cellWidth, cellHeight, plotWidth, centre }) {
  const { rows, columns } = cells;
  const sums = svg.append("g").attr("class", "sums").attr("fill", color("ink")).attr("font-weight", 600);
  const step = every(rows.length, cellHeight * rows.length, 13);
  rows.forEach((_, r) => {
    if (r % step !== 0) return;
    sums.append("text").attr("x", left + plotWidth + 8).attr("y", centre(r, cellHeight, top)).attr("dy", "0.33em")
      .text(formatCount(d3.sum(columns, (__, c) => cells.value(r, c))));
  });
  if (cellWidth < 40) return;
  columns.forEach((_, c) => {
    sums.append("text").attr("x", centre(c, cellWidth, left)).attr("y", bottom + 33).attr("text-anchor", "middle")
      .text(formatCount(d3.sum(rows, (__, r) => cells.value(r, c))));
  });
}

/** Load relative to an even share: cold below, hot above, four times either way at the ends. */
function loadFill() {
  const scale = d3.scaleLinear().domain([-2, 0, 2]).range([color("cold"), color("even"), color("hot")])
    .interpolate(d3.interpolateLab).clamp(true);
  const dead = color("dead"), none = color("card");
  return (times) => (times === null ? none : times === 0 ? dead : scale(Math.log2(times)));
}

function drawLoadLegend(svg, width) {
  const fill = loadFill(), bar = Math.min(150, width / 2.4);
  const legend = svg.append("g").attr("fill", color("soft"));
  const times = [0.25, 0.5, 1, 2, 4];
  const stops = d3.range(0, 40);
  const image = cellImage(1, stops.length, (_, i) => fill(2 ** (i / 39 * 4 - 2)));
  legend.append("image").attr("x", 12).attr("y", 3).attr("width", bar).attr("height", 9)
    .attr("preserveAspectRatio", "none").attr("href", image);
  times.forEach((value, i) => {
    legend.append("text").attr("x", 12 + bar * i / 4).attr("y", 26).attr("text-anchor", "middle")
      .attr("font-size", 10.5).text(["\u00bc\u00d7", "\u00bd\u00d7", "even", "2\u00d7", "4\u00d7"][i]);
  });
  const x = bar + 40;
  legend.append("rect").attr("x", x).attr("y", 2).attr("width", 11).attr("height", 11).attr("rx", 2).attr("fill", color("dead"));
  legend.append("text").attr("x", x + 17).attr("y", 12).text("no tokens");
  return 34;
}
