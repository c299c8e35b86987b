"""Upcycling and merging: the same bytes on every world, a receipt that is true, a model that trains on, nothing half done."""

import hashlib
import json

import numpy
import pytest
from conftest import TEXT, files_in, prepare, records, switchyard, tensors, train_tiny

EXPERTS = ("--num-experts", 4, "--top-k", 2, "--layers", "1,2")
MLP = "model.layers.1.mlp."


@pytest.fixture(scope="module")
def runs(tmp_path_factory, data):
    """Dense models of one architecture: `seed` and two that went on from it, on other layouts; `bf16` has masters."""
    folder = tmp_path_factory.mktemp("dense")
    dense = {"moe__layers": "none", "train__steps": 10, "train__eval_interval": 0}
    branch = {**dense, "checkpoint__load_from": folder / "seed", "run__seed": 5}
    train_tiny(folder, data, "seed", **dense)
    train_tiny(folder, data, "left", ranks=2, zero__stage=2, train__micro_batch_size=2, **branch)
    train_tiny(folder, data, "right", zero__stage=0, **{**branch, "run__seed": 6})
    train_tiny(folder, data, "bf16", train__precision="bf16", **dense)
    return folder


def newest(run):
    """The step folder that `latest` names."""
    return run / "checkpoints" / (run / "checkpoints/latest").read_text().strip()


def upcycle(out, *flags, ranks=1):
    """The receipt and the tensors of the checkpoint, as bytes."""
    done = switchyard("upcycle", "--out", out, "--json", *flags, ranks=ranks)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), tensors(newest(out))


def floats(raw):
    return numpy.frombuffer(raw, dtype=numpy.float32)


def digests(folder):
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
            for name in files_in(folder) if (folder / name).is_file()}


@pytest.mark.parametrize("source, flags", [
    ("seed", ("--method", "drop", "--granularity", 2, "--optimizer-state", "carry")),
    ("bf16", ("--method", "noise", "--shared-expert"))], ids=["drop", "noise"])
def test_C6_5_any_number_of_ranks_writes_the_same_tensors(source, flags, runs, tmp_path):
    before = digests(runs / source)
    made = [upcycle(tmp_path / str(ranks), "--from", runs / source, *EXPERTS, *flags, ranks=ranks) for ranks in (1, 2, 4)]
    for receipt, values in made[1:]:
        assert values == made[0][1]
        assert receipt["loss_after"] == pytest.approx(made[0][0]["loss_after"], rel=1e-6)
        assert receipt["max_logit_difference"] == pytest.approx(made[0][0]["max_logit_difference"], rel=1e-3)
    for ranks in (1, 2, 4):
        assert switchyard("verify", newest(tmp_path / str(ranks))).returncode == 0
        assert json.loads((newest(tmp_path / str(ranks)) / "receipt.json").read_text())["method"] == flags[1]
    assert len(list(newest(tmp_path / "4").glob("rank-*.safetensors"))) == 4
    assert digests(runs / source) == before


def test_C6_4_every_expert_has_the_digest_of_the_source(runs, tmp_path):
    dense = tensors(newest(runs / "seed"))
    _, made = upcycle(tmp_path / "out", "--from", runs / "seed", *EXPERTS)
    for layer in (1, 2):
        for expert in range(4):
            for part in ("gate_proj", "up_proj", "down_proj"):
                mlp = f"model.layers.{layer}.mlp."
                assert (hashlib.sha256(made[f"{mlp}experts.{expert}.{part}.weight"]).digest()
                        == hashlib.sha256(dense[f"{mlp}{part}.weight"]).digest())
    rest = {name for name in made if "experts" not in name and not name.endswith(".mlp.gate.weight")}
    assert MLP + "up_proj.weight" not in rest and "model.layers.0.mlp.up_proj.weight" in rest
    assert all(made[name] == dense[name] for name in rest)


@pytest.mark.parametrize("ranks", [1, 2])
def test_the_receipt_is_what_eval_says(ranks, runs, data, tmp_path):
    """On the whole validation split, in sequences of the receipt's length."""
    flags = ("--data", data, "--sample-tokens", 10**6)
    receipt, _ = upcycle(tmp_path / "out", "--from", runs / "seed", *EXPERTS, *flags, ranks=ranks)
    for checkpoint, key in ((runs / "seed", "loss_before"), (tmp_path / "out", "loss_after")):
        done = switchyard("eval", "--checkpoint", checkpoint, "--data", data, "--sequence-length", 256, "--json")
        assert done.returncode == 0, done.stderr
        result = json.loads(done.stdout)
        assert result["loss"] == pytest.approx(receipt[key], abs=1e-6)
        assert result["tokens"] == receipt["tokens"]
    assert receipt["sample"] == f"{data} (val)"
    assert abs(receipt["loss_after"] - receipt["loss_before"]) <= 1e-5
    assert receipt["max_logit_difference"] <= 1e-5


