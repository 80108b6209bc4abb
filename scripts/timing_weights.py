"""Random weights that write text: the first layer chooses the next token, the later ones disturb its choice."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedConfig, Qwen3Config
from transformers.initialization import no_init_weights

from scripts.timing_tokenizer import FIRST_WORD_PIECE

SPECIAL: dict[str, Any] = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": None}
SHAPES: dict[str, PreTrainedConfig] = {
    "small": LlamaConfig(
        vocab_size=1024,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        **SPECIAL,
    ),
    "tinyllama": LlamaConfig(
        vocab_size=32000,
        hidden_size=2048,
        intermediate_size=5632,
        num_hidden_layers=22,
        num_attention_heads=32,
        num_key_value_heads=4,
        max_position_embeddings=4096,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        **SPECIAL,
    ),
    "qwen3-0.6b": Qwen3Config(
        vocab_size=151936,
        hidden_size=1024,
        intermediate_size=3072,
        num_hidden_layers=28,
        num_attention_heads=16,
        num_key_value_heads=8,
        head_dim=128,
        max_position_embeddings=4096,
        rope_parameters={"rope_type": "default", "rope_theta": 1000000.0},
        tie_word_embeddings=True,
        **SPECIAL,
    ),
}
REACH = 3
"""The first layer's heads look one, two or three tokens back, so that the next token hangs on the last four."""
FOCUS = 2.0
"""By how much a head's score for its own distance exceeds that of the tokens beside it."""
CONTENT = 0.3
"""Size of the part of queries and keys that depends on the token."""
ATTENTION = 2.0
"""Gain of the first layer's attention: what it adds weighs about as much as the token itself."""
GATE, THRESHOLD = 4.0, 1.8
"""A neuron of the first layer fires where a normal variable exceeds the threshold: about one in thirty."""
HEAD = 1.0
"""Standard deviation of the logits of the tokens that no neuron asks for."""


def new_target(config: PreTrainedConfig, seed: int) -> Any:
    """Build a target in float32; its later layers are at full strength, see `strengthen`."""
    model = _empty(config, torch.float32)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.fill_(1.0)
            else:
                parameter.normal_(0, parameter.shape[1] ** -0.5, generator=generator)
        _FirstLayer(model, generator).build()
    return model.eval()


def _empty(config: PreTrainedConfig, dtype: torch.dtype) -> Any:
    factory: Any = AutoModelForCausalLM
    with no_init_weights():
        model = factory.from_config(copy.deepcopy(config), dtype=dtype)
    # Left undone with the initialisation.
    model.tie_weights()
    return model


def later_outputs(model: Any) -> Iterator[Parameter]:
    """Yield the matrices through which the layers after the first add to the hidden state."""
    for layer in model.model.layers[1:]:
        yield layer.self_attn.o_proj.weight
        yield layer.mlp.down_proj.weight


@torch.no_grad()
def strengthen(model: Any, factor: float) -> None:
    """Multiply what the layers after the first add to the hidden state."""
    for weight in later_outputs(model):
        weight.mul_(factor)


def draft_of(target: Any, num_layers: int) -> Any:
    """Return the target's embedding, first layers, norm and head as a model of its own that shares the weights."""
    config = copy.deepcopy(target.config)
    config.num_hidden_layers = num_layers
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:num_layers]
    draft = _empty(config, target.dtype)
    kept = draft.state_dict().keys()
    draft.load_state_dict({name: held for name, held in target.state_dict().items() if name in kept}, assign=True)
    draft.tie_weights()
    return draft.eval()


class _FirstLayer:
    """Makes the first layer a random function of the last few tokens, with a clear winner at almost every position.

    All embeddings share a direction. Through it, the constant part of queries and keys lets a head look a fixed
    distance back, and the gates get a threshold, for which a Llama has no bias. Each neuron of the MLP asks for a token
    of its own: its output is that token's row of the head.
    """

    def __init__(self, model: Any, generator: torch.Generator) -> None:
        self.model, self.config, self.generator = model, model.config, generator
        self.layer = model.model.layers[0]
        self.hidden: int = model.config.hidden_size
        signs = torch.randint(0, 2, (self.hidden,), generator=generator)
        self.shared = 2.0 * signs - 1

    def build(self) -> None:
        rows = self._rows()
        if self.config.tie_word_embeddings:
            self.model.lm_head.weight.copy_(rows + self.shared)
        else:
            self.model.lm_head.weight.copy_(rows)
            self.model.model.embed_tokens.weight.copy_(self._unshared(self._normal(*rows.shape)) + self.shared)
        self.model.model.norm.weight.fill_(HEAD / math.sqrt(self.hidden))
        self._aim_heads()
        self._set_neurons(rows)

    def _rows(self) -> Tensor:
        """The head: a random row for each token, and next to nothing for those that are no text."""
        rows = self._unshared(self._normal(self.config.vocab_size, self.hidden))
        rows[:FIRST_WORD_PIECE] *= 0.01
        return rows

    def _normal(self, *size: int) -> Tensor:
        return torch.randn(size, generator=self.generator)

    def _unshared(self, rows: Tensor) -> Tensor:
        """Remove the shared direction from the rows."""
        return rows.addmm_((rows @ self.shared)[:, None], self.shared[None], alpha=-1 / self.hidden)

    def _aim_heads(self) -> None:
        """Let each head attend to the tokens around a fixed distance, whatever they are."""
        attention, config = self.layer.self_attn, self.config
        size: int = attention.head_dim
        theta = config.rope_parameters["rope_theta"]
        frequencies = theta ** (-torch.arange(0, size, 2) / size)
        amplitude = math.sqrt(FOCUS * 2 / math.sqrt(size) / float((1 - frequencies.cos()).mean()))
        heads = torch.arange(config.num_attention_heads)
        turned = (heads % REACH + 1)[:, None] * frequencies
        queries = torch.cat([turned.cos(), -turned.sin()], 1)
        keys = torch.cat([torch.ones_like(frequencies), torch.zeros_like(frequencies)])
        # A token's share in the shared direction, after the norm: half of the variance of its embedding.
        projection = self.shared / self.hidden * math.sqrt(2)
        attention.q_proj.weight.mul_(CONTENT).add_(torch.outer(amplitude * queries.flatten(), projection))
        keys = keys.repeat(config.num_key_value_heads)
        attention.k_proj.weight.mul_(CONTENT).add_(torch.outer(amplitude * keys, projection))
        if hasattr(attention, "q_norm"):
            attention.q_norm.weight.fill_(amplitude / math.sqrt(2))
            attention.k_norm.weight.fill_(amplitude / math.sqrt(2))
        self._unshared(attention.v_proj.weight)
        attention.o_proj.weight.mul_(ATTENTION)

    def _set_neurons(self, rows: Tensor) -> None:
        """Give every neuron a threshold and a token to ask for."""
        mlp = self.layer.mlp
        projection = self.shared / self.hidden * 1.5
        self._unshared(mlp.up_proj.weight)
        self._unshared(mlp.gate_proj.weight).sub_(THRESHOLD * projection).mul_(GATE)
        printable = torch.randperm(len(rows) - FIRST_WORD_PIECE, generator=self.generator) + FIRST_WORD_PIECE
        asked = printable[torch.arange(self.config.intermediate_size) % len(printable)]
        mlp.down_proj.weight.copy_(rows[asked].T)
