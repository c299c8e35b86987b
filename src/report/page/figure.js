"use strict";

// The frame of a picture: title, export buttons, values on hover, by finger and by keyboard, and
// the same for those who hear the page. What is inside is drawn by `draw(svg, width)`, which
// returns either a sentence, when there is nothing to draw, or how to read the picture:
//
//   height           of the picture, in pixels
//   summary          a sentence that says what is seen
//   stops            how many places there are to read
//   nearest(x, y)    the place under a pointer
//   move(i, key)     the place to which an arrow key leads
//   mark(layer, i)   draws the place; returns its {x, y}
//   read(i)          {title, rows: [{name, value, color}]}
//   marks            how many points or cells were drawn

const pictureFont = 'system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif';
const figures = [];

class Figure {
  constructor(parent, { id, title, help, wide, draw }) {
    this.id = id;
    this.title = title;
    this.draw = draw;
    this.place = null;
    const card = d3.select(parent).append("figure").attr("class", wide ? "card wide" : "card").attr("id", id);
    const head = card.append("div").attr("class", "card-head");
    head.append("h3").text(title);
    this.exports = head.append("div").attr("class", "exports");
    for (const kind of ["svg", "png"]) {
      this.exports.append("button").attr("type", "button").attr("class", kind)
        .attr("aria-label", `Save "${title}" as ${kind.toUpperCase()}`).text(kind.toUpperCase())
        .on("click", () => exportPicture(this.svg.node(), id, title, kind));
    }
    if (help) card.append("figcaption").attr("class", "help").text(help);
    this.card = card;
    this.empty = card.append("p").attr("class", "empty");
    this.plot = card.append("div").attr("class", "plot");
    this.svg = this.plot.append("svg").attr("tabindex", 0).attr("role", "application")
      .attr("aria-roledescription", "chart");
    this.tip = this.plot.append("div").attr("class", "tip").attr("hidden", true);
    this.spoken = card.append("output").attr("class", "hidden").attr("aria-live", "polite");
    this.listen();
    figures.push(this);
  }

  listen() {
    const svg = this.svg.node();
    const follow = (event) => {
      if (!this.reading) return;
      const [x, y] = d3.clientPoint(svg, event);
      this.show(this.reading.nearest(x, y), false);
    };
    svg.addEventListener("pointermove", follow);
    svg.addEventListener("pointerdown", follow);
    svg.addEventListener("pointerleave", () => { if (document.activeElement !== svg) this.hide(); });
    svg.addEventListener("blur", () => this.hide());
    svg.addEventListener("keydown", (event) => {
      if (!this.reading || this.reading.stops === 0) return;
      if (event.key === "Escape") return this.hide();
      const last = this.reading.stops - 1;
      if (this.place === null && event.key.startsWith("Arrow")) {
        this.show(last, true);
      } else if (event.key === "Home" || event.key === "End") {
        this.show(event.key === "Home" ? 0 : last, true);
      } else if (event.key.startsWith("Arrow")) {
        this.show(this.reading.move(this.place, event.key), true);
      } else {
        return;
      }
      event.preventDefault();
    });
  }

  redraw() {
    this.plot.attr("hidden", null);
    this.svg.selectAll("*").remove();
    const width = Math.floor(this.plot.node().clientWidth);
    this.svg.attr("font-family", pictureFont).attr("font-size", 11.5);
    const result = this.draw(this.svg, width);
    const empty = typeof result === "string";
    this.reading = empty ? null : result;
    this.card.attr("data-state", empty ? "empty" : "drawn").attr("data-marks", empty ? 0 : result.marks);
    this.empty.attr("hidden", empty ? null : true).text(empty ? result : "");
    this.plot.attr("hidden", empty ? true : null);
    this.exports.attr("hidden", empty ? true : null);
    if (empty) return this.hide();
    this.svg.attr("width", width).attr("height", result.height)
      .attr("viewBox", `0 0 ${width} ${result.height}`)
      .attr("aria-label", `${this.title}. ${result.summary} Arrow keys read the values.`);
    this.cursor = this.svg.append("g").attr("class", "cursor").attr("pointer-events", "none");
    if (this.place !== null) this.show(Math.min(this.place, result.stops - 1), false);
  }

  show(place, aloud) {
    if (!this.reading || this.reading.stops === 0 || place === null) return;
    this.place = place;
    this.cursor.selectAll("*").remove();
    const at = this.reading.mark(this.cursor, place);
    const { title, rows } = this.reading.read(place);
    this.tip.attr("hidden", null).selectAll("*").remove();
    this.tip.append("b").text(title);
    for (const row of rows) {
      const line = this.tip.append("div");
      if (row.color) line.append("span").attr("class", "swatch").style("background", row.color);
      line.append("span").text(row.name);
      line.append("span").text(row.value);
    }
    const width = this.plot.node().clientWidth, tip = this.tip.node();
    const left = at.x + 14 + tip.offsetWidth > width ? at.x - 14 - tip.offsetWidth : at.x + 14;
    this.tip.style("left", `${Math.max(0, Math.min(left, width - tip.offsetWidth))}px`)
      .style("top", `${Math.max(0, at.y - tip.offsetHeight - 10)}px`);
    if (aloud) this.spoken.text([title, ...rows.map((r) => `${r.name} ${r.value}`)].join("; "));
  }

  hide() {
    this.place = null;
    this.tip.attr("hidden", true);
    if (this.cursor) this.cursor.selectAll("*").remove();
  }
}

/** Draws all pictures anew: other data, another theme, another width. */
function redrawFigures() {
  for (const figure of figures) figure.redraw();
}

/** The place that an arrow key leads to, in a row of `count`. */
function moveAlong(i, key, count) {
  const by = key === "ArrowLeft" || key === "ArrowDown" ? -1 : 1;
  return Math.max(0, Math.min(count - 1, i + by));
}

/** A row of names with their marks; returns the height that it takes. */
function drawLegend(svg, items, width, left = 0) {
  let x = left, y = 9;
  for (const { name, color: fill, dash, dot, spike, box } of items) {
    const item = svg.append("g");
    if (dot) {
      item.append("circle").attr("cx", 7).attr("r", 3.5).attr("fill", "none")
        .attr("stroke", fill).attr("stroke-width", 1.8);
    } else if (spike) {
      item.append("path").attr("d", "M7,4l-4,-8h8z").attr("fill", fill);
    } else if (box) {
      item.append("rect").attr("x", 3).attr("y", -5).attr("width", 11).attr("height", 11).attr("rx", 2).attr("fill", fill);
    } else {
      item.append("line").attr("x2", 14).attr("stroke", fill).attr("stroke-width", 2.5)
        .attr("stroke-dasharray", dash || null);
    }
    const text = item.append("text").attr("x", 19).attr("dy", "0.35em").attr("fill", color("soft")).text(name);
    const length = 19 + text.node().getComputedTextLength() + 16;
    if (x > left && x + length > width) {
      x = left;
      y += 17;
    }
    item.attr("transform", `translate(${x},${y})`);
    x += length;
  }
  return items.length ? y + 13 : 4;
}

/** Axis lines and labels with the page's colours as attributes. */
function styleAxis(axis) {
  axis.attr("font-family", null).attr("font-size", null);
  axis.selectAll(".domain").remove();
  axis.selectAll(".tick line").attr("stroke", color("grid"));
  axis.selectAll(".tick text").attr("fill", color("soft"));
  return axis;
}
