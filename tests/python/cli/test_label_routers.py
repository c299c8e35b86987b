"""Routers that decide by a token's id, its domain or a draw, from prepared text to generation, on several layouts."""

import collections
import json
import struct

import pytest
from conftest import TEXT, prepare, switchyard, tensors, train_tiny

HASH = {"moe__router": "{type: hash, hash: {method: balanced}}", "moe__top_k": 1, "moe__balance": "[]"}
SEQUENCE = "{type: sequence, sequence: {clusters: 2, embedding_size: 8, temperature: 0.5}}"
UNIVERSAL = "{num: 1, intermediate_size: 16}"


@pytest.fixture(scope="module")
def domains(tmp_path_factory):
    """data.path of two domains: a novel, and the same in capitals."""
    folder = tmp_path_factory.mktemp("domains")
    loud = folder / "loud.txt"
    loud.write_text(TEXT.read_text().upper())
    paths = {"quiet": prepare(TEXT, folder / "quiet"), "loud": prepare(loud, folder / "loud_data")}
    return "[" + ", ".join(f"{{path: {path}, name: {name}, weight: 1}}" for name, path in paths.items()) + "]"


def tables(run, step):
    """Expert of each id, per layer."""
    found = {name: content for name, content in tensors(run / f"checkpoints/step-{step:08}").items()
             if name.endswith("gate.table")}
    return {name: struct.unpack(f"<{len(content) // 4}f", content) for name, content in found.items()}


def test_R4_balanced_table_is_made_once_of_the_training_data_and_kept(tmp_path, data):
    for name, ranks in (("one", 1), ("two", 2)):
        train_tiny(tmp_path, data, name, ranks=ranks, train__steps=4, checkpoint__interval=2, run__seed=3, **HASH)
    one, two = tables(tmp_path / "one", 4), tables(tmp_path / "two", 4)
    assert len(one) == 2 and one == two == tables(tmp_path / "one", 2)

    train_tiny(tmp_path, data, "two", ranks=1, train__steps=6, checkpoint__interval=2, run__seed=3, **HASH)
    assert tables(tmp_path / "two", 6) == one
    train_tiny(tmp_path, data, "seed", train__steps=1, checkpoint__interval=1, run__seed=4, **HASH)
    assert tables(tmp_path / "seed", 1) == one

    ids = struct.unpack(f"<{(data / 'train.bin').stat().st_size // 2}H", (data / "train.bin").read_bytes())
    counts = collections.Counter(ids)
    for table in one.values():
        load = collections.Counter()
        for token, count in counts.items():
            load[int(table[token])] += count
        assert sum(load.values()) == len(ids) and set(load) == {0, 1, 2, 3}
        assert max(load.values()) <= max(1.05 * len(ids) / 4, max(counts.values()))


def test_P1_evaluation_and_generation_are_told_the_domain(tmp_path, domains):
    settings = {"moe__router": "{type: domain}", "moe__top_k": 1, "moe__balance": "[]", "train__steps": 40}
    train_tiny(tmp_path, domains, "run", **settings)
    run, data = tmp_path / "run", domains.split("path: ")[1].split(",")[0]

    def evaluate(*flags, ranks=1):
        return switchyard("eval", "--checkpoint", run, "--data", data, "--json", *flags, ranks=ranks)

    refused = evaluate()
    assert refused.returncode == 2 and "name one: 0 (quiet), 1 (loud)" in refused.stderr
    assert evaluate("--domain", "silent").returncode == 2
    named, counted, other = (json.loads(evaluate("--domain", d).stdout)["loss"] for d in ("quiet", "0", "loud"))
    assert named == counted and named < other
    assert json.loads(evaluate("--domain", "quiet", ranks=2).stdout)["loss"] == pytest.approx(named, rel=1e-6)

    def generate(*flags, ranks=1):
        return switchyard("generate", "--checkpoint", run, "--prompt", "It is", "--temperature", 0,
                          "--max-new-tokens", 8, *flags, ranks=ranks)

    assert generate().returncode == 2
    quiet, loud = generate("--domain", "quiet"), generate("--domain", 1)
    assert quiet.returncode == loud.returncode == 0, quiet.stderr + loud.stderr
    assert quiet.stdout != loud.stdout
    assert generate("--domain", "quiet", ranks=2).stdout == quiet.stdout


def test_P1_more_domains_than_experts_are_refused(tmp_path, domains):
    done = train_tiny(tmp_path, domains, "run", check=False, moe__router="{type: domain}", moe__top_k=1,
                      moe__num_experts=1)
    assert done.returncode == 2 and "2 sources, each a domain, are more than moe.num_experts 1" in done.stderr


ROUTERS = {
    "R4_hash": {**HASH, "moe__top_k": 2, "moe__router": "{type: hash, hash: {method: balanced, parts: 2}}",
                "moe__capacity": "{factor: 1.0, min: 1}"},
    "P5_sequence": {"moe__router": SEQUENCE, "moe__top_k": 1, "moe__shared_experts": UNIVERSAL},
    "R6_reinforce": {"moe__router": "{type: reinforce}", "moe__top_k": 1},
    "P6_dense_training": {"moe__router": "{type: dense_training}"},
}


@pytest.mark.parametrize("name", ROUTERS)
def test_a_run_trains_and_generates(name, tmp_path, domains):
    train_tiny(tmp_path, domains, "run", **ROUTERS[name])
    done = switchyard("generate", "--checkpoint", tmp_path / "run", "--prompt", "It is", "--domain", 0,
                      "--max-new-tokens", 8)
    assert done.returncode == 0, done.stderr
