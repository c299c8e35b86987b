"""Upcycled from a Hugging Face folder into one: transformers gives the mixture the dense model's logits."""

import json

import pytest
import torch
from hf_folders import ok
from runs import switchyard
from tiny_models import save_tiny
from transformers import AutoModelForCausalLM

TOKENS = torch.randint(3, 97, (2, 20), generator=torch.Generator().manual_seed(4))

# From, into: how.
PAIRS = {
    ("llama", "mixtral"): ("--num-experts", 4, "--top-k", 2),
    ("llama_half", "mixtral"): ("--num-experts", 5, "--top-k", 3),
    ("mistral", "mixtral"): ("--granularity", 2, "--num-experts", 8, "--top-k", 4),
    ("qwen3", "qwen3_moe"): ("--granularity", 4, "--num-experts", 8, "--top-k", 4),
    ("qwen3_window", "qwen3_moe"): ("--num-experts", 4, "--top-k", 1, "--layers", "1"),
    ("qwen3", "glm4_moe"): ("--num-experts", 4, "--top-k", 2, "--layers", "1", "--shared-expert"),
    ("qwen2", "qwen2_moe"): ("--num-experts", 4, "--top-k", 2, "--shared-expert"),
}


def upcycle(source, out, *flags):
    return ok("upcycle", "--from", source, "--out", out, "--json", *flags)


def logits(folder):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        return model(TOKENS).logits, model


@pytest.mark.parametrize("name, family", PAIRS)
def test_C6_1_the_mixtures_logits_are_the_dense_models(name, family, tmp_path):
    dense = save_tiny(name, tmp_path / "dense")
    done = upcycle(dense, tmp_path / "moe", "--format", family, *PAIRS[name, family])
    receipt = json.loads(done.stdout)
    before, _ = logits(dense)
    after, model = logits(tmp_path / "moe")
    assert model.config.model_type == family
    # A mixture of 16-bit weights is the same numbers: what differs is the order of sums.
    assert (after - before).abs().max().item() <= 1e-5 * max(1.0, before.abs().max().item())
    assert receipt["max_logit_difference"] <= 1e-5 * max(1.0, before.abs().max().item())
    assert abs(receipt["loss_after"] - receipt["loss_before"]) <= 1e-5


def test_what_a_family_cannot_express_is_refused_before_anything_is_computed(tmp_path):
    dense = save_tiny("llama", tmp_path / "dense")
    done = switchyard("upcycle", "--from", dense, "--out", tmp_path / "moe", "--format", "mixtral", "--num-experts", 4,
                      "--top-k", 2, "--shared-expert")
    assert done.returncode == 2, done.stderr
    assert "shared expert" in done.stderr and not (tmp_path / "moe").exists()
    done = switchyard("upcycle", "--from", dense, "--out", tmp_path / "moe", "--format", "mixtral", "--num-experts", 4,
                      "--top-k", 2, "--optimizer-state", "carry")
    assert done.returncode == 2 and "no place for moments" in done.stderr


def test_a_folder_into_a_checkpoint_and_out_again(tmp_path):
    """Switchyard's own format keeps what came with the folder, and the receipt reaches the model card."""
    dense = save_tiny("llama", tmp_path / "dense")
    upcycle(dense, tmp_path / "moe", "--num-experts", 4, "--top-k", 2)
    ok("export", "--checkpoint", tmp_path / "moe", "--out", tmp_path / "out")
    before, after = logits(dense)[0], logits(tmp_path / "out")[0]
    assert (after - before).abs().max().item() <= 1e-5 * max(1.0, before.abs().max().item())
    assert '"max_logit_difference"' in (tmp_path / "out/README.md").read_text()
