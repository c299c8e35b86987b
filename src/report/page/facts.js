"use strict";

// What the runs are, and their configs.

function addFacts() {
  const part = d3.select(main).append("section").attr("id", "facts");
  part.append("h2").text("The run").attr("class", "facts-title");
  const card = part.append("div").attr("class", "card").append("div").attr("class", "scroll");
  const table = card.append("table");
  const notes = part.append("ul").attr("class", "notes");
  updates.push(() => {
    part.select("h2").text(model.runs.length > 1 ? "The runs" : "The run");
    fillTable(table, model.runs.length > 1 ? ["", ...model.runs.map((run) => run.label)] : [], factRows(model.runs));
    if (model.runs.length > 1) {
      table.selectAll("thead th").filter((_, i) => i > 0).insert("span", () => null).lower()
        .attr("class", "swatch").style("margin-right", ".4rem").style("background", (_, i) => runColor(i));
    }
    const lines = model.runs.flatMap((run) => [
      ...run.notes.map((note) => `${run.label}: ${note}`),
      ...(isReduced(run) ? [`${run.label}: ${formatNumber(run.records)} records; each point of a curve stands for ` +
        `${run.curves.records_per_point} of them: their mean, and as a band their lowest and highest`] : []),
    ]);
    notes.style("display", lines.length ? null : "none").selectAll("li").remove();
    notes.selectAll("li").data(lines).enter().append("li").text((d) => d);
  });
}

function addSettings() {
  const { part, grid } = section("settings", "Config");
  grid.remove();
  const differences = part.append("div").attr("class", "card settings").attr("id", "differences").style("margin-top", ".8rem");
  const whole = part.append("div");
  updates.push(() => {
    differences.style("display", model.runs.length > 1 ? null : "none").selectAll("*").remove();
    if (model.runs.length > 1) {
      const rows = differingSettings(model.runs);
      differences.append("h3").text("What differs");
      if (rows.length === 0) differences.append("p").attr("class", "empty").text("Nothing: the configs are equal.");
      else fillTable(differences.append("div").attr("class", "scroll").append("table"), ["", ...model.runs.map((run) => run.label)], rows);
    }
    const open = whole.selectAll("details").nodes().map((node) => node.open);
    whole.selectAll("*").remove();
    model.runs.forEach((run, i) => {
      const details = whole.append("details").property("open", open[i] || false);
      details.append("summary").text(model.runs.length > 1 ? `All of ${run.label}` : "All settings");
      if (!run.settings) details.append("p").attr("class", "empty").text("The folder has no config.yaml.");
      else fillTable(details.append("div").attr("class", "card settings").append("table"), [], run.settings);
    });
  });
}
