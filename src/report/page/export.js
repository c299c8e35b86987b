"use strict";

// A picture as a file of its own: SVG, or PNG at twice its size. Pictures carry their colours and
// fonts as attributes, so nothing but the title and the background is added.

const titleHeight = 30;

function standaloneSvg(svg, title) {
  const width = Number(svg.getAttribute("width")), height = Number(svg.getAttribute("height"));
  const copy = svg.cloneNode(true);
  copy.querySelectorAll(".cursor").forEach((node) => node.remove());
  for (const name of ["tabindex", "role", "aria-label", "aria-roledescription", "class", "style"]) {
    copy.removeAttribute(name);
  }
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  copy.setAttribute("width", width);
  copy.setAttribute("height", height + titleHeight);
  copy.setAttribute("viewBox", `0 ${-titleHeight} ${width} ${height + titleHeight}`);
  const heading = d3.create("svg:g").attr("font-family", pictureFont);
  heading.append("rect").attr("y", -titleHeight).attr("width", width)
    .attr("height", height + titleHeight).attr("fill", color("card"));
  heading.append("text").attr("x", 8).attr("y", -10).attr("font-size", 14).attr("font-weight", 600)
    .attr("fill", color("ink")).text(title);
  copy.insertBefore(heading.node(), copy.firstChild);
  return { text: new XMLSerializer().serializeToString(copy), width, height: height + titleHeight };
}

function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

function pngOf({ text, width, height }) {
  return new Promise((resolve, reject) => {
    const image = new Image();
    image.onload = () => {
      const canvas = document.createElement("canvas");
      canvas.width = 2 * width;
      canvas.height = 2 * height;
      canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
      canvas.toBlob(resolve, "image/png");
    };
    image.onerror = reject;
    image.src = "data:image/svg+xml;charset=utf-8," + encodeURIComponent(text);
  });
}

async function exportPicture(svg, id, title, kind) {
  const picture = standaloneSvg(svg, title);
  const blob = kind === "png" ? await pngOf(picture) : new Blob([picture.text], { type: "image/svg+xml" });
  save(blob, `${id}.${kind}`);
}
