"use strict";

// Numbers and foreign text as people read them.

const unknown = "\u2013";

function isNumber(value) {
  return typeof value === "number" && Number.isFinite(value);
}

/** 9,570; 3.215; 5e-5: four digits that count. */
function formatNumber(value) {
  if (!isNumber(value)) return unknown;
  const size = Math.abs(value);
  if (size >= 1000 || Number.isInteger(value)) return d3.format(",.0f")(value);
  if (size < 1e-4 && size > 0) return Number(value.toPrecision(3)).toExponential();
  return String(Number(value.toPrecision(4)));
}

/** 74.2 M */
function formatCount(value) {
  if (!isNumber(value)) return unknown;
  if (Math.abs(value) < 10000) return formatNumber(value);
  return d3.format(".3s")(value).replace(/([kMGTPE])$/, (unit) => " " + (unit === "G" ? "B" : unit));
}

function formatBytes(value) {
  if (!isNumber(value)) return unknown;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; Math.abs(value) >= 1024 && unit < units.length - 1; ++unit) value /= 1024;
  return `${Number(value.toPrecision(3))} ${units[unit]}`;
}

function formatMilliseconds(value) {
  if (!isNumber(value)) return unknown;
  return value >= 10000 ? `${formatNumber(value / 1000)} s` : `${formatNumber(value)} ms`;
}

function formatDuration(seconds) {
  if (!isNumber(seconds)) return unknown;
  const s = Math.round(seconds);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 172800) return `${Math.floor(s / 3600)} h ${Math.floor(s / 60) % 60} min`;
  return `${(s / 86400).toFixed(1)} days`;
}

/** 0.031 -> 3.1 % */
function formatShare(value) {
  return isNumber(value) ? `${Number((100 * value).toPrecision(3))} %` : unknown;
}

/** 1.83 x the mean */
function formatTimes(value) {
  return isNumber(value) ? `${value.toFixed(2)} \u00d7` : unknown;
}

const signs = { " ": "\u2423", "\n": "\u21b5", "\t": "\u21e5", "\r": "\u240d" };

/** A token with its white space made visible; what cannot be seen is told by its number. */
function visibleText(text) {
  if (text === "") return "(empty)";
  return Array.from(text, (c) => {
    if (signs[c]) return signs[c];
    return /[\p{C}\p{Z}]/u.test(c) ? `U+${c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}` : c;
  }).join("");
}
