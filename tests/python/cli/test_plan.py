"""`switchyard plan`: what it predicts against what runs measure, and what it proposes."""

import json

import pytest
from conftest import records, sets, switchyard
from runs import SOURCE, TINY

PRESETS = SOURCE / "configs/presets"
DENSE = {"model__hidden_size": 512, "model__intermediate_size": 2048, "model__num_hidden_layers": 3,
         "model__num_attention_heads": 8, "model__num_key_value_heads": 8, "moe__layers": "none",
         "train__global_batch_size": 8, "train__micro_batch_size": 4}
EXPERTS = {**DENSE, "model__hidden_size": 256, "model__intermediate_size": 512, "moe__layers": "all",
           "moe__num_experts": 16, "moe__expert_intermediate_size": 512}
LARGE = {**EXPERTS, "moe__num_experts": 4, "moe__expert_intermediate_size": 1536, "moe__top_k": 1}
# Name: ranks and settings over configs/tiny.yaml.
MEASURED = {
    "dense": (1, DENSE),
    "dense, bf16, accumulated": (1, {**DENSE, "train__precision": "bf16", "train__micro_batch_size": 2}),
    "dense, ZeRO-0": (2, {**DENSE, "zero__stage": 0}),
    "dense, ZeRO-2": (2, {**DENSE, "zero__stage": 2}),
    "large vocabulary": (2, {**DENSE, "model__hidden_size": 256, "model__intermediate_size": 512,
                             "model__vocab_size": 16384}),
    "small experts, top-2, dropless": (1, EXPERTS),
    "small experts, top-2, dropless, EP 2": (2, {**EXPERTS, "parallel__expert": 2}),
    "large experts, top-1, dropless": (1, LARGE),
    "large experts, top-1, bf16, capacity 1.25, EP 2": (4, {**LARGE, "parallel__expert": 2, "train__precision": "bf16",
                                                             "train__micro_batch_size": 2,
                                                             "moe__capacity__factor": 1.25}),
    "small experts, bf16, EP 2, ZeRO-2": (2, {**EXPERTS, "parallel__expert": 2, "zero__stage": 2,
                                              "train__precision": "bf16"}),
    "small experts, experts recomputed": (1, {**EXPERTS, "train__recompute": "experts"}),
    "small experts, bf16, EP 2, layers recomputed": (2, {**EXPERTS, "parallel__expert": 2, "train__precision": "bf16",
                                                         "train__recompute": "layer"}),
    # The first run that a user meets: 40 steps, in which its routing changes, a save in the background among them.
    "quickstart": (2, {**EXPERTS, "model__num_hidden_layers": 4,
                       "model__vocab_size": 4096, "moe__num_experts": 8, "parallel__expert": 2,
                       "data__sequence_length": 128, "train__precision": "bf16", "train__global_batch_size": 16,
                       "train__micro_batch_size": 8, "train__steps": 40, "checkpoint__interval": 20}),
}


def plan(config, *flags, ranks=1):
    done = switchyard("plan", config, "--json", *flags, ranks=ranks)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", MEASURED)
def test_memory_is_what_a_run_takes(name, data, tmp_path):
    ranks, settings = MEASURED[name]
    settings = {"data__sequence_length": 256, "model__vocab_size": 320, "train__steps": 2, "train__eval_interval": 0,
                "train__threads": 1, "checkpoint__interval": 0, **settings}
    done = switchyard("train", TINY, *sets({**settings, "run__dir": tmp_path, "data__path": data}), ranks=ranks)
    assert done.returncode == 0, done.stderr
    steps, _ = records(tmp_path / "tiny")
    # Under mpirun, as the run is, so that the program's part has MPI in it.
    told = plan(TINY, "--ranks", ranks, *sets(settings), ranks=ranks)
    planned, measured = told["bytes_per_rank"]["total"], steps[-1]["peak_rss_bytes"]
    print(f"| {name} | {ranks} | {planned / 2**20:.0f} | {measured / 2**20:.0f} | {100 * (planned / measured - 1):+.1f} % |")
    assert planned == pytest.approx(measured, rel=0.1)


def test_parts_add_up():
    for flags in (["--ranks", 1], ["--ranks", 2, "--set", "parallel.expert=2"]):
        told = plan(TINY, *flags, "--set", "model.vocab_size=320")["bytes_per_rank"]
        parts = [told[part] for part in ("parameters", "gradients", "optimizer", "activations", "checkpoint", "allocator",
                                         "program")]
        assert sum(parts) + told["exchange"]["balanced"] == told["total"] <= told["worst_total"]
        assert told["exchange"]["balanced"] <= told["exchange"]["worst"]


