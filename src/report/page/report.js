"use strict";

// The page as a whole: its order, its controls, and where it lives, its next model.

function refresh() {
  const names = model.runs.map((run) => run.label).join(", ");
  document.title = `${names} \u00b7 Switchyard`;
  document.getElementById("title").textContent = names;
  setStatus(whereItStands());
  for (const update of updates) update();
  redrawFigures();
}

function whereItStands() {
  const run = model.runs[0];
  if (model.runs.length > 1) return `${model.runs.length} runs`;
  if (live && run.records === 0) return "live, waiting for the first record";
  const all = run.facts && isNumber(run.facts.steps) ? ` of ${formatNumber(run.facts.steps)}` : "";
  return `${live ? "live, " : ""}step ${formatNumber(run.last_step)}${all}`;
}

function setStatus(text) {
  const status = document.getElementById("status");
  if (status.textContent !== text) status.textContent = text;
}

const pollSeconds = 3;
let tag = "";

async function poll() {
  try {
    const answer = await fetch("data.json", { cache: "no-store", headers: tag ? { "If-None-Match": tag } : {} });
    if (answer.status === 200) {
      tag = answer.headers.get("ETag");
      model = await answer.json();
      refresh();
    }
    setStatus(whereItStands());
  } catch {
    setStatus("the run has ended, or is out of reach; this is the last that it told");
  }
  setTimeout(poll, 1000 * pollSeconds);
}

function listen() {
  document.getElementById("smoothing").addEventListener("change", (event) => {
    view.smoothing = Number(event.target.value);
    redrawFigures();
  });
  document.getElementById("log-steps").addEventListener("change", (event) => {
    view.logSteps = event.target.checked;
    redrawFigures();
  });
  document.getElementById("log-values").addEventListener("change", (event) => {
    view.logValues = event.target.checked;
    redrawFigures();
  });
  const button = document.getElementById("theme");
  const name = () => { button.textContent = `theme: ${chosenTheme}`; };
  name();
  button.addEventListener("click", () => {
    nextTheme();
    name();
    refresh();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    applyTheme();
    refresh();
  });
  let width = window.innerWidth;
  window.addEventListener("resize", () => {
    if (window.innerWidth === width) return;
    width = window.innerWidth;
    redrawFigures();
  });
}

addFacts();
addLearning();
addRouting();
addDestinations();
addSpeed();
addSettings();
listen();
refresh();
if (live) setTimeout(poll, 1000 * pollSeconds);
