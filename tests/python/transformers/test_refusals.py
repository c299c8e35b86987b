"""What cannot be exported or imported is refused with the reason, and nothing is written."""

import pytest
from hf_folders import ok
from runs import TEXT, prepare, switchyard, train_tiny
from tiny_models import save_tiny


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    return prepare(TEXT, tmp_path_factory.mktemp("data") / "tiny")


def refused(code, *arguments):
    done = switchyard(*arguments)
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    return done.stderr


@pytest.fixture(scope="session")
def models(tmp_path_factory, data):
    """Folders of some families, and runs of a step that no family or only some can express."""
    folder = tmp_path_factory.mktemp("models")
    for name in ("llama", "mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "glm4_moe"):
        save_tiny(name, folder / name)
    for name, settings in {
        "gshard": dict(moe__router="{type: gshard}", moe__allow_noncausal="true", moe__layers="all"),
        "dense_first": dict(),
        "sigmoid": dict(moe__router="{score: sigmoid}", moe__shared_experts="{num: 1, intermediate_size: 48}"),
        "gelu": dict(model__ffn="gelu", moe__layers="none"),
        "capacity": dict(moe__layers="all", moe__capacity="{factor: 2.0, eval_factor: 2.0}"),
    }.items():
        train_tiny(folder, data, name, train__steps=1, train__eval_interval=0, **settings)
    return folder


# Model, --format, the reasons, the family that is proposed.
OTHERS = [
    ("qwen2_moe", "mixtral", ["the shared expert: Mixtral has none", "model.attention_bias: Mixtral has none",
                              "weights that do not sum to 1: Mixtral's always do (moe.router.normalize)"], "qwen2_moe"),
    ("qwen3_moe", "mixtral", ["model.qk_norm head: Mixtral's is none"], "qwen3_moe"),
    ("olmoe", "qwen3_moe", ["model.qk_norm full: Qwen3-MoE's is head"], "olmoe"),
    ("glm4_moe", "qwen3_moe", ["moe.router.score sigmoid: Qwen3-MoE's is softmax", "the shared expert: Qwen3-MoE has none",
                               "moe.router.selection_bias: Qwen3-MoE has none"], "glm4_moe"),
    ("mixtral", "glm4_moe", ["moe.router.score softmax: GLM4-MoE's is sigmoid", "no shared expert: GLM4-MoE always has one"],
     "mixtral"),
    ("mixtral", "llama", ["the mixture of experts: Llama is dense"], "mixtral"),
    ("mixtral", "qwen2_moe", ["no shared expert: Qwen2-MoE always has one"], "mixtral"),
    ("llama", "mixtral", ["no mixture of experts: Mixtral is one"], "llama"),
    ("llama", "qwen2", ["no model.attention_bias: Qwen2 always has it"], "llama"),
]
# Model, --format, a reason; nothing can be proposed.
NONE = [
    ("gshard", "auto", "moe.router.type gshard: Mixtral has none"),
    ("gshard", "mixtral", "moe.router.type gshard: Mixtral has none"),
    ("dense_first", "mixtral", "dense layers: Mixtral has none"),
    ("sigmoid", "glm4_moe", "no moe.router.selection_bias: GLM4-MoE always has one"),
    ("gelu", "llama", "model.ffn gelu: Llama's feed-forward has a gate"),
    ("capacity", "mixtral", "moe.capacity.eval_factor: Mixtral drops no tokens; set it to null"),
]


@pytest.mark.parametrize("model, family, reasons, proposed", OTHERS)
def test_another_family_is_proposed(model, family, reasons, proposed, models, tmp_path):
    message = refused(2, "export", "--checkpoint", models / model, "--format", family, "--out", tmp_path / "out")
    assert message.startswith(f"switchyard: the model cannot be written as {family}:\n"), message
    for reason in reasons:
        assert f"\n  {reason}" in message, message
    assert message.endswith(f"\nuse --format {proposed}, which can express it\n"), message
    assert not list(tmp_path.iterdir())
    done = ok("export", "--checkpoint", models / model, "--format", proposed, "--out", tmp_path / "out")
    assert done.stdout.startswith(f"{tmp_path}/out: {proposed}, "), "what is proposed works"


@pytest.mark.parametrize("model, family, reason", NONE)
def test_no_family_can(model, family, reason, models, tmp_path):
    message = refused(2, "export", "--checkpoint", models / model, "--format", family, "--out", tmp_path / "out")
    assert reason in message and "no Hugging Face family can express this model; the nearest are" in message, message
    assert ("cannot be written as" in message) == (family != "auto")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("flags, message", [
    (["--format", "deepseek"], "--format: `deepseek` is not one of auto, llama, mistral, qwen2, qwen3, mixtral, qwen2_moe, "
                               "qwen3_moe, olmoe, glm4_moe"),
    (["--dtype", "fp8"], "--dtype: `fp8` is not one of bf16, fp32"),
    (["--shard-size", "0GB"], "--shard-size: `0GB` is not a size"),
    (["--shard-size", "5"], "--shard-size: `5` is not a size"),
    (["--shard-size", "-5GB"], "--shard-size: `-5GB` is not a size"),
    (["--shard-size", "9999999999GB"], "--shard-size: `9999999999GB` is not a size"),
])
def test_flags(flags, message, models, tmp_path):
    assert message in refused(2, "export", "--checkpoint", models / "llama", "--out", tmp_path / "out", *flags)
    assert not list(tmp_path.iterdir())


def test_what_is_there_stays(models, tmp_path):
    """A folder, even an empty one, a file; a run for import."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full/model.safetensors").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for out in ("empty", "full", "full/", "file"):
        message = refused(2, "export", "--checkpoint", models / "llama", "--out", f"{tmp_path}/{out}")
        assert message == f"switchyard: --out: {tmp_path}/{out.rstrip('/')} is there already; name a new folder, or remove it\n"
    message = refused(2, "import", "--from", models / "llama", "--out", tmp_path / "full")
    assert message == f"switchyard: --out: {tmp_path}/full is there already; name a new folder, or remove it\n"
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == [
        "empty", "file", "full", "full/model.safetensors"]
    assert (tmp_path / "full/model.safetensors").read_text() == (tmp_path / "file").read_text() == "mine"


def test_what_is_no_model(models, data, tmp_path):
    refused(3, "export", "--checkpoint", tmp_path / "nowhere", "--out", tmp_path / "out")
    refused(3, "export", "--checkpoint", data, "--out", tmp_path / "out")
    for folder in (tmp_path / "nowhere", data, models / "gshard"):
        message = refused(3, "import", "--from", folder, "--out", tmp_path / "out")
        assert message == f"switchyard: {folder}: not a Hugging Face folder: it has no config.json\n"
    assert not list(tmp_path.iterdir())


def test_a_damaged_folder_leaves_nothing(tmp_path):
    """Each command opens it whole before it writes."""
    source = tmp_path / "source"
    save_tiny("glm4_moe", source)
    shard = max(source.glob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-8])
    for command, flag in (("import", "--from"), ("export", "--checkpoint")):
        assert str(shard) in refused(3, command, flag, source, "--out", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]