def test_traffic_by_hand():
    told = plan(TINY, "--ranks", 2, *sets({"model__vocab_size": 320, "parallel__expert": 2}))
    # Two MoE layers, one micro-batch of 4 x 32 tokens, two choices: half of the rows leave, 32 floats each.
    assert told["micro_batches"] == 1
    rows = 2 * 4 * 32 * 2 // 2
    assert told["bytes_per_step"]["balanced"]["dispatch_forward"] == rows * 32 * 4
    assert told["bytes_per_step"]["balanced"]["exchange"] == 4 * rows * 32 * 4
    # At worst the other rank sends both choices of each of its tokens.
    assert told["bytes_per_step"]["worst"]["exchange"] == 2 * 4 * rows * 32 * 4
    # Experts are held once: the dense parameters alone are summed, half of them sent, and half gathered.
    dense = told["parameters_total"] - 2 * 4 * 3 * 32 * 48
    assert told["bytes_per_step"]["balanced"]["reduction"] == 4 * dense // 2
    assert told["bytes_per_step"]["balanced"]["gather"] == 4 * dense // 2


def test_mixtral_on_64_h100():
    told = plan(PRESETS / "mixtral_8x7b.yaml", "--ranks", 64, "--device", "h100")
    assert not told["fits"] and told["layouts"], "as configured it is too large, with ZeRO-2 it is not"
    best = told["suggestion"]
    assert (best["expert"], best["zero"]) == (4, 2) and best["total"] <= told["device"]["budget"]
    flags = best["set"].split()
    again = plan(PRESETS / "mixtral_8x7b.yaml", "--ranks", 64, "--device", "h100", *flags)
    assert again["fits"] and again["bytes_per_rank"]["total"] == best["total"]
    h200 = plan(PRESETS / "mixtral_8x7b.yaml", "--ranks", 64, "--device", "h200")
    assert h200["fits"] and len(h200["layouts"]) > len(told["layouts"])


def test_without_ranks_the_fewest_are_suggested():
    told = plan(PRESETS / "olmoe_1b_7b.yaml", "--device", "h100")
    assert told["fits"] and told["ranks"] == told["smallest_ranks"] == told["suggestion"]["ranks"]
    fewer = plan(PRESETS / "olmoe_1b_7b.yaml", "--ranks", told["ranks"] // 2, "--device", "h100", *sets(
        {"parallel__expert": 1, "train__micro_batch_size": 1}))
    assert not fewer["layouts"]


def test_what_would_help_where_nothing_fits():
    done = switchyard("plan", PRESETS / "gshard_600b.yaml", "--ranks", 1, "--device", "a100-40",
                      "--set", "parallel.expert=1")
    assert done.returncode == 0, done.stderr
    assert "no layout fits" in done.stdout and "more ranks" in done.stdout and "DOES NOT FIT" in done.stdout


def test_recompute_is_proposed_where_it_makes_a_run_fit():
    long = {"parallel__expert": 1, "train__global_batch_size": 1, "train__micro_batch_size": 1, "data__sequence_length": 1 << 17}
    flags = [PRESETS / "switch_base_8.yaml", "--ranks", 1, "--device", "a100-40", *sets(long)]
    told = plan(*flags)
    assert not told["layouts"] and "--set train.recompute=layer" in told["advice"], told
    again = plan(*flags, "--set", "train.recompute=layer")
    assert again["fits"] and again["bytes_per_rank"]["activations"] < told["bytes_per_rank"]["activations"] / 2
    assert again["bytes_per_step"] == told["bytes_per_step"], "one rank sends nothing"


def test_text_and_a_device_that_is_not_known():
    done = switchyard("plan", PRESETS / "olmoe_1b_7b.yaml", "--ranks", 8, "--device", "h100")
    for word in ("6.9 B", "active per token", "parameters", "optimizer", "activations", "exchange", "at worst",
                 "dispatch forward", "<- suggested", "because"):
        assert word in done.stdout, word
    wrong = switchyard("plan", TINY, "--ranks", 1, "--device", "abacus", "--set", "model.vocab_size=320")
    assert wrong.returncode == 2 and "h100" in wrong.stderr and wrong.stdout == ""
