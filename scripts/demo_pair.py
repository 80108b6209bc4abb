"""The demonstration pair while it learns: its two shapes, its losses and its optimizer."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM

from scripts.demo_data import CONTEXT, VOCABULARY, Material


def model_config(hidden: int, inner: int, layers: int, heads: int, key_heads: int) -> LlamaConfig:
    """Describe a small Llama with heads of 64 and tied embeddings."""
    return LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_heads,
        head_dim=64,
        max_position_embeddings=CONTEXT,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=0,
    )


TARGET = model_config(256, 704, 20, 4, 2)
DRAFT = model_config(192, 512, 2, 3, 1)


def new_model(config: LlamaConfig) -> Any:
    """Build a model whose layers all start as the identity."""
    # A copy, because training changes how many layers take part.
    model = LlamaForCausalLM(copy.deepcopy(config))
    for layer in model.model.layers:
        nn.init.zeros_(layer.self_attn.o_proj.weight)
        nn.init.zeros_(layer.mlp.down_proj.weight)
    return model


def next_token_loss(model: Any, rows: Tensor) -> Tensor:
    """Return the mean cross-entropy of a model over rows of text, in nats a token."""
    scores = model(input_ids=rows[:, :-1], use_cache=False).logits.float()
    return F.cross_entropy(scores.flatten(0, 1), rows[:, 1:].flatten())


@torch.no_grad()
def held_out_losses(model: Any, material: Material, limit: int) -> dict[str, float]:
    """Return a model's loss for each token on the first tokens of every held-out kind of text."""
    device = next(model.parameters()).device
    found: dict[str, float] = {}
    for kind, tokens in material.held_out.items():
        count = min(limit, len(tokens)) // (CONTEXT // 2 + 1)
        rows = torch.from_numpy(tokens[: count * (CONTEXT // 2 + 1)].reshape(count, -1)).to(device)
        found[kind] = round(sum(next_token_loss(model, row[None]).item() for row in rows) / count, 4)
    return found


class Muon(torch.optim.Optimizer):
    """Momentum with orthogonalised updates, in float32 and for all matrices of a shape at once.

    `torch.optim.Muon` iterates in bfloat16 and one matrix at a time, which a processor without
    bfloat16 instructions does many times slower.
    """

    def __init__(self, parameters: Iterable[Tensor], lr: float) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": 0.95, "decay": 0.02})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every matrix that has a gradient."""
        for group in self.param_groups:
            shapes: dict[torch.Size, list[tuple[Tensor, Tensor]]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    shapes.setdefault(parameter.shape, []).append((parameter, parameter.grad))
            for shape, members in shapes.items():
                updates: list[Tensor] = []
                for parameter, gradient in members:
                    state = self.state[parameter]
                    if not state:
                        state["buffer"] = torch.zeros_like(parameter)
                    state["buffer"].lerp_(gradient, 1 - group["momentum"])
                    updates.append(gradient.lerp(state["buffer"], group["momentum"]))
                scale = group["lr"] * 0.2 * math.sqrt(max(shape))
                for (parameter, _), update in zip(members, orthogonalised(torch.stack(updates)), strict=True):
                    parameter.mul_(1 - group["lr"] * group["decay"]).sub_(update, alpha=scale)


def orthogonalised(matrices: Tensor) -> Tensor:
    """Bring the singular values of a stack of matrices near one, by Newton-Schulz iteration."""
    tall = matrices.shape[-2] > matrices.shape[-1]
    x: Tensor = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        square = x @ x.mT
        x = 3.4445 * x + (-4.775 * square + 2.0315 * square @ square) @ x
    return x.mT if tall else x
