"""inspect --routing: the same numbers on every world, those of the weights, what upcycling makes, wrong input."""

import json

import numpy
import pytest
from conftest import TEXT, files_in, prepare, switchyard, tensors, train_tiny

EXPERTS, LAYERS = 4, (1, 2)
MATRICES = ("gate_proj", "up_proj", "down_proj")


@pytest.fixture(scope="module")
def runs(tmp_path_factory, data):
    """`moe`, whose routing is spread and whose evaluation drops; `dense`; `up`, made of it; `on`, trained on from there."""
    folder = tmp_path_factory.mktemp("runs")
    moe = {"model__init_std": 0.15, "moe__capacity": "{eval_factor: 1.0, min: 1}"}
    train_tiny(folder, data, "moe", train__eval_interval=0, **moe)
    train_tiny(folder, data, "dense", moe__layers="none", train__eval_interval=0)
    made = switchyard("upcycle", "--from", folder / "dense", "--out", folder / "up", "--num-experts", EXPERTS, "--top-k",
                      2, "--layers", "1,2")
    assert made.returncode == 0, made.stderr
    train_tiny(folder, data, "on", checkpoint__load_from=folder / "up", moe__expert_intermediate_size=64,
               train__eval_interval=0)
    return folder


def newest(run):
    return run / "checkpoints" / (run / "checkpoints/latest").read_text().strip()


def diagnose(run, data, *flags, ranks=1):
    done = switchyard("inspect", run, "--routing", "--data", data, "--batches", 4, "--json", *flags, ranks=ranks)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    return json.loads(done.stdout)


def differences(ours, theirs, tolerance, place=""):
    """Every place where two JSON values differ by more than the tolerance."""
    if isinstance(ours, dict) and isinstance(theirs, dict) and ours.keys() == theirs.keys():
        return [d for key in ours for d in differences(ours[key], theirs[key], tolerance, f"{place}.{key}")]
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        return [d for i in range(len(ours)) for d in differences(ours[i], theirs[i], tolerance, f"{place}[{i}]")]
    if isinstance(ours, float) and isinstance(theirs, float):
        return [] if abs(ours - theirs) <= tolerance * max(1, abs(ours)) else [(place, ours, theirs)]
    return [] if ours == theirs else [(place, ours, theirs)]


def test_P10_the_same_numbers_on_every_world(runs, data):
    """Expert parallel 1, 2, 1 and 4; the eight micro-batches leave ranks of three without one."""
    one, *others = (diagnose(runs / "moe", data, "--sample", 100, ranks=ranks) for ranks in (1, 2, 3, 4))
    for many in others:
        assert differences(one, many, 1e-6) == []
    assert one["tokens"] == 4 * 8 * 32 and 90 <= one["sampled_tokens"] <= 100
    for layer in one["layers"]:
        assert layer["correlated_tokens"] == one["sampled_tokens"] and 0.01 < layer["dropped"] < 0.9


def test_P10_ranks_without_a_sampled_token_take_part(runs, data):
    one, many = (diagnose(runs / "moe", data, "--sample", 2, ranks=ranks) for ranks in (1, 4))
    assert 1 <= one["sampled_tokens"] <= 2 and differences(one, many, 1e-6) == []


