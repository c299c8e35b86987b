"""`switchyard plan --cost-model`: times by hand, projections, files that are refused, and the script that fits one."""

import json
import sys

import pytest
from conftest import SOURCE, TINY, sets, switchyard

SHIPPED = SOURCE / "configs/bench/costs/epyc-2core.yaml"
W1 = SOURCE / "configs/bench/w1.yaml"
COSTS = """machine: a made-up one
fitted: by hand
cores: 2
ranks_per_host: 2
fp32: {peak_gflops: 100, products_gflops: 50, scores_giga_per_second: 0.5, activations_gbytes_per_second: null,
       weights_gbytes_per_second: 4, layer_us: 100}
bf16: {peak_gflops: 200, products_gflops: 100, scores_giga_per_second: 0.5, activations_gbytes_per_second: 8,
       weights_gbytes_per_second: 4, layer_us: 100}
optimizer_gbytes_per_second: 8
host: {latency_us: 10, exchange_gbytes_per_second: 4, reduction_gbytes_per_second: 2}
network: {latency_us: 5, gbytes_per_second: 10}
"""


@pytest.fixture
def costs(tmp_path):
    path = tmp_path / "costs.yaml"
    path.write_text(COSTS)
    return path


def plan(config, costs, *flags, ranks=1, **settings):
    done = switchyard("plan", config, "--json", "--ranks", ranks, "--cost-model", costs, *flags, *sets(settings))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def tiny(costs, *flags, ranks=2, **settings):
    return plan(TINY, costs, *flags, ranks=ranks,
                **{"model__vocab_size": 320, "parallel__expert": 2, "train__threads": 1, **settings})


def test_a_step_by_hand(costs):
    told = tiny(costs, "--imbalance", 1.5)
    time, parts = told["time"], told["time"]["parts_s"]
    # A micro-batch of 4 x 32 tokens. Attention of three layers, one dense feed-forward, two routers, the head.
    dense, expert = 3 * 32 * (64 + 32) + 3 * 32 * 64 + 2 * 32 * 4 + 320 * 32, 3 * 32 * 48
    scores = 3 * 4 * 4 * 64 * 64  # one block for each sequence and head
    # Two choices of 128 tokens over the two experts of this rank, filled up; two layers.
    experts = 2 * 2 * expert * 2 * (2 * (128 + 7.5) + 128 + 15.5)
    products = 6 * 128 * dense + 7 * 2 * 8 * scores + experts
    assert parts["products"] == pytest.approx(products / 50e9)
    assert parts["scores"] == pytest.approx(scores / 0.5e9)
    assert parts["activations"] == 0, "null is free"
    assert parts["weights"] == pytest.approx((dense + 2 * 2 * expert) * (2 * 4 + 8) / 4e9)
    total = told["parameters_total"]
    held = total - 2 * 2 * expert
    assert parts["optimizer"] == pytest.approx((4 * held + 32 * total / 2) / 8e9)
    assert parts["layers"] == pytest.approx(3 * 100e-6)
    volumes = told["bytes_per_step"]["balanced"]
    assert parts["exchange"] == pytest.approx(2 * (1 + 4 * 2) * 10e-6 + volumes["exchange"] / 4e9)
    # The dense buffer reduced and gathered, one message each; each expert's is one rank's own; three small sums.
    assert parts["reduction"] == pytest.approx((2 + 6) * 10e-6 + (volumes["reduction"] + volumes["gather"]) / 2e9)
    assert parts["wait"] == pytest.approx(0.5 * experts / 50e9)
    assert time["step_s"] == pytest.approx(sum(parts.values()))
    assert time["tokens_per_second"] == pytest.approx(8 * 32 / time["step_s"])
    assert time["mfu"] == pytest.approx(told["flops_per_token"] * time["tokens_per_second"] / 200e9)
    assert not time["projected"] and time["threads"] == 1


def test_threads_share_the_host(costs):
    """train.threads is auto: one rank has both cores."""
    one = tiny(costs, ranks=1, parallel__expert=1)["time"]
    both = tiny(costs, ranks=1, parallel__expert=1, train__threads="auto")["time"]
    assert (one["threads"], both["threads"]) == (1, 2)
    assert both["parts_s"]["products"] == pytest.approx(one["parts_s"]["products"] / 2)


