"""Train the pair of models that Helix ships: a target, and a draft distilled from it meanwhile."""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from scripts import demo_data as data
from scripts import demo_questions as questions

# Depth grows while training: (share of the run, layers). A layer starts as the identity, so that
# growing changes no output, and the shallow beginning sees far more text in the same time.
DEPTHS = ((0.0, 5), (0.45, 10), (0.70, 20))
LONG_ROWS_FROM = 0.85
DECAY_FROM = 0.75
WARM_UP_TOKENS = 200_000
QUESTION_SHARE = 0.3
CROSS_ENTROPY_SHARE = 0.1


def model_config(hidden: int, inner: int, layers: int, heads: int, key_heads: int) -> LlamaConfig:
    """Describe a small Llama with heads of 64 and tied embeddings."""
    return LlamaConfig(
        vocab_size=data.VOCABULARY,
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_heads,
        head_dim=64,
        max_position_embeddings=data.CONTEXT,
        rope_theta=10000.0,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=0,
        attn_implementation="sdpa",
    )


TARGET = model_config(256, 704, 20, 4, 2)
DRAFT = model_config(192, 512, 2, 3, 1)


def new_model(config: LlamaConfig) -> Any:
    """Build a model whose layers all start as the identity."""
    model = LlamaForCausalLM(config)
    for layer in model.model.layers:
        nn.init.zeros_(layer.self_attn.o_proj.weight)
        nn.init.zeros_(layer.mlp.down_proj.weight)
    return model


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
            shapes: dict[torch.Size, list[Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    shapes.setdefault(parameter.shape, []).append(parameter)
            for shape, members in shapes.items():
                updates = []
                for parameter in members:
                    state = self.state[parameter]
                    if not state:
                        state["buffer"] = torch.zeros_like(parameter)
                    state["buffer"].lerp_(parameter.grad, 1 - group["momentum"])
                    updates.append(parameter.grad.lerp(state["buffer"], group["momentum"]))
                scale = group["lr"] * 0.2 * math.sqrt(max(shape))
                for parameter, update in zip(
                    members, orthogonalised(torch.stack(updates)), strict=True
                ):
                    parameter.mul_(1 - group["lr"] * group["decay"]).sub_(update, alpha=scale)


def orthogonalised(matrices: Tensor) -> Tensor:
    """Bring the singular values of a stack of matrices near one, by Newton-Schulz iteration."""
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        square = x @ x.mT
        x = 3.4445 * x + (-4.775 * square + 2.0315 * square @ square) @ x
    return x.mT if tall else x


class RowStream:
    """Rows of one kind of text, epoch after epoch, from a place that a checkpoint can hold."""

    def __init__(self, epoch_tokens: Callable[[int], data.Tokens], seed: int) -> None:
        self.epoch_tokens, self.seed = epoch_tokens, seed
        self.epoch, self.index, self.length = 0, 0, 0
        self.rows: data.Tokens | None = None

    def take(self, count: int, length: int) -> data.Tokens:
        """Return the next rows of a length; another length than before starts a new epoch."""
        if length != self.length and self.length:
            self.epoch, self.index, self.rows = self.epoch + 1, 0, None
        self.length = length
        taken = []
        while len(taken) < count:
            if self.rows is None:
                seed = self.seed * 1000 + self.epoch
                self.rows = data.shuffled_rows(self.epoch_tokens(seed), length, seed)
            if self.index == len(self.rows):
                self.epoch, self.index, self.rows = self.epoch + 1, 0, None
                continue
            taken.append(self.rows[self.index])
            self.index += 1
        return np.stack(taken)

    def place(self) -> list[int]:
        """Return the place to continue from."""
        return [self.epoch, self.index, self.length]

    def move(self, place: list[int]) -> None:
        """Continue from a place."""
        self.epoch, self.index, self.length = place
        self.rows = None


class Material:
    """The texts to train on and those held out, with the tokenizer trained on the former."""

    def __init__(self, work: Path, seed: int) -> None:
        train, held = data.split_files(data.library_files(data.stdlib_root()))
        every = questions.entries(train, held)
        self.known = [entry for entry in every if not entry.held]
        self.unknown = [entry for entry in every if entry.held]
        self.held_files = held
        folder = work / "tokenizer"
        if not folder.exists():
            texts = [*train.values(), *questions.conversations(self.known, seed)]
            data.train_tokenizer(texts).save_pretrained(folder)
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        code = data.encode_documents(self.tokenizer, list(train.values()))
        self.code_tokens = len(code)
        self.code = RowStream(lambda _: code, seed)
        self.questions = RowStream(self._question_epoch, seed)
        self.held_code = data.encode_documents(self.tokenizer, list(held.values()))
        asked = [questions.render([turn]) for turn in questions.rephrased(self.unknown)]
        again = [questions.render([turn]) for turn in questions.rephrased(self.known)]
        self.held_questions = data.encode_documents(self.tokenizer, asked)
        self.held_phrasings = data.encode_documents(self.tokenizer, again)

    def _question_epoch(self, seed: int) -> data.Tokens:
        rendered = questions.conversations(self.known, seed)
        return data.encode_documents(self.tokenizer, rendered)


def losses(target: Any, draft: Any, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the target's loss, the draft's mixed loss, and the draft's plain cross-entropy."""
    inputs, labels = rows[:, :-1], rows[:, 1:].reshape(-1, 1)
    size = data.VOCABULARY
    expected = F.log_softmax(target(input_ids=inputs, use_cache=False).logits.float(), -1)
    guessed = F.log_softmax(draft(input_ids=inputs, use_cache=False).logits.float(), -1)
    expected, guessed = expected.reshape(-1, size), guessed.reshape(-1, size)
    target_loss = -expected.gather(1, labels).mean()
    draft_loss = -guessed.gather(1, labels).mean()
    wanted = expected.detach()
    divergence = (wanted.exp() * (wanted - guessed)).sum(1).mean()
    mixed = CROSS_ENTROPY_SHARE * draft_loss + (1 - CROSS_ENTROPY_SHARE) * divergence
    return target_loss, mixed, draft_loss
