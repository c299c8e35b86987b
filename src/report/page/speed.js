"use strict";

// Where the time and the memory go.

function phaseRows() {
  return model.runs.flatMap((run) => {
    const mean = run.means, own = ["data", "forward", "backward", "optimizer", "checkpoint"];
    if (!isNumber(mean.step_ms)) return [];
    const parts = own.map((name, i) => ({ name, value: mean[`${name}_ms`] || 0, color: runColor(i) }));
    const rest = mean.step_ms - d3.sum(parts, (part) => part.value);
    parts.push({ name: "other", value: Math.max(0, rest), color: color("run-8") });
    const who = model.runs.length > 1 ? `${run.label}: ` : "";
    return [
      { name: `${who}step`, total: formatMilliseconds(mean.step_ms), parts },
      { name: `${who}of it in collectives`, total: formatMilliseconds(mean.comm_ms),
        parts: [{ name: "collectives", value: mean.comm_ms, color: runColor(6) }] },
    ];
  });
}

function memoryRows() {
  const kinds = ["parameters", "gradients", "optimizer", "activations", "exchange", "checkpoint", "allocator", "program"];
  return model.runs.flatMap((run) => {
    const who = model.runs.length > 1 ? `${run.label}: ` : "", rows = [];
    const planned = run.facts && run.facts.planned_bytes_per_rank;
    if (planned) {
      const parts = kinds.map((name, i) => ({ name, value: planned[name] || 0, color: runColor(i) }));
      const rest = (planned.total || 0) - d3.sum(parts, (part) => part.value);
      if (rest > 0) parts.push({ name: "other", value: rest, color: color("run-8") });
      const missing = ["activations", "program"].filter((name) => !isNumber(planned[name]));
      const without = missing.length > 0 ? `, without ${missing.join(" and ")}` : "";
      rows.push({ name: `${who}planned${without}`, total: formatBytes(planned.total || d3.sum(parts, (p) => p.value)), parts });
    }
    const peak = d3.max(curve(run, "peak_rss_bytes"), (p) => p.highest);
    if (peak) {
      rows.push({ name: `${who}measured peak`, total: formatBytes(peak),
        parts: [{ name: "resident memory", value: peak, color: runColor(6) }] });
    }
    return rows;
  });
}

function slowestSeries() {
  return model.runs.flatMap((run, r) => {
    const who = model.runs.length > 1 ? `${run.label}: ` : "";
    const tell = (p) => (isNumber(run.slowest.rank[p.index]) ? `, rank ${run.slowest.rank[p.index]}` : "");
    return [
      { name: `${who}slowest rank`, color: runColor(model.runs.length > 1 ? r : 1), points: curve(run, "slowest_rank_ms"), tell },
      { name: `${who}typical rank`, color: runColor(model.runs.length > 1 ? r : 0), dash: "5 3", points: curve(run, "typical_rank_ms") },
    ];
  });
}

function slowestHelp() {
  const told = model.runs.filter((run) => run.slowest.most_often.length > 0).map((run) => {
    const most = run.slowest.most_often[0];
    return `${model.runs.length > 1 ? `${run.label}: ` : ""}rank ${most.rank} in ${formatShare(most.records / run.records)} of the records`;
  });
  return "Work of a step outside collectives." + (told.length ? ` Slowest most often: ${told.join("; ")}.` : "");
}

function addSpeed() {
  const { grid } = section("speed", "Time and memory");
  addFigure(grid, {
    id: "tokens-per-second", title: "Tokens per second", help: "The whole world's, waiting for data included.",
    draw: (svg, width) => curves(svg, width, runSeries({ tokens_per_second: "tokens/s" }), { zero: true, format: formatCount },
      "The records have no rate."),
  });
  addFigure(grid, {
    id: "step-time", title: "Step time", help: "Wall time of a step, waiting for data included.",
    draw: (svg, width) => curves(svg, width, runSeries({ step_ms: "step" }), { zero: true, mayBeLog: true, format: formatMilliseconds },
      "The records have no step time."),
  });
  addFigure(grid, {
    id: "phases", title: "Where a step's time goes",
    help: "Mean over the run, each phase by its slowest rank. Time in collectives lies inside the phases.",
    draw(svg, width) {
      const rows = phaseRows();
      if (rows.length === 0) return "No step is recorded yet.";
      const told = rows[0].parts.map((p) => `${p.name} ${formatMilliseconds(p.value)}`).join(", ");
      return drawBars(svg, width, rows, { format: formatMilliseconds, summary: `${told}.` });
    },
  });
  addFigure(grid, {
    id: "memory", title: "Memory per rank", help: "Planned before the first step; measured on the largest rank.",
    draw(svg, width) {
      const rows = memoryRows();
      if (rows.length === 0) return "No memory is recorded yet.";
      return drawBars(svg, width, rows, { format: formatBytes, bytes: true, summary: `${rows.map((r) => `${r.name} ${r.total}`).join(", ")}.` });
    },
  });
  const slowest = addFigure(grid, {
    id: "slowest-rank", title: "Slowest rank", help: " ",
    draw: (svg, width) => curves(svg, width, slowestSeries(), { zero: true, format: formatMilliseconds },
      "Written before the ranks' times were, or by one rank."),
  });
  updates.push(() => slowest.card.select(".help").text(slowestHelp()));
  addFigure(grid, {
    id: "exchange-volume", title: "Bytes exchanged per step", help: "Rows that left their rank in the all-to-alls, both ways, all ranks.",
    draw: (svg, width) => curves(svg, width, runSeries({ exchange_bytes: "exchanged" }), { zero: true, bytes: true, format: formatBytes },
      "Written before the volume was recorded, or nothing is exchanged."),
  });
}
