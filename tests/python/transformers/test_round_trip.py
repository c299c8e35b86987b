"""Import and export of every family: the same bytes, and folders that both versions of transformers load alike."""

import json

import pytest
import tokenizers
import torch
from hf_folders import VERSIONS, assert_every_key_fits, load_with, ok, raw_tensors, side_by_side
from runs import TEXT, switchyard
from safetensors.torch import load_file
from tiny_models import COMMON, MODELS, save_tiny, save_tokenizer

# How some are stored, otherwise than in float32 in one file: the dtype, and the most bytes of a file.
STORED = {
    "llama_tied_llama3": ("bfloat16", "20KB"), "llama_half": ("float16", "1GB"), "mistral_window": ("bfloat16", "1GB"),
    "qwen2": ("float32", "15KB"), "qwen3_window": ("bfloat16", "15KB"), "mixtral": ("float32", "30KB"),
    "mixtral_top1": ("bfloat16", "1GB"), "qwen2_moe_sum1": ("float16", "20KB"), "qwen3_moe": ("float32", "30KB"),
    "qwen3_moe_dense": ("bfloat16", "1GB"), "olmoe_sum1": ("float16", "1GB"), "glm4_moe": ("float32", "30KB"),
    "glm4_moe_groups": ("bfloat16", "1GB"),
}
# One of each family has a tokenizer, and room for its tokens.
WITH_TOKENIZER = [name for name, (family, *_) in MODELS.items() if name == family]
SENTENCE = "It is a truth <|user|> universally  acknowledged,\n caf\u00e9 \u65e5\u672c 1813<|endoftext|>"
TOKENS = torch.randint(3, COMMON["vocab_size"], (2, 21), generator=torch.Generator().manual_seed(1)).tolist()




@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """Where the models are: as transformers saved them, imported, exported."""
    folder = tmp_path_factory.mktemp("models")
    for name in MODELS:
        dtype, shard = STORED.get(name, ("float32", "1GB"))
        room = {"vocab_size": 300} if name in WITH_TOKENIZER else {}
        save_tiny(name, folder / "source" / name, dtype, shard, **room)
        if name in WITH_TOKENIZER:
            save_tokenizer(folder / "source" / name, TEXT.read_text())

    def there_and_back(name):
        ok("import", "--from", folder / "source" / name, "--out", folder / "imported" / name)
        ok("export", "--checkpoint", folder / "imported" / name, "--out", folder / "exported" / name,
           "--shard-size", "30KB" if STORED.get(name, "")[1:] == ("30KB",) else "5GB")

    side_by_side(there_and_back, MODELS)
    return folder


@pytest.fixture(scope="session")
def loaded(folders, tmp_path_factory):
    """{version: (reports, logits)} of the exported folders, and of "source" by 5.23.0, which saved them."""
    out = tmp_path_factory.mktemp("loaded")

    def load(which):
        folder, version = ("source", "5.23.0") if which == "source" else ("exported", which)
        jobs = {name: {"folder": folders / folder / name, "tokens": TOKENS,
                       "text": SENTENCE if name in WITH_TOKENIZER else None} for name in MODELS}
        return load_with(version, jobs, out / which)

    whiches = ["source", *VERSIONS]
    return dict(zip(whiches, side_by_side(load, whiches)))


