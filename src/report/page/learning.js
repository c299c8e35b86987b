"use strict";

// Loss, learning rate, norms: whether the model learns.

function bitsPerByteSeries() {
  const train = runSeries({ loss: "train" }, (points, run) => {
    const factor = bitsPerNat(run);
    return factor ? scaled(points, factor) : [];
  });
  return [...train, ...evaluationSeries("bits_per_byte")];
}

function addLearning() {
  const { grid } = section("learning", "Learning");
  addFigure(grid, {
    id: "loss", title: "Loss", help: "Cross-entropy, nats per token.",
    draw: (svg, width) => curves(svg, width, [...runSeries({ loss: "train" }), ...evaluationSeries("loss")], { mayBeLog: true },
      "The records have no loss.", { spikes: spikesOf("loss") }),
  });
  addFigure(grid, {
    id: "bits-per-byte", title: "Bits per byte", help: "Compares runs of any tokenizer. Train: by the evaluation's bytes per token.",
    draw: (svg, width) => (hasPoints(evaluationSeries("bits_per_byte"))
      ? curves(svg, width, bitsPerByteSeries(), { mayBeLog: true }, "")
      : model.runs.every((run) => run.evaluations.length === 0) ? "No evaluation yet."
        : "The data do not say how many bytes their tokens stand for."),
  });
  addFigure(grid, {
    id: "learning-rate", title: "Learning rate", help: "Of the schedule, before optim.lr_scale.",
    draw: (svg, width) => curves(svg, width, runSeries({ lr: "learning rate" }), { zero: true }, "The records have no learning rate."),
  });
  addFigure(grid, {
    id: "grad-norm", title: "Gradient norm", help: "Before clipping.",
    draw: (svg, width) => curves(svg, width,
      runSeries({ grad_norm: "all", grad_norm_dense: "dense", grad_norm_expert: "experts" }), { zero: true, mayBeLog: true },
      "The records have no gradient norm.", { spikes: spikesOf("grad_norm") }),
  });
  addFigure(grid, {
    id: "aux-loss", title: "Balance loss", help: "Unscaled, mean over layers; 1 is an even load for the Switch loss.",
    draw: (svg, width) => curves(svg, width, runSeries({ aux_loss: "balance loss" }), {}, "No balance loss."),
  });
  addFigure(grid, {
    id: "z-loss", title: "Router z-loss", help: "Unscaled: how large the router's logits are.",
    draw: (svg, width) => curves(svg, width, runSeries({ z_loss: "z-loss" }), {}, "No router z-loss."),
  });
}
