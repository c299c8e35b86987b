"""inspect, verify, diff, gc and plan, on runs that were trained and on checkpoints that were damaged."""

import fcntl
import json
import os
import pathlib
import shutil
import subprocess

import pytest
from conftest import BINARY, SOURCE, TINY, files_in, flip_byte_of, sets, switchyard, train_tiny

TOOL = pathlib.Path(BINARY).parent / "tests/checkpoint/checkpoint_tool"
WEIGHT = "model.layers.1.mlp.experts.2.up_proj.weight"


@pytest.fixture(scope="session")
def runs(tmp_path_factory, data):
    """A folder with the same run on one rank and on two, twice. Copy it before changing it."""
    folder = tmp_path_factory.mktemp("runs")
    for name, ranks in ("one", 1), ("two", 2), ("again", 2):
        train_tiny(folder, data, name, ranks=ranks, parallel__expert=ranks, checkpoint__interval=5,
                   checkpoint__keep=9)
    return folder


@pytest.fixture
def run(runs, tmp_path):
    """A copy of the run on two ranks, with steps 5, 10, 15 and 20."""
    shutil.copytree(runs / "two", tmp_path / "run", symlinks=True)
    return tmp_path / "run"


def answer(*arguments, code=0, ranks=1):
    """The one JSON object on stdout."""
    done = switchyard(*arguments, "--json", ranks=ranks)
    assert done.returncode == code, done.stdout + done.stderr
    assert done.stdout.count("\n") == 1
    return json.loads(done.stdout)


def steps(run):
    return sorted(path.name for path in (run / "checkpoints").iterdir() if path.name != "latest")


def step_dir(run, step=20):
    return run / f"checkpoints/step-{step:08d}"


def flip_byte(path, at):
    content = bytearray(path.read_bytes())
    content[at] ^= 4
    path.write_bytes(content)


def save_sample(folder, world):
    subprocess.run([TOOL, "save", folder, str(world)], check=True)
    return folder / "step-00000001"


# inspect

def test_inspect_tells_what_the_manifest_holds(runs):
    manifest = json.loads((step_dir(runs / "two") / "manifest.json").read_text())
    told = answer("inspect", runs / "two", "--tensors")
    assert told["checkpoint"] == str(step_dir(runs / "two"))
    assert (told["step"], told["cursor"]) == (20, 160)
    assert told["layout"] == {"world": 2, "expert": 2, "zero": 1}
    for key in "save_id", "config_xxh3", "state", "tensors":
        assert told[key] == manifest[key], key
    assert told["state"]["tokens"] == 20 * 8 * 32
    sizes = {name: (step_dir(runs / "two") / name).stat().st_size for name in files_in(step_dir(runs / "two"))}
    assert {name: file["bytes"] for name, file in told["files"].items()} == sizes
    assert told["bytes"] == sum(sizes.values())
    plan = answer("plan", TINY, "--ranks", 2, "--set", "model.vocab_size=320")
    assert told["kinds"]["dense"]["parameters"] + told["kinds"]["expert"]["parameters"] == plan["parameters_total"]


def test_inspect_as_text_and_without_tensors(runs):
    text = switchyard("inspect", step_dir(runs / "two", 10), "--tensors").stdout
    for words in ("step       10, cursor 80 samples", "layout     2 ranks, expert parallel 2, ZeRO-1",
                  "kind       expert: ", "file       rank-00001.safetensors, ", f"{WEIGHT}  F32 [48,32] expert\n  [0, "):
        assert words in text, words
    assert WEIGHT not in switchyard("inspect", runs / "two").stdout
    assert "tensors" not in answer("inspect", runs / "two")


# verify

@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_verify_reads_every_byte_of_a_whole_one(ranks, runs):
    told = answer("verify", runs / "two", ranks=ranks)
    files = [path.stat().st_size for path in step_dir(runs / "two").iterdir()]
    assert told == {"ok": True, "checkpoint": str(step_dir(runs / "two")), "bytes": sum(files), "problems": []}


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("file, at", [("manifest.json", 100), ("config.yaml", 3), ("meta.json", 0),
                                      ("rank-00000.safetensors", 0), ("rank-00001.safetensors", 30),
                                      ("rank-00001.safetensors", -1)])
