"""Parity with transformers' Mixtral: logits, router logits, losses, gradients, training steps."""

import pytest
import torch
from transformers import MixtralConfig, MixtralForCausalLM
from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

AUX_COEF = 0.02

CONFIG = """
data: {{path: unused, sequence_length: {sequence}}}
model:
  vocab_size: {vocab}
  hidden_size: {hidden}
  num_hidden_layers: {layers}
  num_attention_heads: {heads}
  num_key_value_heads: {kv_heads}
  head_dim: {head_dim}
  rope_theta: 10000.0
  rms_norm_eps: 1.0e-5
  tie_word_embeddings: {tied}
moe:
  num_experts: {experts}
  top_k: {top_k}
  expert_intermediate_size: {width}
  balance: {{type: hf, coef: 0.02, scope: global}}
  z_loss: {{coef: 0.0}}
optim: {{lr: 1.0e-3, weight_decay: 0.1, grad_clip: 1.0, schedule: {{type: constant, warmup_steps: 0}}}}
train: {{steps: 20, global_batch_size: {batch}, micro_batch_size: {batch}, precision: fp32}}
"""

SHAPES = {
    "grouped_queries": dict(vocab=96, hidden=32, layers=2, heads=4, kv_heads=2, head_dim=8, experts=4, top_k=2,
                            width=48, sequence=16, batch=3, tied="false"),
    "head_dim_free": dict(vocab=101, hidden=24, layers=3, heads=3, kv_heads=1, head_dim=16, experts=6, top_k=3,
                          width=20, sequence=9, batch=2, tied="false"),
    "tied_top1": dict(vocab=64, hidden=32, layers=1, heads=2, kv_heads=2, head_dim=16, experts=8, top_k=1,
                      width=16, sequence=12, batch=2, tied="true"),
}


def reference_model(shape, seed=0):
    torch.manual_seed(seed)
    config = MixtralConfig(
        vocab_size=shape["vocab"], hidden_size=shape["hidden"], num_hidden_layers=shape["layers"],
        num_attention_heads=shape["heads"], num_key_value_heads=shape["kv_heads"], head_dim=shape["head_dim"],
        intermediate_size=shape["width"], num_local_experts=shape["experts"], num_experts_per_tok=shape["top_k"],
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0}, rms_norm_eps=1e-5, sliding_window=None,
        tie_word_embeddings=shape["tied"] == "true", attention_dropout=0.0, initializer_range=0.1)
    model = MixtralForCausalLM(config)
    model.set_attn_implementation("eager")
    return model


def native(tensors):
    """transformers' in-memory names to ours: experts are fused there and one by one here."""
    out = {}
    for name, x in tensors.items():
        if name.endswith("experts.gate_up_proj"):
            for e in range(x.shape[0]):
                gate, up = x[e].chunk(2)
                out[name.replace("gate_up_proj", f"{e}.gate_proj.weight")] = gate.contiguous()
                out[name.replace("gate_up_proj", f"{e}.up_proj.weight")] = up.contiguous()
        elif name.endswith("experts.down_proj"):
            for e in range(x.shape[0]):
                out[name.replace("down_proj", f"{e}.down_proj.weight")] = x[e].contiguous()
        else:
            out[name] = x.contiguous()
    return out


def weights_of(model):
    tensors = {k: v.detach().clone() for k, v in model.state_dict().items()}
    if model.config.tie_word_embeddings:
        tensors.pop("lm_head.weight", None)
    return native(tensors)


def reference_losses(model, shape, tokens):
    output = model(input_ids=tokens[:, :-1], output_router_logits=True)
    targets = tokens[:, 1:].reshape(-1)
    loss = torch.nn.functional.cross_entropy(output.logits.reshape(-1, shape["vocab"]), targets)
    aux = load_balancing_loss_func(output.router_logits, shape["experts"], shape["top_k"])
    return output, loss, aux


def random_tokens(shape, *sizes):
    return torch.randint(shape["vocab"], (*sizes, shape["batch"], shape["sequence"] + 1),
                         generator=torch.Generator().manual_seed(1))


def relative(ours, theirs):
    return ((ours - theirs).norm() / theirs.norm().clamp_min(1e-12)).item()


@pytest.mark.parametrize("name", SHAPES)
def test_logits_losses_and_gradients(name, probe_model):
    shape = SHAPES[name]
    model = reference_model(shape)
    tokens = random_tokens(shape)
    output, loss, aux = reference_losses(model, shape, tokens)
    (loss + AUX_COEF * aux).backward()

    ours = probe_model(CONFIG.format(**shape), {**weights_of(model), "tokens": tokens})

    torch.testing.assert_close(ours["logits"], output.logits.reshape(-1, shape["vocab"]).detach(), rtol=1e-5, atol=1e-5)
    for l, router_logits in enumerate(output.router_logits):
        torch.testing.assert_close(ours[f"router_logits.{l}"], router_logits.detach(), rtol=1e-5, atol=1e-5)
    assert ours["loss"].item() == pytest.approx(loss.item(), rel=1e-5)
    assert ours["aux_loss"].item() == pytest.approx(aux.item(), rel=1e-5)
    gradients = native({k: p.grad for k, p in model.named_parameters()})
    for parameter, theirs in gradients.items():
        assert relative(ours["gradient." + parameter], theirs) <= 1e-5, parameter


def test_twenty_training_steps(probe_model):
    shape = SHAPES["grouped_queries"]
    model = reference_model(shape)
    tokens = random_tokens(shape, 20)
    start = weights_of(model)
    decayed = [p for p in model.parameters() if p.dim() >= 2]
    plain = [p for p in model.parameters() if p.dim() < 2]
    optimizer = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}],
                                  lr=1e-3, betas=(0.9, 0.95), eps=1e-8)
    losses = []
    for step in range(20):
        _, loss, aux = reference_losses(model, shape, tokens[step])
        optimizer.zero_grad()
        (loss + AUX_COEF * aux).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())

    ours = probe_model(CONFIG.format(**shape), {**start, "tokens": tokens})

    torch.testing.assert_close(ours["losses"], torch.tensor(losses), rtol=1e-4, atol=0.0)
    assert losses[-1] != pytest.approx(losses[0], rel=1e-3), "the weights must have moved for this to mean anything"