def test_without_data_the_receipt_reads_a_passage_in_the_models_tokenizer(runs, tmp_path):
    done = switchyard("upcycle", "--from", runs / "seed", "--out", tmp_path / "out", *EXPERTS)
    assert done.returncode == 0, done.stderr
    assert "sample       1,023 tokens: the opening of Pride and Prejudice\n" in done.stdout
    assert done.stdout.endswith(f"written      {tmp_path / 'out'}\n") and "warning" not in done.stderr
    # A model of three layers, ten steps old, has learned that letters are likelier than other bytes.
    loss = float(done.stdout.split("loss         ")[1].split(" ")[0])
    assert 2 < loss < 5


def test_what_changes_the_function_is_warned_about_and_measured(runs, tmp_path):
    done = switchyard("upcycle", "--from", runs / "seed", "--out", tmp_path / "out", "--num-experts", 8, "--top-k", 3,
                      "--granularity", 2, "--json")
    assert done.returncode == 0 and "warning: --top-k 3 is not a multiple of --granularity 2" in done.stderr
    receipt = json.loads(done.stdout)
    assert receipt["max_logit_difference"] > 1e-3 and "not a multiple" in receipt["remarks"][0]
    assert f"measured here: logits differ by at most {receipt['max_logit_difference']:.3g}" in done.stderr


def test_without_a_sample_nothing_is_run_and_the_same_is_written(runs, tmp_path):
    receipt, made = upcycle(tmp_path / "out", "--from", runs / "seed", *EXPERTS, "--sample-tokens", 0)
    assert receipt["tokens"] == 0 and "loss_after" not in receipt
    assert receipt["parameters_total"] > receipt["parameters_active"] > receipt["parameters_before"]
    assert made == upcycle(tmp_path / "measured", "--from", runs / "seed", *EXPERTS)[1]


@pytest.mark.parametrize("state", ["drop", "carry"])
def test_training_goes_on_from_an_upcycled_model(state, runs, data, tmp_path):
    receipt, made = upcycle(tmp_path / "out", "--from", runs / "seed", *EXPERTS, "--optimizer-state", state)
    assert (MLP + "experts.3.up_proj.weight.exp_avg" in made) == (state == "carry")
    train_tiny(tmp_path, data, "on", ranks=2, checkpoint__load_from=tmp_path / "out", parallel__expert=2,
               train__micro_batch_size=1, moe__expert_intermediate_size=64, optim__lr_scale='{"*.mlp.gate.*": 0.1}')
    steps, _ = records(tmp_path / "on")
    assert abs(steps[0]["loss"] - receipt["loss_before"]) < 0.5
    assert steps[-1]["loss"] < steps[0]["loss"] - 0.1


# ------------------------------------------------------------------ several sources

def test_P8_experts_of_runs_on_other_layouts_and_the_mean_of_the_rest(runs, tmp_path):
    left, right = tensors(newest(runs / "left")), tensors(newest(runs / "right"))
    receipt, made = upcycle(tmp_path / "out", "--from", runs / "left", "--from", runs / "right", *EXPERTS, ranks=2)
    for expert in range(4):
        branch = right if expert % 2 else left
        assert made[f"{MLP}experts.{expert}.up_proj.weight"] == branch[MLP + "up_proj.weight"]
    assert left[MLP + "up_proj.weight"] != right[MLP + "up_proj.weight"]
    for name in ("model.layers.1.self_attn.q_proj.weight", "model.embed_tokens.weight", "model.norm.weight"):
        mean = (floats(left[name]).astype(numpy.float64) + floats(right[name])) / 2
        assert numpy.array_equal(floats(made[name]), mean.astype(numpy.float32))
    assert not [name for name in made if ".exp_avg" in name]
    assert len(receipt["losses_before"]) == 2


def test_P8_equal_branches_are_the_seed(runs, tmp_path):
    same = ("--from", runs / "seed") * 3
    receipt, _ = upcycle(tmp_path / "out", *same, "--num-experts", 6, "--top-k", 2)
    assert receipt["max_logit_difference"] <= 1e-5


@pytest.mark.parametrize("weights, equals", [("1,0", "left"), ("0,3", "right")])
def test_P2_a_weight_of_one_is_that_model(weights, equals, runs, tmp_path):
    _, made = upcycle(tmp_path / "out", "--from", runs / "left", "--from", runs / "right", "--method", "average",
                      "--weights", weights)
    source = tensors(newest(runs / equals))
    assert made == {name: raw for name, raw in source.items() if ".exp_avg" not in name}


def test_P2_the_weighted_mean_is_a_dense_model(runs, data, tmp_path):
    receipt, made = upcycle(tmp_path / "out", "--from", runs / "left", "--from", runs / "right", "--method", "average",
                            "--weights", "0.7,0.3")
    name = MLP + "down_proj.weight"
    left, right = (floats(tensors(newest(runs / run))[name]) for run in ("left", "right"))
    assert numpy.allclose(floats(made[name]), 0.7 * left + 0.3 * right, rtol=0, atol=1e-7)
    assert receipt["parameters_total"] == receipt["parameters_before"] == receipt["parameters_active"]
    done = switchyard("eval", "--checkpoint", tmp_path / "out", "--data", data, "--json")
    assert done.returncode == 0, done.stderr