def test_verify_names_a_flipped_byte(file, at, ranks, run):
    flip_byte(step_dir(run) / file, at)
    told = answer("verify", run, code=3, ranks=ranks)
    assert told["checkpoint"] == str(step_dir(run)), "not the one before it"
    assert len(told["problems"]) == 1 and file in told["problems"][0], told
    assert not told["ok"]


@pytest.mark.parametrize("ranks", [1, 2])
def test_verify_tells_every_fault(ranks, run):
    folder = step_dir(run)
    flip_byte_of(folder, WEIGHT)
    flip_byte_of(folder, WEIGHT + ".exp_avg")
    flip_byte(folder / "config.yaml", 0)
    shutil.copy(folder / "rank-00000.safetensors", folder / "rank-00002.safetensors")
    told = answer("verify", folder, code=3, ranks=ranks)
    for fault in f'tensor "{WEIGHT}", ', f'tensor "{WEIGHT}.exp_avg", ', "config.yaml: damaged", "rank-00002":
        assert sum(fault in problem for problem in told["problems"]) == 1, (fault, told)
    assert len(told["problems"]) == 4
    text = switchyard("verify", folder, ranks=ranks)
    assert text.returncode == 3 and f"{folder}: 4 faults; " in text.stdout


@pytest.mark.parametrize("damage, fault", [
    (lambda path: path.unlink(), "No such file"),
    (lambda path: os.truncate(path, 1000), "1000 bytes, the manifest says"),
    (lambda path: path.open("ab").write(b"x"), "bytes, the manifest says"),
    (lambda path: path.rename(path.with_name("x")) and path.symlink_to("x"), "a symbolic link"),
], ids=["missing", "cut", "grown", "linked"])
def test_verify_names_a_shard_that_is_not_the_one_written(damage, fault, run):
    damage(step_dir(run) / "rank-00001.safetensors")
    problems = answer("verify", run, code=3)["problems"]
    assert len(problems) == 1 and "rank-00001.safetensors" in problems[0] and fault in problems[0]


# diff

def test_the_same_run_twice_is_equal(runs):
    told = answer("diff", runs / "two", runs / "again")
    assert told["equal"] and told["tensors"] == [] and told["fields"] == []
    assert switchyard("diff", runs / "two", runs / "again").stdout == "equal\n"


def test_layouts_of_equal_tensors_are_equal(tmp_path):
    saved = [save_sample(tmp_path / str(world), world) for world in (1, 2, 3)]
    assert answer("diff", saved[0], saved[1])["equal"]
    assert answer("diff", saved[2], saved[0], ranks=2)["equal"]


def test_a_run_on_another_layout_differs_by_rounding(runs):
    told = answer("diff", runs / "one", runs / "two", code=1)
    assert told["fields"] == [] and told["mismatches"] == [] and told["only_in_first"] == []
    assert 0 < told["max_difference"] < 1e-3
    assert told["max_difference"] == told["tensors"][0]["max_difference"]
    text = switchyard("diff", runs / "one", runs / "two").stdout
    assert text.count(" elements  ") == 20 and f"... and {len(told['tensors']) - 20} more\n" in text
    assert text.endswith(f"{len(told['tensors'])} tensors differ in value\n")


def test_diff_agrees_with_numpy_on_any_number_of_ranks(runs):
    import numpy

    def tensors(folder):
        manifest = json.loads((folder / "manifest.json").read_text())
        files = {name: (folder / name).read_bytes() for name in manifest["shards"]}
        types = {"F32": numpy.float32, "F64": numpy.float64, "I64": numpy.int64}
        return {t["name"]: numpy.frombuffer(
            b"".join(files[s["file"]][s["offset"]:s["offset"] + s["bytes"]] for s in t["slices"]), types[t["dtype"]])
            for t in manifest["tensors"]}

    here, there = tensors(step_dir(runs / "two", 5)), tensors(step_dir(runs / "two", 20))
    expected = {name: (float(numpy.abs(here[name].astype(float) - there[name].astype(float)).max()),
                       int((here[name] != there[name]).sum()), here[name].size) for name in here}
    for ranks in 1, 3:
        told = answer("diff", step_dir(runs / "two", 5), runs / "two", code=1, ranks=ranks)
        found = {t["name"]: (t["max_difference"], t["differing"], t["elements"]) for t in told["tensors"]}
        assert found == {name: row for name, row in expected.items() if row[1]}
        assert [t["max_difference"] for t in told["tensors"]] == sorted(
            (t["max_difference"] for t in told["tensors"]), reverse=True)
        fields = {f["name"]: (f["first"], f["second"]) for f in told["fields"]}
        assert fields["step"] == (5, 20) and fields["cursor"] == (40, 160)
        assert fields["state/tokens"] == (5 * 256, 20 * 256) and fields["state/updates"] == (5, 20)


