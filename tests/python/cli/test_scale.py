"""`switchyard train --dry-run --world N`: one rank of a world that is not there."""

import re
import resource
import shlex
import time

import pytest
from conftest import sets, switchyard
from runs import SOURCE, TINY

PRESETS = SOURCE / "configs/presets"
# Of 1,024 ranks 16 share the experts, one each; 64 have the same. Every number below is known by hand.
SMALL = {"model__vocab_size": 64, "model__hidden_size": 16, "model__num_hidden_layers": 2, "model__num_attention_heads": 2,
         "model__num_key_value_heads": 2, "model__intermediate_size": 64, "moe__layers": "last:1", "moe__num_experts": 16,
         "moe__top_k": 1, "moe__expert_intermediate_size": 32, "moe__router": "{type: hash, hash: {method: balanced}}",
         "data__sequence_length": 64, "parallel__expert": 16, "train__micro_batch_size": 1, "train__global_batch_size": 2048,
         "train__precision": "fp32", "train__threads": 1}


def dry_run(config, *flags, world, **settings):
    done = switchyard("train", config, "--dry-run", "--world", world, *flags, *sets(settings))
    assert done.returncode == 0, done.stderr
    return done.stdout


def traffic(text):
    """(group, purpose): calls, messages, bytes in the host, bytes across hosts."""
    rows, group = {}, None
    for line in text.split("sent in a step")[1].split("together")[0].splitlines()[1:]:
        if re.fullmatch(r"  \S.*", line):
            group = line.strip()
        elif line.strip():
            purpose, *numbers = re.fullmatch(r"    (\S.*?)" + r"\s+([\d,]+)" * 4, line).groups()
            rows[group, purpose] = tuple(int(n.replace(",", "")) for n in numbers)
    return rows


def buffers(text):
    numbers = re.search(r"buffers  weights ([\d,]+) bytes, gradients ([\d,]+), optimizer ([\d,]+): as planned", text)
    return tuple(int(n.replace(",", "")) for n in numbers.groups())


def dense_of_small():
    """Embedding, head and last norm; per layer attention and two norms; one dense layer; a hash router has no weights."""
    return 2 * 64 * 16 + 16 + 2 * (4 * 16 * 16 + 2 * 16) + 3 * 16 * 64