def test_1024_ranks_are_projected(costs):
    settings = {"parallel__expert": 4, "train__global_batch_size": 4096}
    told = tiny(costs, ranks=1024, **settings)
    time = told["time"]
    assert time["projected"]
    # Three of four of 256 rows leave; one of the three goes to the host's other rank.
    exchange = 4 * 2 * (256 * 3 // 4) * 32 * 4
    assert told["bytes_per_step"]["balanced"]["exchange"] == time["work"]["exchange_bytes"] == exchange
    assert time["parts_s"]["exchange"] == pytest.approx(
        2 * (1 + 4 * 1) * 3 * (10e-6 + 2 * 5e-6) / 3 + exchange * (1 / 4e9 + 2 / 10e9) / 3)
    assert time["parts_s"]["reduction"] == pytest.approx(
        time["work"]["reduction_messages"] * 5e-6 + time["work"]["reduction_bytes"] / 10e9)
    # Memory is that of hosts of two ranks, not of one host with all of them.
    assert told["device"]["bytes"] == tiny(costs)["device"]["bytes"]
    done = switchyard("plan", TINY, "--ranks", 1024, "--cost-model", costs,
                      *sets({"model__vocab_size": 320, **settings}))
    assert "projected, not measured: 512 hosts of 2 ranks" in done.stdout and "tokens/s, MFU" in done.stdout


def test_more_ranks_compute_less_and_send_more(costs):
    last = None
    for ranks in (2, 4, 8, 16):
        parts = tiny(costs, ranks=ranks, train__global_batch_size=64)["time"]["parts_s"]
        sent = ranks * (parts["exchange"] + parts["reduction"])
        computed = sum(parts.values()) - parts["exchange"] - parts["reduction"]
        if last:
            assert computed < last[0] and sent > last[1]
        last = computed, sent


def test_without_a_cost_model_nothing_is_told():
    done = switchyard("plan", TINY, "--ranks", 1, "--set", "model.vocab_size=320", "--json")
    assert "time" not in json.loads(done.stdout)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_shipped_file(precision):
    told = plan(W1, SHIPPED, ranks=2, train__precision=precision)["time"]
    assert 0.1 < told["mfu"] < 1 and all(part >= 0 for part in told["parts_s"].values())
    few, many = (plan(W1, SHIPPED, moe__num_experts=experts, parallel__expert=1, train__precision=precision)["time"]
                 for experts in (8, 128))
    assert many["step_s"] > few["step_s"]


@pytest.mark.parametrize("change, code, told", [
    (("cores: 2", "cores: two"), 2, "costs.yaml:3: `cores` must be an integer of at least 1, got `two`"),
    (("products_gflops: 50", "product_gflops: 50"), 2, "did you mean `fp32.products_gflops`?"),
    (("layer_us: 100", "layer_us: -1"), 2, "costs.yaml:6: `fp32.layer_us` must be microseconds, at least 0"),
    (("optimizer_gbytes_per_second: 8\n", ""), 2, "`optimizer_gbytes_per_second` is missing"),
    (("machine: a", "machine: {a"), 2, "not valid YAML"),
    (("network: {latency_us: 5, gbytes_per_second: 10}\n", ""), 2, "`network` is missing: 4 ranks are more than the 2"),
    (None, 3, "cannot open"),
])
def test_files_that_are_refused(costs, change, code, told):
    if change:
        assert change[0] in COSTS
        costs.write_text(COSTS.replace(*change, 1))
    else:
        costs.unlink()
    done = switchyard("plan", TINY, "--ranks", 4, "--cost-model", costs,
                      *sets({"model__vocab_size": 320, "train__global_batch_size": 16}))
    assert done.returncode == code and told in done.stderr and done.stdout == "", done.stderr


def test_flags_that_are_refused(costs):
    for flags, told in (["--imbalance", 2], "--cost-model"), (["--cost-model", costs, "--imbalance", 0.5], "imbalance"):
        done = switchyard("plan", TINY, "--ranks", 1, *flags, *sets({"model__vocab_size": 320}))
        assert done.returncode == 2 and told in done.stderr, done.stderr


@pytest.fixture(scope="module")
def scale():
    sys.path.insert(0, str(SOURCE / "scripts/bench"))
    import scale
    return scale


@pytest.fixture(scope="module")
def rows_by_the_program(scale, tmp_path_factory):
    """Runs that take exactly what COSTS says."""
    costs = tmp_path_factory.mktemp("costs") / "costs.yaml"
    costs.write_text(COSTS)
    rows = []
    for what in scale.GRID:
        if what["quick"] and what["group"] != scale.CHECK:
            for precision in "fp32", "bf16":
                row = {**what, "precision": precision, "max_rank_load": 1.25}
                time = scale.plan(row, costs)
                rows.append({**row, "work": time["work"], "step_s": time["step_s"]})
    return rows


def test_the_fit_finds_the_times_that_the_program_tells(scale, rows_by_the_program):
    """The script counts as the program does, so steps that take what a cost model says are fitted to the last digit."""
    seconds = scale.fit(rows_by_the_program, {"fp32": 1e6, "bf16": 1e6})
    for row in rows_by_the_program:
        found = sum(seconds[name] * value for name, value in scale.units(row, row["work"]).items())
        assert found == pytest.approx(row["step_s"], rel=1e-6), row["name"]


def test_no_product_is_fitted_faster_than_the_peak(scale, rows_by_the_program):
    for precision in "fp32", "bf16":
        seconds = scale.fit(rows_by_the_program, {"fp32": 1e6, "bf16": 1e6, precision: 1.0})
        assert seconds[f"{precision}.flop"] == pytest.approx(1e-9)


def test_what_the_script_measures_and_writes(scale, tmp_path, monkeypatch, capsys):
    small = {"model__hidden_size": 32, "model__num_attention_heads": 4, "moe__expert_intermediate_size": 48,
             "data__sequence_length": 32}
    monkeypatch.setattr(scale, "PEAK_SIZE", 64)
    monkeypatch.setattr(scale, "GRID", [scale.case("sizes", "small", **small), scale.case(
        scale.CHECK, "two layers", **small, model__num_hidden_layers=2)])
    rows, written = tmp_path / "rows.json", tmp_path / "here.yaml"

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["scale.py", *map(str, words)])
        scale.main()
        return capsys.readouterr().out

    printed = run("--rounds", 3, "--limit", 0, "--out", rows, "--write", written)
    assert [json.loads(line)["group"] for line in rows.read_text().splitlines()] == [
        "peak", "sizes", "sizes", scale.CHECK, scale.CHECK]
    assert printed.count("| two layers | 1 x 1 |") == 2 and written.read_text() in printed
    told = plan(W1, written, parallel__expert=1)["time"]
    assert told["step_s"] > 0 and "2 runs" in told["fitted"] and "not in the fit: 2 runs" in told["fitted"]
    again = tmp_path / "again.yaml"
    run("--from", rows, "--write", again)
    assert again.read_text().replace(str(again), "") == written.read_text().replace(str(written), "")