def test_P10_counters_add_up(runs, data):
    told = diagnose(runs / "moe", data)
    assert [layer["layer"] for layer in told["layers"]] == list(LAYERS)
    assert (told["step"], told["split"], told["sequences"], told["sequence_length"]) == (20, "val", 32, 32)
    assert told["sampled_tokens"] == told["tokens"], "fewer than the sample may have"
    for layer in told["layers"]:
        assert sum(layer["load"]) == pytest.approx(1) and len(layer["load"]) == EXPERTS
        assert layer["max_vio"] == pytest.approx(max(layer["load"]) * EXPERTS - 1)
        assert layer["dead_experts"] == [e for e, load in enumerate(layer["load"]) if load == 0]
        assert 0 < layer["entropy"] <= numpy.log(EXPERTS) + 1e-6
        assert -1 <= layer["score_norm_correlation"] <= 1 and min(layer["output_norm"]) > 0
    for key in ("max_vio", "entropy", "dropped", "expert_similarity", "score_norm_correlation"):
        assert told["mean"][key] == pytest.approx(numpy.mean([layer[key] for layer in told["layers"]]))
    other = diagnose(runs / "moe", data, "--split", "train", "--sequence-length", 16, "--sample", 7)
    assert other["sequence_length"] == 16 and other["tokens"] == 4 * 8 * 16 and other["sampled_tokens"] <= 7
    assert other["layers"][0]["load"] != told["layers"][0]["load"]
    assert other["layers"][0]["matrix_similarity"] == told["layers"][0]["matrix_similarity"]


def mean_cosine(vectors):
    units = vectors / numpy.linalg.norm(vectors, axis=-1, keepdims=True)
    return ((units @ units.T).sum() - len(units)) / (len(units) * (len(units) - 1))


def test_P10_similarities_are_those_of_the_saved_weights(runs, data):
    told = diagnose(runs / "moe", data, ranks=2)
    saved = tensors(newest(runs / "moe"))
    for layer in told["layers"]:
        def weight(name, rows):
            raw = saved[f"model.layers.{layer['layer']}.mlp.{name}.weight"]
            return numpy.frombuffer(raw, dtype=numpy.float32).astype(float).reshape(rows, -1)

        gate = weight("gate", EXPERTS)
        assert layer["router_similarity"]["mean"] == pytest.approx(mean_cosine(gate), abs=1e-9)
        pairs = [mean_cosine(gate[[i, j]]) for i in range(EXPERTS) for j in range(i)]
        assert layer["router_similarity"]["max"] == pytest.approx(max(pairs), abs=1e-9)
        experts = {matrix: [weight(f"experts.{e}.{matrix}", 48 if matrix != "down_proj" else 32)
                            for e in range(EXPERTS)] for matrix in MATRICES}
        experts["down_proj"] = [x.T for x in experts["down_proj"]]  # one row for each neuron
        for matrix, values in experts.items():
            ours = layer["matrix_similarity"][matrix]
            flat = numpy.stack([x.ravel() for x in values])
            assert ours["experts"] == pytest.approx(mean_cosine(flat), abs=1e-9)
            assert ours["mean_neurons"] == pytest.approx(mean_cosine(numpy.stack([x.mean(0) for x in values])), abs=1e-9)
            same = [mean_cosine(numpy.stack([x[f] for x in values])) for f in range(48)]
            assert ours["between_experts"] == pytest.approx(numpy.mean(same), abs=1e-9)
            assert ours["within_experts"] == pytest.approx(numpy.mean([mean_cosine(x) for x in values]), abs=1e-9)
        flat = numpy.stack([numpy.concatenate([experts[m][e].ravel() for m in MATRICES]) for e in range(EXPERTS)])
        assert layer["expert_similarity"] == pytest.approx(mean_cosine(flat), abs=1e-9)


@pytest.mark.parametrize("ranks", [1, 2])
def test_P10_copies_start_at_1_and_fall_with_training(ranks, runs, data):
    copies, trained = (diagnose(runs / name, data, ranks=ranks) for name in ("up", "on"))
    for before, after in zip(copies["layers"], trained["layers"]):
        assert before["expert_similarity"] == pytest.approx(1, abs=1e-9)
        assert before["score_norm_correlation"] is None and before["correlated_tokens"] == 0, "all norms are equal"
        assert len(set(before["output_norm"])) == 1
        assert after["expert_similarity"] < 0.9999
        assert after["correlated_tokens"] > 0.9 * trained["sampled_tokens"]
        for matrix in MATRICES:
            for key in ("experts", "mean_neurons", "between_experts"):
                assert before["matrix_similarity"][matrix][key] == pytest.approx(1, abs=1e-9)
            assert after["matrix_similarity"][matrix]["between_experts"] < 0.9999