def up(elements, ranks):
    return -(-elements // ranks) * ranks


@pytest.mark.parametrize("stage", [0, 1])
def test_a_small_model_on_a_thousand_ranks_in_numbers_known_by_hand(stage):
    text = dry_run(TINY, "--rank", 7, world=1024, zero__stage=stage, **SMALL)
    assert "1024 ranks = EP 16 x EDP 64" in text and "step     taken, on random tokens: loss" in text
    dense, expert = up(dense_of_small(), 1024), 3 * 16 * 32  # 1,536 elements: 24 for each of the 64
    state = dense + expert if stage == 0 else dense // 1024 + expert // 64
    assert buffers(text) == (4 * (dense + expert), 4 * (dense + expert), 8 * state)
    rows = traffic(text)
    # Rank 7 is the last of its host: its neighbour in the world is on another, that among those with its experts
    # is 16 ranks away.
    times = 2 if stage == 0 else 1
    op = 4 * dense // 1024 * 1023
    assert rows["world", "gradients of dense parameters"] == (1, times * 1023, 0, times * op)
    assert rows["expert data parallel", "gradients of experts"] == (1, times * 63, 0, times * 63 * 4 * 24)
    assert (("world", "weights after the update") in rows) == (stage == 1)
    if stage == 1:
        assert rows["world", "weights after the update"] == (1, 1023, 0, op)
        assert rows["expert data parallel", "weights after the update"] == (1, 63, 0, 63 * 4 * 24)
    # Two micro-batches. Counts: one int64 to each of the others, 7 in the host and 8 on the next.
    assert rows["expert parallel", "counts of tokens"] == (2, 2 * 15, 2 * 7 * 8, 2 * 8 * 8)
    # Rows of 16 floats. What leaves in a dispatch comes back in a return, and their gradients go the other way.
    there, back = rows["expert parallel", "dispatch of tokens"], rows["expert parallel", "return of tokens"]
    assert there[0] == back[0] == 4 and max(there[1], back[1]) <= 4 * 15
    assert there[2] + there[3] == back[2] + back[3] > 0 and (there[2] + there[3]) % (16 * 4) == 0


def test_hosts_decide_what_crosses_them_and_nothing_else():
    whole = traffic(dry_run(TINY, world=1024, **SMALL))
    for per_host in (1, 16, 1024):
        rows = traffic(dry_run(TINY, "--ranks-per-host", per_host, world=1024, **SMALL))
        assert {k: (v[0], v[1], v[2] + v[3]) for k, v in rows.items()} == \
            {k: (v[0], v[1], v[2] + v[3]) for k, v in whole.items()}
        for (group, _), (_, _, in_host, across) in rows.items():
            assert per_host != 1 or in_host == 0
            assert per_host != 1024 or across == 0
            assert per_host != 16 or group != "expert parallel" or across == 0


@pytest.mark.parametrize("settings", [
    {"zero__stage": 2}, {"train__recompute": "layer"}, {"train__precision": "bf16"}, {"parallel__overlap_chunks": 2},
    {"parallel__overlap_grad_reduce": "on", "parallel__overlap_param_gather": "on"},
    {"moe__balance": "{type: switch, scope: global}"}, {"moe__router": "{type: topk}", "moe__top_k": 2},
    {"moe__router": "{type: topk}", "moe__capacity": "{factor: 1.0}"}, {"parallel__order": "data_inner"},
    {"parallel__expert": 1}, {"moe__layers": "none"}, {"train__freeze": "[\"model.embed_tokens.*\"]", "zero__stage": 2}])
def test_what_is_counted_is_what_plan_predicts(settings):
    # Where it is not, the program ends with 70.
    settings = {**SMALL, "moe__num_experts": 32, **settings}
    text = dry_run(TINY, "--rank", 1023, world=1024, **settings)
    assert "as planned" in text and "step     taken" in text


def test_a_model_that_is_far_too_large_is_gone_through_without_memory():
    begin = time.monotonic()
    text = dry_run(PRESETS / "qwen3_235b_a22b.yaml", world=1024)
    assert "235093.6M parameters" in text and "EP 128 x EDP 8" in text
    assert "step     gone through without memory, tokens spread evenly: it takes" in text
    rows = traffic(text)
    # 94 layers, 4 micro-batches, 4,096 tokens of 8 experts, of which this rank has one in 128; there in the counting
    # pass, in forward and, as gradients, back in backward; 4,096 numbers of 2 bytes.
    leaving = 94 * 4 * 4096 * 8 * 127 // 128
    for purpose in ("dispatch of tokens", "return of tokens"):
        calls, _, in_host, across = rows["expert parallel", purpose]
        assert in_host + across == 3 * leaving * 4096 * 2
        assert in_host * 120 == across * 7  # of 127 others seven are near
    print(f"{time.monotonic() - begin:.1f} s")
    # Megabytes, not the 20 GB of the rank's weights and gradients: of all children of this test so far.
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 2 << 20


@pytest.mark.parametrize("preset", sorted(path.stem for path in PRESETS.glob("*.yaml")))
def test_every_preset_fits_together_on_its_ranks(preset):
    world = 2048 if preset in ("gshard_600b", "switch_c_2048") else 256
    for rank in (0, world - 1):
        text = dry_run(PRESETS / f"{preset}.yaml", "--rank", rank, world=world)
        assert "as planned" in text, text


@pytest.mark.parametrize("flags, message", [
    (["--world", 96, "--set", "parallel.expert=9"], "`moe.num_experts` 16 cannot be shared out evenly to `parallel.expert` 9"),
    (["--world", 100], "`parallel.expert` 16"),
    (["--world", 1024, "--rank", 1024], "--rank 1024: a world of 1024 ranks has 0 to 1023"),
    (["--world", 0], "--world"), (["--rank", 1], "--rank requires --world")])
def test_a_layout_that_does_not_fit_is_one_clear_error(flags, message):
    done = switchyard("train", TINY, "--dry-run", *sets(SMALL), *flags)
    assert done.returncode == 2 and done.stdout == ""
    assert message in done.stderr, done.stderr


def test_a_world_that_is_not_there_is_not_trained():
    done = switchyard("train", TINY, "--world", 4, *sets(SMALL))
    assert done.returncode == 2 and "--world requires --dry-run" in done.stderr
    done = switchyard("train", TINY, "--dry-run", "--world", 4, *sets(SMALL), ranks=2)
    assert done.returncode == 2 and "without mpirun" in done.stderr


def test_the_page_shows_what_is_printed():
    page = (SOURCE / "docs/scale.md").read_text()
    command, shown = re.search(r"```\nswitchyard (.*)\n```.*?```text\n(.*?)```", page, re.DOTALL).groups()
    done = switchyard(*shlex.split(command), cwd=SOURCE)
    assert done.returncode == 0, done.stderr

    def lines(text):  # but for what this machine has
        return [line for line in text.splitlines() if not line.startswith("step ")]

    assert lines(done.stdout) == lines(shown)