def test_every_family_is_there():
    assert {family for family, *_ in MODELS.values()} == set(WITH_TOKENIZER) and len(WITH_TOKENIZER) == 9
    assert set(STORED) < set(MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_tensors_are_byte_identical(name, folders):
    source, exported = raw_tensors(folders / "source" / name), raw_tensors(folders / "exported" / name)
    assert len(source) > 10 and exported == source


@pytest.mark.parametrize("name", MODELS)
def test_the_config_says_the_same_to_both(name, folders):
    source, exported = (json.loads((folders / which / name / "config.json").read_text()) for which in ("source", "exported"))
    for key in ("model_type", "architectures", "bos_token_id", "eos_token_id", "pad_token_id", "max_position_embeddings",
                "vocab_size", "tie_word_embeddings", "hidden_act"):
        assert exported[key] == source[key], key
    assert exported["dtype"] == exported["torch_dtype"] == source["dtype"]
    assert exported["rope_theta"] == exported["rope_parameters"]["rope_theta"] == source["rope_parameters"]["rope_theta"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", MODELS)
def test_loads_and_computes_the_same(name, version, loaded):
    reports, logits = loaded[version]
    assert_every_key_fits(reports[name])
    source, source_logits = loaded["source"]
    assert reports[name]["class"] == source[name]["class"] and reports[name]["dtype"] == source[name]["dtype"]
    expected = source_logits[name]
    assert expected.std() > 0.05, "logits that do not differ prove nothing"
    torch.testing.assert_close(logits[name], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", WITH_TOKENIZER)
def test_the_tokenizer_travels(name, version, loaded, folders):
    report = loaded[version][0][name]["tokenizer"]
    reference = tokenizers.Tokenizer.from_file(str(folders / "source" / name / "tokenizer.json"))
    assert report["ids"] == reference.encode(SENTENCE, add_special_tokens=False).ids
    assert report["text"] == SENTENCE and report["eos"] == COMMON["eos_token_id"]
    assert report["chat"] == "<|user|>Hi<|endoftext|>"


def test_a_folder_has_what_is_needed(folders):
    sharded, plain = folders / "exported/mixtral", folders / "exported/olmoe_sum1"
    index = json.loads((sharded / "model.safetensors.index.json").read_text())
    tensors = raw_tensors(sharded)
    assert index["weight_map"].keys() == tensors.keys()
    assert index["metadata"]["total_size"] == sum(len(bytes_) for _, _, bytes_ in tensors.values())
    for path in sharded.glob("*.safetensors"):
        assert path.stat().st_size < 40_000 and path.name in index["weight_map"].values()
    text_files = {"config.json", "generation_config.json", "README.md"}
    assert {path.name for path in plain.iterdir()} == {"model.safetensors", *text_files}
    assert {path.name for path in sharded.iterdir()} == {
        *text_files, "model.safetensors.index.json", *index["weight_map"].values(), "tokenizer.json",
        "tokenizer_config.json", "chat_template.jinja"}
    assert json.loads((sharded / "tokenizer_config.json").read_text())["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert "No training step was taken" in (plain / "README.md").read_text()


def test_export_takes_a_folder_as_it_is(folders, tmp_path):
    """Without import; and again, from what it wrote."""
    for name in ("llama_tied_llama3", "glm4_moe_groups"):
        ok("export", "--checkpoint", folders / "source" / name, "--out", tmp_path / name)
        ok("export", "--checkpoint", tmp_path / name, "--out", tmp_path / f"{name}2")
        assert raw_tensors(tmp_path / name) == raw_tensors(tmp_path / f"{name}2") == raw_tensors(folders / "source" / name)
        assert (tmp_path / name / "config.json").read_text() == (tmp_path / f"{name}2" / "config.json").read_text()


@pytest.mark.parametrize("flag, dtype", [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_the_dtype_is_as_asked(flag, dtype, folders, tmp_path):
    """Rounded as torch rounds; the selection bias stays float32, as transformers keeps it."""
    for name in ("glm4_moe", "mixtral_top1", "llama_half"):
        out = tmp_path / name
        ok("export", "--checkpoint", folders / "imported" / name, "--out", out, "--dtype", flag)
        exported = load_file(out / "model.safetensors")
        for path in (folders / "source" / name).glob("*.safetensors"):
            for tensor, values in load_file(path).items():
                wanted = torch.float32 if "e_score_correction_bias" in tensor else dtype
                torch.testing.assert_close(exported.pop(tensor), values.to(wanted), rtol=0, atol=0)
        assert not exported
        config = json.loads((out / "config.json").read_text())
        assert config["dtype"] == config["torch_dtype"] == str(dtype).removeprefix("torch.")


def test_ranks_import_the_same(folders, tmp_path):
    ok("import", "--from", folders / "source/qwen3_moe", "--out", tmp_path / "imported", ranks=2)
    done = switchyard("diff", folders / "imported/qwen3_moe", tmp_path / "imported", "--json")
    difference = json.loads(done.stdout)
    assert difference["max_difference"] == 0 and not difference["only_in_first"] + difference["only_in_second"]
    assert switchyard("verify", tmp_path / "imported").returncode == 0