def test_tensors_of_another_model_are_listed(runs, tmp_path, data):
    train_tiny(tmp_path, data, "other", train__steps=1, moe__num_experts=5, model__intermediate_size=128)
    told = answer("diff", runs / "one", tmp_path / "other", code=1)
    assert told["only_in_first"] == []
    assert "model.layers.1.mlp.experts.4.up_proj.weight" in told["only_in_second"]
    shapes = {m["name"]: (m["first"]["shape"], m["second"]["shape"]) for m in told["mismatches"]}
    assert shapes["model.layers.0.mlp.up_proj.weight"] == ([64, 32], [128, 32])
    assert "only in " in switchyard("diff", runs / "one", tmp_path / "other").stdout


def test_diff_refuses_a_damaged_side(run, runs):
    flip_byte_of(step_dir(run), WEIGHT)
    done = switchyard("diff", step_dir(run), runs / "again")
    assert done.returncode == 3 and done.stdout == ""
    assert WEIGHT in done.stderr and "damaged" in done.stderr


# gc

def test_gc_keeps_the_newest_and_says_why(run):
    done = switchyard("gc", run, "--keep", 2)
    assert done.returncode == 0, done.stderr
    assert steps(run) == ["step-00000015", "step-00000020"]
    assert done.stdout.splitlines() == [f"deleted {step_dir(run, 5)}", f"deleted {step_dir(run, 10)}",
                                        f"kept    {step_dir(run, 20)}: one of the newest 2",
                                        f"kept    {step_dir(run, 15)}: one of the newest 2"]
    assert answer("verify", run)["ok"]


def test_gc_never_leaves_only_damaged_ones(run):
    for step in 20, 15:
        flip_byte_of(step_dir(run, step), WEIGHT)
    done = switchyard("gc", run, "--keep", 1)
    assert done.returncode == 0, done.stderr
    assert steps(run) == ["step-00000010", "step-00000015", "step-00000020"]
    assert done.stdout.count(": damaged: ") == 2 and "step-00000010: one of the newest 1" in done.stdout
    flip_byte_of(step_dir(run, 10), WEIGHT)
    switchyard("gc", run, "--keep", 1)
    assert steps(run) == ["step-00000010", "step-00000015", "step-00000020"]


def test_gc_deletes_only_what_a_save_has_written(run):
    checkpoints = run / "checkpoints"
    (checkpoints / ("step-00000025.tmp-" + "0" * 32)).mkdir()
    (checkpoints / ("step-00000026.tmp-" + "1" * 32)).symlink_to(step_dir(run, 5))
    (checkpoints / "step-00000003").mkdir()
    (checkpoints / "step-00000003/manifest.json").write_text("{}")
    (checkpoints / "mine").mkdir()
    (checkpoints / "mine/model.bin").write_bytes(b"precious")
    step_dir(run, 5).rename(run / "elsewhere")
    step_dir(run, 5).symlink_to("../elsewhere")
    (step_dir(run, 10) / "notes.txt").write_text("the good one")
    before = files_in(run)
    done = switchyard("gc", checkpoints, "--keep", 1)
    assert done.returncode == 0, done.stderr
    gone = sorted(set(before) - set(files_in(run)))
    assert [name for name in gone if name.count("/") == 1] == [
        "checkpoints/step-00000015", "checkpoints/step-00000025.tmp-" + "0" * 32]
    for words in ("left by a save", "step-00000010: holds notes.txt", "step-00000005: a symbolic link",
                  "step-00000003: damaged, or not ours", "mine: not a checkpoint's name"):
        assert words in done.stdout, done.stdout
    assert (run / "elsewhere/manifest.json").exists()


