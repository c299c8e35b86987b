"""`switchyard bench`: what it prints is consistent with itself, with the workloads it claims, and with the peers' count."""

import json
import re
import sys

import pytest
import yaml
from conftest import SOURCE, sets, switchyard

PEERS = SOURCE / "scripts/bench/peers"
CONFIGS = SOURCE / "configs/bench"
SMALL = {"model__hidden_size": 32, "model__num_attention_heads": 4, "data__sequence_length": 32,
         "moe__expert_intermediate_size": 48}
QUICK = ["--rounds", 3, "--warmup", 1, "--limit", 0, "--gemm-size", 128, "--threads", 1]
LAYERS, EXPERTS, TOP_K, TOKENS = 4, 8, 2, 8 * 32  # of W1, made small


def bench(*words, ranks=1):
    done = switchyard("bench", *words, "--json", ranks=ranks)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1, "one object on one line"
    return json.loads(done.stdout)


def step(*words, ranks=1, **settings):
    return bench("step", "--config", CONFIGS / "w1.yaml", *QUICK,
                 *sets({**SMALL, "parallel__expert": ranks, **settings}), *words, ranks=ranks)


@pytest.fixture(scope="module")
def two_ranks():
    return step(ranks=2)


def in_order(row, name):
    return row[name + "_min"] <= row[name] <= row[name + "_max"]


def test_step_numbers_agree(two_ranks):
    row = two_ranks
    assert row["ranks"] == 2 and row["threads"] == 1 and row["tokens"] == TOKENS and row["steps"] >= 3
    assert row["tok_s"] == pytest.approx(row["tokens"] / row["step_s"])
    assert in_order(row, "tok_s") and len(row["load_average"]) == 3
    # 6 for each active weight in a product, and causal attention.
    active = LAYERS * (4 * 32 * 32 + 32 * EXPERTS + TOP_K * 3 * 32 * 48) + 32 * 256
    assert row["flops_per_token"] == 6 * active + 6 * LAYERS * 32 * 32
    assert row["gflops"] == pytest.approx(row["tok_s"] * row["flops_per_token"] / 1e9)
    assert row["mfu"] == pytest.approx(row["gflops"] / row["peak_gflops"])
    assert len(row["peak_rss_bytes"]) == 2 and min(row["peak_rss_bytes"]) > 2**20
    assert 0 < row["exchange_share"] < row["comm_share"] < 1
    assert row["loss0"] == pytest.approx(5.545, abs=0.1), "of untrained guesses among 256"


def test_every_part_of_a_step_has_a_share(two_ranks):
    parts = two_ranks["phases"]
    forward = ["data", "embedding", "attention", "feed_forward", "router", "dispatch", "experts", "combine", "head_loss"]
    for part in forward + ["backward of " + p for p in forward if p != "data"] + ["reduction", "optimizer"]:
        assert parts[part] >= 0, part
    assert sum(parts.values()) == pytest.approx(1, abs=1e-3)


