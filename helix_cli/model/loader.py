"""Reads a checkpoint into a decoder, tensor by tensor: no second copy of the model is ever held."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from helix_cli.attention import Heads
from helix_cli.backend import Backend
from helix_cli.model.architecture import Architecture
from helix_cli.model.checkpoint import Checkpoint
from helix_cli.model.decoder import Decoder, Layer, Norm
from helix_cli.model.linear import Linear
from helix_cli.model.rope import RotaryTable


def load_decoder(directory: Path, architecture: Architecture, backend: Backend, dtype: torch.dtype) -> Decoder:
    """Loads the weights in `dtype` on the backend's device; raises ModelError for a checkpoint that does not fit."""
    with Checkpoint(directory) as checkpoint:
        return _Loader(checkpoint, architecture, backend, dtype).decoder()


class _Loader:
    """Names and shapes of a checkpoint, turned into layers."""

    def __init__(
        self, checkpoint: Checkpoint, architecture: Architecture, backend: Backend, dtype: torch.dtype
    ) -> None:
        self.checkpoint = checkpoint
        self.shape = architecture
        self.device = backend.device
        self.fused_attention = backend.fused_attention
        self.packed = backend.packed_linear
        self.dtype = dtype

    def decoder(self) -> Decoder:
        shape = self.shape
        embedding = self._tensor("model.embed_tokens.weight", shape.vocab_size, shape.hidden)
        tied = shape.tied or "lm_head.weight" not in self.checkpoint
        head = embedding if tied else self._tensor("lm_head.weight", shape.vocab_size, shape.hidden)
        return Decoder(
            architecture=shape,
            dtype=self.dtype,
            device=self.device,
            fused_attention=self.fused_attention,
            embedding=embedding,
            layers=tuple(self._layer(index) for index in range(shape.num_layers)),
            norm=self._norm("model.norm", shape.hidden),
            head=Linear(head, None, self.packed),
            rotary=RotaryTable(shape.rope, shape.rotary_dim, shape.context, self.dtype, self.device),
        )

    def _layer(self, index: int) -> Layer:
        shape, prefix = self.shape, f"model.layers.{index}"
        queries, keys = shape.num_heads * shape.head_dim, shape.num_kv_heads * shape.head_dim
        attention = f"{prefix}.self_attn"
        parts = {"q_proj": queries, "k_proj": keys, "v_proj": keys}
        gates = {"gate_proj": shape.intermediate, "up_proj": shape.intermediate}
        if shape.fused_projections:
            parts, gates = {"qkv_proj": queries + 2 * keys}, {"gate_up_proj": 2 * shape.intermediate}
        return Layer(
            heads=Heads(shape.num_heads, shape.num_kv_heads, shape.head_dim),
            window=shape.windows[index],
            input_norm=self._norm(f"{prefix}.input_layernorm", shape.hidden),
            qkv=self._fused(attention, parts, shape.hidden, shape.qkv_bias),
            query_norm=self._norm(f"{attention}.q_norm", shape.head_dim) if shape.qk_norm else None,
            key_norm=self._norm(f"{attention}.k_norm", shape.head_dim) if shape.qk_norm else None,
            output=self._fused(attention, {"o_proj": shape.hidden}, queries, shape.output_bias),
            mlp_norm=self._norm(f"{prefix}.post_attention_layernorm", shape.hidden),
            gate_up=self._fused(f"{prefix}.mlp", gates, shape.hidden, shape.mlp_bias),
            down=self._fused(f"{prefix}.mlp", {"down_proj": shape.hidden}, shape.intermediate, shape.mlp_bias),
        )

    def _fused(self, prefix: str, parts: dict[str, int], inputs: int, bias: bool) -> Linear:
        """One product for several matrices that read the same input; `parts` gives each one's outputs."""
        weights = [self._tensor(f"{prefix}.{name}.weight", outputs, inputs) for name, outputs in parts.items()]
        biases = [self._tensor(f"{prefix}.{name}.bias", outputs) for name, outputs in parts.items()] if bias else None
        return Linear(_join(weights), _join(biases) if biases else None, self.packed)

    def _norm(self, name: str, dim: int) -> Norm:
        return Norm(self._tensor(f"{name}.weight", dim), self.shape.eps)

    def _tensor(self, name: str, *shape: int) -> Tensor:
        return self.checkpoint.read(name, *shape).to(device=self.device, dtype=self.dtype)


def _join(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)