# ------------------------------------------------------------------ refusals

WRONG = {
    "no experts": (("--top-k", 2), "--num-experts is required"),
    "top-k": (("--num-experts", 4, "--top-k", 5), "--top-k: 5 is more than --num-experts 4"),
    "width": (("--num-experts", 6, "--top-k", 3, "--granularity", 3),
              "--granularity: 3 does not divide the dense intermediate_size 64"),
    "groups": (("--num-experts", 6, "--top-k", 4, "--granularity", 4), "is not a multiple of --granularity 4"),
    "layer": (("--num-experts", 4, "--top-k", 2, "--layers", "1,9"), "--layers: `moe.layers` names layer 9"),
    "no layer": (("--num-experts", 4, "--top-k", 2, "--layers", "none"), "--layers: `moe.layers` picks no layer"),
    "layers": (("--num-experts", 4, "--top-k", 2, "--layers", "evry:2"), "did you mean `every:N`?"),
    "method": ((*EXPERTS, "--method", "copie"), "--method: `copie` is not one of copy, drop, noise, average"),
    "scaling": ((*EXPERTS, "--scaling", "none"), "--scaling: `none` is not one of exact, published"),
    "format": ((*EXPERTS, "--format", "gguf"), "--format: `gguf` is not one of switchyard, llama"),
    "state": ((*EXPERTS, "--optimizer-state", "keep"), "--optimizer-state: `keep` is not one of drop, carry"),
    "ratio": ((*EXPERTS, "--drop-ratio", 0.5), "--drop-ratio is for --method drop, not copy"),
    "noise": ((*EXPERTS, "--method", "noise", "--noise-std", 0), "--noise-std: must be above 0"),
    "weights": ((*EXPERTS, "--weights", "1,2"), "--weights is for --method average, not copy"),
    "gate": ((*EXPERTS, "--shared-gate"), "--shared-gate: there is no shared expert"),
    "average": ((*EXPERTS, "--method", "average"), "--num-experts: --method average makes a dense model"),
    "one": (("--method", "average"), "--method average: needs two --from or more"),
    "sample": ((*EXPERTS, "--sample-tokens", 1), "--sample-tokens: must be 2 or more, or 0"),
    "word": (("--num-experts", "four", "--top-k", 2), "--num-experts"),
}


def assert_refused(done, code, message):
    assert done.returncode == code, done.stderr
    assert done.stderr.count("switchyard: ") == 1 and message in done.stderr, done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("case", ["top-k", "width", "state"])
def test_wrong_flags_on_several_ranks(case, ranks, runs, tmp_path):
    flags, message = WRONG[case]
    assert_refused(switchyard("upcycle", "--from", runs / "seed", "--out", tmp_path / "out", *flags, ranks=ranks), 2, message)


@pytest.mark.parametrize("case", WRONG)
def test_wrong_flags(case, runs, tmp_path):
    flags, message = WRONG[case]
    assert_refused(switchyard("upcycle", "--from", runs / "seed", "--out", tmp_path / "out", *flags), 2, message)
    assert files_in(tmp_path) == []


def test_sources_that_cannot_be(runs, data, tmp_path):
    out = ("--out", tmp_path / "out", "--num-experts", 4, "--top-k", 2)
    upcycle(tmp_path / "moe", "--from", runs / "seed", *EXPERTS)
    train_tiny(tmp_path, data, "wide", moe__layers="none", model__intermediate_size=96, train__steps=1)
    for flags, code, message in [
            (("--from", tmp_path / "moe"), 2, "has experts already (moe.layers 1,2, 4 experts)"),
            (("--from", runs / "seed", "--from", tmp_path / "wide"), 2,
             "the models differ: `intermediate_size: 64`"),
            (("--from", tmp_path / "nothing"), 3, "nothing")]:
        assert_refused(switchyard("upcycle", *out, *flags), code, message)
    assert not (tmp_path / "out").exists()


def test_data_of_another_tokenizer_is_refused(runs, data, tmp_path):
    other = prepare(TEXT, tmp_path / "other")
    meta = json.loads((other / "meta.json").read_text())
    (other / "meta.json").write_text(json.dumps({**meta, "eos": 10}))
    done = switchyard("upcycle", "--from", runs / "seed", "--out", tmp_path / "out", *EXPERTS, "--data", other)
    assert_refused(done, 2, "was prepared with another tokenizer than the model's")


def test_a_folder_that_is_there_is_left_alone(runs, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("mine")
    done = switchyard("upcycle", "--from", runs / "seed", "--out", tmp_path / "out", *EXPERTS)
    assert_refused(done, 2, "is there already")
    assert files_in(tmp_path) == ["out", "out/mine.txt"]
    before = digests(runs / "seed")
    done = switchyard("upcycle", "--from", runs / "seed", "--out", runs / "seed", *EXPERTS)
    assert_refused(done, 2, "is there already")
    assert digests(runs / "seed") == before