def test_bytes_on_the_wire(two_ranks):
    wire = two_ranks["wire_bytes"]
    # The rows that the routing sends, and the counts that announce them: 4 numbers a layer each way.
    counts = LAYERS * 2 * (EXPERTS // 2) * 8
    assert wire["exchange"] == wire["exchange_expected"] + counts
    # Rows of 32 floats, there and back in forward and backward: about half of the choices leave.
    assert wire["exchange_expected"] % (4 * 32 * 4) == 0
    assert wire["exchange_expected"] / (4 * 32 * 4) == pytest.approx(LAYERS * TOKENS * TOP_K / 2, rel=0.3)
    assert wire["reduction"] > 0 and wire["gather"] > 0


def test_one_rank_in_bf16_sends_nothing():
    row = step("--note", "words", train__precision="bf16")
    assert row["precision"] == "bf16" and row["note"] == "words"
    assert row["wire_bytes"] == {"exchange": 0, "exchange_expected": 0, "reduction": 0, "gather": 0}


def test_balanced_router_is_more_even(two_ranks):
    even = step("--balanced", ranks=2)
    assert even["variant"] == "ep2+balanced" and even["dropped"] == 0
    assert 1 <= even["max_load"] < two_ranks["max_load"]
    assert 1 <= even["max_rank_load"] < two_ranks["max_rank_load"] <= two_ranks["max_load"]


def test_the_text_has_the_numbers():
    done = switchyard("bench", "step", "--config", CONFIGS / "w1.yaml", *QUICK, *sets({**SMALL, "parallel__expert": 1}))
    assert done.returncode == 0, done.stderr
    for words in ("tokens/s", "MFU", "peak memory per rank", "bytes on the wire", "backward of experts", "load average"):
        assert words in done.stdout, words


def test_gemm():
    told = bench("gemm", "--config", CONFIGS / "w1.yaml", *QUICK, *sets({**SMALL, "parallel__expert": 1}))
    rows = told["results"]
    ways = {(r["precision"], r["library"]) for r in rows}
    assert ways >= {("fp32", "mkl"), ("fp32", "onednn")}
    assert ways & {("bf16", "onednn"), ("bf16", "mkl_widened")}  # as the processor has it
    for precision in "fp32", "bf16":
        square = [r for r in rows if r["shape"] == "square" and r["precision"] == precision]
        assert [r["m"] for r in square] == [128] * len(square)
        assert told["peak_gflops"][precision] == max(r["gflops"] for r in square)
    assert all(in_order(r, "gflops") for r in rows)
    # A rank's micro-batch of 4 x 32 tokens, two choices each, evenly over 8 experts.
    gate_up = next(r for r in rows if r["shape"] == "W1 gate_up forward")
    assert (gate_up["m"], gate_up["k"], gate_up["n"]) == (32, 32, 2 * 48)


def test_all_to_all():
    rows = bench("all-to-all", *QUICK, "--max-bytes", 4096, ranks=2)["results"]
    assert [r["bytes"] for r in rows] == [1024, 4096]
    for row in rows:
        assert row["ratio"] == pytest.approx(row["raw_s"] / row["ours_s"])
        assert row["gb_per_s"] == pytest.approx(row["bytes"] / row["ours_s"] / 1e9)
        assert in_order(row, "ours_s") and in_order(row, "raw_s")


def test_moe_layer():
    told = bench("moe-layer", "--config", CONFIGS / "w1.yaml", *QUICK, *sets({**SMALL, "parallel__expert": 1}))
    assert [r["precision"] for r in told["results"]] == ["fp32", "bf16"]
    tokens = 4 * 32
    for row in told["results"]:
        assert (row["experts"], row["tokens"], row["rows_per_expert"]) == (EXPERTS, tokens, 32)
        assert row["ratio"] == pytest.approx(row["moe_s"] / row["dense_s"])
        assert row["dense_flops"] == 6 * tokens * TOP_K * 3 * 32 * 48
        assert row["moe_flops"] == row["dense_flops"] + 6 * tokens * 32 * EXPERTS
    for entry in told["padding"]:
        ways = {w["name"]: w for w in entry["ways"]}
        assert set(ways) >= {"dropless", "padded", "capacity_1.0", "capacity_1.25", "capacity_2.0"}
        pairs = tokens * TOP_K
        assert ways["dropless"]["dropped"] == ways["padded"]["dropped"] == 0 and ways["dropless"]["rows"] >= pairs
        assert ways["padded"]["rows"] == pytest.approx(entry["max_load"] * pairs)
        assert ways["capacity_1.25"]["rows"] == pytest.approx(1.25 * pairs)
        assert ways["capacity_1.0"]["dropped"] >= ways["capacity_1.25"]["dropped"] >= ways["capacity_2.0"]["dropped"]


def test_moe_layer_tells_a_line_for_each_layer():
    done = switchyard("bench", "moe-layer", "--config", CONFIGS / "w1.yaml", *QUICK, *sets({**SMALL, "parallel__expert": 1}))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("moe-layer on 1 rank(s)") and lines[1].startswith("dtype  experts")
    assert [line.split()[:3] for line in lines[2:4]] == [["fp32", str(EXPERTS), "128"], ["bf16", str(EXPERTS), "128"]]
    assert [line.split()[0] for line in lines[4:]].count("dropless") == 2


@pytest.fixture(scope="module")
def peers():
    """The peers' workloads.py and summary.py."""
    sys.path.insert(0, str(PEERS))
    import summary
    import workloads
    return workloads, summary


@pytest.mark.parametrize("name", ["W1", "W2", "W3"])
def test_configs_are_the_workloads(name, peers):
    workloads, _ = peers
    w, path = workloads.WORKLOADS[name], CONFIGS / f"{name.lower()}.yaml"
    done = switchyard("plan", path, "--ranks", 2, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["flops_per_token"] == w.flops_per_token() and told["parameters_total"] == w.total_params()
    done = switchyard("train", path, "--print-config", "--set", "parallel.expert=1")
    assert done.returncode == 0, done.stderr
    config = yaml.safe_load(done.stdout)
    model, moe, optim, train = (config[section] for section in ("model", "moe", "optim", "train"))
    assert (model["hidden_size"], model["num_hidden_layers"], model["num_attention_heads"], model["vocab_size"]) == \
        (w.hidden, w.layers, w.heads, w.vocab)
    assert model["num_key_value_heads"] == w.heads and not model["tie_word_embeddings"]
    assert (moe["num_experts"], moe["top_k"], moe["expert_intermediate_size"]) == (w.experts, w.top_k, w.ffn)
    assert (moe["capacity"]["factor"] or 0) == w.capacity and moe["z_loss"]["coef"] == w.z
    balance = moe["balance"] if isinstance(moe["balance"], dict) else moe["balance"][0]
    assert (balance["coef"], balance["layer_reduce"]) == (w.aux, "sum")
    assert (optim["lr"], tuple(optim["betas"]), optim["eps"], optim["weight_decay"], optim["grad_clip"]) == \
        (workloads.LR, workloads.BETAS, workloads.EPS, workloads.DECAY, workloads.CLIP)
    assert optim["schedule"]["type"] == "constant" and optim["schedule"]["warmup_steps"] == 0
    assert (train["global_batch_size"], config["data"]["sequence_length"]) == (w.batch, w.seq)


def test_summary_reads_our_rows(two_ranks, peers, tmp_path, monkeypatch, capsys):
    """Ours over the best peer, with a balanced router and half of a pair left out of it."""
    peer = {**two_ranks, "peer": "plain-pytorch", "variant": "loop", "tok_s": two_ranks["tok_s"] / 2, "quiet": 5}
    rows = [{**two_ranks, "quiet": 5}, peer, {**two_ranks, "variant": "ep2+balanced", "tok_s": 1e9, "quiet": 5},
            {**two_ranks, "ranks": 1, "note": "alone", "tok_s": two_ranks["tok_s"] / 1.8, "quiet": 5}]
    (tmp_path / "rows").write_text("".join(json.dumps(r) + "\n" for r in rows))
    monkeypatch.setattr(sys, "argv", ["summary.py", str(tmp_path / "rows"), "--fp32", "200", "--bf16", "400"])
    peers[1].main()
    printed = capsys.readouterr().out
    assert "### W1 fp32, 2 processes x 1 thread" in printed
    assert re.search(r"^\| W1 \| fp32 \| 2\.00 \| 2\.00 \| - \| - \| 0\.90 \|$", printed, re.MULTILINE), printed


@pytest.mark.parametrize("words, told", [
    (["abacus"], "is not one of gemm, all-to-all, moe-layer, step"),
    (["step"], "needs --config"),
    (["all-to-all"], "mpirun -n 2"),
    (["gemm", "--rounds", 0], "--rounds"),
    (["gemm", "--balanced"], "--balanced goes with bench step"),
    (["gemm", "--set", "moe.top_k=1"], "--set goes with --config"),
    (["step", "--config", CONFIGS / "w1.yaml"], "needs 2 ranks and this run has one"),
    (["step", "--config", SOURCE / "configs/tiny.yaml"], "give model.vocab_size"),
    ([], "what is required"),
])
def test_wrong_flags(words, told):
    done = switchyard("bench", *words)
    assert done.returncode == 2 and told in done.stderr and done.stdout == "", done.stderr


@pytest.mark.parametrize("words", [["gemm"], ["moe-layer"], ["step", "--config", CONFIGS / "w1.yaml", *sets({"parallel__expert": 1})]],
                         ids=lambda words: words[0])
def test_a_gpu_that_is_not_there_is_not_measured(words):
    done = switchyard("bench", *words, *QUICK, "--device", "cuda")
    assert done.returncode == 2 and "train.device: cuda" in done.stderr, done.stderr
