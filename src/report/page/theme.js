"use strict";

// Light, dark, or what the system says. The colours stand in report.css; pictures take them from
// there when they are drawn, as plain values, so that an exported file looks the same elsewhere.

const themes = ["system", "light", "dark"];
let chosenTheme = rememberedTheme();

function rememberedTheme() {
  try {
    return themes.includes(localStorage.switchyardTheme) ? localStorage.switchyardTheme : "system";
  } catch {
    return "system"; // a page from a file may have no storage
  }
}

function applyTheme() {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const theme = chosenTheme === "system" ? (dark ? "dark" : "light") : chosenTheme;
  document.documentElement.dataset.theme = theme;
}

function nextTheme() {
  chosenTheme = themes[(themes.indexOf(chosenTheme) + 1) % themes.length];
  try {
    localStorage.switchyardTheme = chosenTheme;
  } catch {
    // forgotten when the page closes
  }
  applyTheme();
}

/** The colour of report.css: color("ink"). */
function color(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

/** Of the i-th run; from the ninth on the colours come again, with dashes. */
function runColor(i) {
  return color(`run-${i % 8 + 1}`);
}

function runDash(i) {
  return i < 8 ? null : "6 3";
}

/** From the first to the last layer. */
function depthColor(i, layers) {
  const stops = [1, 2, 3, 4].map(stop => color(`depth-${stop}`));
  return d3.interpolateRgbBasis(stops)(layers > 1 ? i / (layers - 1) : 0.5);
}

applyTheme();