def test_it_is_printed_and_saved_beside_the_checkpoints(runs, data, tmp_path):
    before = files_in(runs / "moe")
    done = switchyard("inspect", runs / "moe", "--routing", "--data", data, "--batches", 4, ranks=2)
    assert done.returncode == 0, done.stderr
    for words in (f"{newest(runs / 'moe')}, step 20\n", "val: 1,024 tokens in 32 sequences of 32; all experts on 1,024",
                  "layer      MaxVio", "\n mean ", "down_proj", "share of the assignments per expert"):
        assert words in done.stdout, done.stdout
    saved = runs / "moe/routing-step-00000020.json"
    assert str(saved) in done.stderr
    assert sorted({*before, saved.name}) == files_in(runs / "moe")
    told = diagnose(runs / "moe", data, "--out", tmp_path / "routing.json")
    assert json.loads((tmp_path / "routing.json").read_text()) == told
    assert differences(json.loads(saved.read_text()), told, 1e-6) == []
    assert switchyard("verify", runs / "moe").returncode == 0
    diagnose(newest(runs / "moe"), data)
    assert json.loads(saved.read_text()) == told


@pytest.mark.parametrize("arguments, code, message", [
    (["RUN/moe", "--routing"], 2, "--data is required with --routing"),
    (["RUN/dense", "--routing", "--data", "DATA"], 2, "step-00000020 has no MoE layers"),
    (["RUN/moe", "--routing", "--data", "DATA", "--tensors"], 2, "--tensors: not together with --routing"),
    (["RUN/moe", "--data", "DATA"], 2, "--data: only with --routing"),
    (["RUN/moe", "--out", "x"], 2, "--out: only with --routing"),
    (["RUN/moe", "--routing", "--data", "DATA", "--sample", "0"], 2, "--sample: must be at least 1"),
    (["RUN/moe", "--routing", "--data", "DATA", "--batches", "-1"], 2, "--batches: must be 0"),
    (["RUN/moe", "--routing", "--data", "DATA", "--sequence-length", "-1"], 2, "--sequence-length: must be at least 1"),
    (["RUN/moe", "--routing", "--data", "DATA", "--precision", "fp8"], 2, "--precision: `fp8`"),
    (["RUN/moe", "--routing", "--data", "DATA", "--split", "test"], 3, "DATA/test."),
    (["RUN/moe", "--routing", "--data", "RUN/nothing"], 3, "RUN/nothing/meta.json"),
    (["RUN/moe", "--routing", "--data", "DATA", "--out", "RUN/nothing/x.json"], 3, "no folder RUN/nothing"),
    (["RUN/nothing", "--routing", "--data", "DATA"], 3, "no checkpoint in RUN/nothing"),
])
def test_wrong_arguments(arguments, code, message, runs, data):
    def filled(text):
        return text.replace("RUN", str(runs)).replace("DATA", str(data))

    before = files_in(runs)
    done = switchyard("inspect", *map(filled, arguments))
    assert done.returncode == code, done.stdout + done.stderr
    assert filled(message) in done.stderr and done.stderr.count("\n") == 1
    assert done.stdout == "" and files_in(runs) == before


def test_a_wrong_argument_ends_every_rank(runs, data):
    done = switchyard("inspect", runs / "dense", "--routing", "--data", data, ranks=2)
    assert done.returncode == 2 and "has no MoE layers" in done.stderr


def test_data_of_another_tokenizer_is_refused(runs, tmp_path):
    other = prepare(TEXT, tmp_path / "other")
    meta = json.loads((other / "meta.json").read_text())
    (other / "meta.json").write_text(json.dumps({**meta, "tokenizer": "hf:words"}))
    done = switchyard("inspect", runs / "moe", "--routing", "--data", other)
    assert done.returncode == 2 and "was prepared with another tokenizer" in done.stderr