@pytest.mark.parametrize("argument", [".", "checkpoints", "checkpoints/"])
def test_gc_refuses_while_a_job_runs_there(argument, run):
    with (run / "lock").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = switchyard("gc", run / argument, "--keep", 1)
    assert done.returncode == 3 and str(run / "lock") in done.stderr, done.stderr
    assert len(steps(run)) == 4
    assert switchyard("gc", run / argument, "--keep", 1).returncode == 0
    assert len(steps(run)) == 1


@pytest.mark.parametrize("arguments, code, message", [
    (["gc", "RUN", "--keep", "0"], 2, "--keep: must be at least 1"),
    (["gc", "RUN", "--keep", "-3"], 2, "--keep: must be at least 1"),
    (["gc", "RUN"], 2, "--keep is required"),
    (["gc", "RUN/nothing", "--keep", "1"], 3, "no such folder"),
    (["inspect", "RUN/nothing"], 3, "no checkpoint in RUN/nothing"),
    (["inspect", "RUN/checkpoints/step-00000007"], 3, "cannot open RUN/checkpoints/step-00000007/manifest.json"),
    (["verify", "RUN/nothing"], 3, "no checkpoint in RUN/nothing"),
    (["diff", "RUN"], 2, "second is required"),
    (["diff", "RUN", "RUN/nothing"], 3, "no checkpoint in RUN/nothing"),
    (["plan", str(TINY)], 2, "model.vocab_size"),
    (["plan", str(TINY), "--ranks", "0"], 2, "--ranks"),
    (["plan", str(TINY), "--ranks", "2"], 2, "model.vocab_size"),
    (["plan", str(TINY), "--ranks", "3", "--set", "parallel.expert=2"], 2, "parallel.expert"),
    (["plan", "RUN/none.yaml", "--ranks", "2"], 3, "RUN/none.yaml"),
])
def test_wrong_arguments(arguments, code, message, run):
    before = files_in(run)
    done = switchyard(*[word.replace("RUN", str(run)) for word in arguments])
    assert done.returncode == code, done.stdout + done.stderr
    assert message.replace("RUN", str(run)) in done.stderr
    assert done.stdout == "" and files_in(run) == before


# plan

@pytest.mark.parametrize("ranks, expert, stage", [(1, 1, 0), (2, 2, 1), (4, 2, 1), (4, 2, 0)])
def test_plan_tells_what_a_run_counts(ranks, expert, stage, runs):
    settings = {"parallel__expert": expert, "zero__stage": stage, "model__vocab_size": 320, "train__precision": "bf16",
                "train__micro_batch_size": 2}
    told = answer("plan", TINY, "--ranks", ranks, *sets(settings))
    kinds = answer("inspect", runs / "one")["kinds"]
    dense, experts = (kinds[kind]["parameters"] for kind in ("dense", "expert"))
    local, share = dense + experts // expert, -(-(dense + experts) // ranks)
    assert told["parameters_total"] == dense + experts
    assert told["parameters_active"] == dense + experts // 2, "two of four experts"
    held = {"parameters": 2 * local, "gradients": 4 * local, "optimizer": 12 * (share if stage else local)}
    assert {part: told["bytes_per_rank"][part] for part in held} == held
    text = switchyard("plan", TINY, "--ranks", ranks, *sets(settings)).stdout
    assert f"{told['parameters_total']:,}" in text and f"ZeRO-{stage}, bf16" in text


# All of them

def test_help_has_an_example():
    for command in "inspect", "verify", "diff", "gc", "plan":
        done = switchyard(command, "--help")
        assert done.returncode == 0 and f"switchyard {command} " in done.stdout.split("Examples:")[1]


def peak_bytes(*arguments):
    """The most memory that the command had."""
    process = subprocess.Popen([BINARY, *map(str, arguments)], stdout=subprocess.PIPE,
                               env={**os.environ, "OMP_NUM_THREADS": "1"})
    process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_maxrss * 1024


def test_memory_stays_far_below_the_size_of_a_checkpoint(tmp_path):
    mebibytes = 192
    subprocess.run([TOOL, "large", tmp_path / "checkpoints", str(mebibytes)], check=True)
    folder = tmp_path / "checkpoints/step-00000001"
    idle = peak_bytes("--version")
    for arguments in (["verify", folder], ["diff", folder, folder], ["inspect", folder, "--tensors"],
                      ["gc", tmp_path, "--keep", "1"]):
        assert peak_bytes(*arguments) - idle < mebibytes / 8 * 2**20, arguments
