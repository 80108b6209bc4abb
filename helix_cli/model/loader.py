"""Reads a checkpoint into a decoder, tensor by tensor: no second copy of the model is ever held."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from helix_cli.attention import Heads
from helix_cli.backend import Backend
from helix_cli.errors import ModelError
from helix_cli.model.architecture import Architecture
from helix_cli.model.decoder import Decoder, Layer
from helix_cli.model.fields import DOWNLOAD_AGAIN
from helix_cli.model.linear import Linear
from helix_cli.model.norm import RMSNorm
from helix_cli.model.rope import RotaryTable, head_order
from helix_cli.model.weights import Weights

EMBEDDING, NORM, HEAD = "model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"
# Old checkpoints store the rotary frequencies too.
IGNORED = ("rotary_emb.inv_freq",)


def load_decoder(directory: Path, architecture: Architecture, backend: Backend, dtype: torch.dtype) -> Decoder:
    """Loads the weights in `dtype` on the backend's device; raises ModelError for a checkpoint that does not fit."""
    return _Loader(Weights(directory), architecture, backend, dtype).decoder()


def expected_tensors(shape: Architecture) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor that a checkpoint of this architecture holds; a tied head is not among them."""
    expected: dict[str, tuple[int, ...]] = {
        EMBEDDING: (shape.vocab_size, shape.hidden),
        NORM: (shape.hidden,),
    }
    if not shape.tied:
        expected[HEAD] = (shape.vocab_size, shape.hidden)
    for index in range(shape.num_layers):
        expected |= {f"model.layers.{index}.{name}": size for name, size in _layer_tensors(shape).items()}
    return expected


def _layer_tensors(shape: Architecture) -> dict[str, tuple[int, ...]]:
    heads, keys = shape.num_heads * shape.head_dim, shape.num_kv_heads * shape.head_dim
    tensors: dict[str, tuple[int, ...]] = {
        "input_layernorm.weight": (shape.hidden,),
        "post_attention_layernorm.weight": (shape.hidden,),
    }
    if shape.qk_norm:
        tensors |= {f"self_attn.{name}_norm.weight": (shape.head_dim,) for name in "qk"}
    if shape.fused_projections:
        tensors["self_attn.qkv_proj.weight"] = (heads + 2 * keys, shape.hidden)
        tensors["mlp.gate_up_proj.weight"] = (2 * shape.intermediate, shape.hidden)
    linears = _split_projections(shape, heads, keys) if not shape.fused_projections else {}
    linears["self_attn.o_proj"] = (shape.hidden, heads, shape.output_bias)
    linears["mlp.down_proj"] = (shape.hidden, shape.intermediate, shape.mlp_bias)
    for name, (rows, columns, has_bias) in linears.items():
        tensors[f"{name}.weight"] = (rows, columns)
        if has_bias:
            tensors[f"{name}.bias"] = (rows,)
    return tensors


def _split_projections(shape: Architecture, heads: int, keys: int) -> dict[str, tuple[int, int, bool]]:
    return {
        "self_attn.q_proj": (heads, shape.hidden, shape.qkv_bias),
        "self_attn.k_proj": (keys, shape.hidden, shape.qkv_bias),
        "self_attn.v_proj": (keys, shape.hidden, shape.qkv_bias),
        "mlp.gate_proj": (shape.intermediate, shape.hidden, shape.mlp_bias),
        "mlp.up_proj": (shape.intermediate, shape.hidden, shape.mlp_bias),
    }


class _Loader:
    """A checkpoint's tensors, turned into layers."""

    def __init__(self, weights: Weights, shape: Architecture, backend: Backend, dtype: torch.dtype) -> None:
        weights.require(expected_tensors(shape), (*IGNORED, HEAD) if shape.tied else IGNORED)
        self._weights = weights
        self._shape = shape
        self._heads = Heads(shape.num_heads, shape.num_kv_heads, shape.head_dim)
        self._backend = backend
        self._dtype = dtype
        self._order = self._qkv_order()

    def decoder(self) -> Decoder:
        shape, rope = self._shape, self._shape.rope
        embedding = self._read(EMBEDDING)
        return Decoder(
            architecture=shape,
            dtype=self._dtype,
            device=self._backend.device,
            fused_attention=self._backend.fused_attention,
            embedding=embedding,
            layers=tuple(self._layer(index) for index in range(shape.num_layers)),
            norm=self._norm(NORM),
            head=self._head(embedding),
            rotary=RotaryTable(rope.frequencies(), rope.magnitude, shape.head_dim, self._dtype, self._backend.device),
        )

    def _layer(self, index: int) -> Layer:
        prefix = f"model.layers.{index}"
        fused = self._shape.fused_projections
        qkv = ("qkv_proj",) if fused else ("q_proj", "k_proj", "v_proj")
        gate_up = ("gate_up_proj",) if fused else ("gate_proj", "up_proj")
        return Layer(
            index=index,
            heads=self._heads,
            window=self._shape.windows[index],
            attention_norm=self._norm(f"{prefix}.input_layernorm.weight"),
            qkv=self._linear([f"{prefix}.self_attn.{name}" for name in qkv], self._order),
            qk_norm=self._qk_norm(prefix) if self._shape.qk_norm else None,
            output=self._linear([f"{prefix}.self_attn.o_proj"]),
            mlp_norm=self._norm(f"{prefix}.post_attention_layernorm.weight"),
            gate_up=self._linear([f"{prefix}.mlp.{name}" for name in gate_up]),
            down=self._linear([f"{prefix}.mlp.down_proj"]),
        )

    def _linear(self, names: list[str], order: Tensor | None = None) -> Linear:
        """One matrix of several, one under the other; `order` sorts the rows."""
        weight = self._stack([f"{name}.weight" for name in names], order)
        has_bias = f"{names[0]}.bias" in self._weights
        bias = self._stack([f"{name}.bias" for name in names], order) if has_bias else None
        return Linear(weight, bias, self._backend.packed_linear)

    def _stack(self, names: list[str], order: Tensor | None) -> Tensor:
        parts = [self._read(name) for name in names]
        whole = parts[0] if len(parts) == 1 else torch.cat(parts)
        return whole if order is None else whole.index_select(0, order)

    def _head(self, embedding: Tensor) -> Linear:
        """A tied head is packed too, beside the embedding: it is the largest product of a small model."""
        if not self._shape.tied:
            return self._linear([HEAD.removesuffix(".weight")])
        if HEAD in self._weights and not torch.equal(self._read(HEAD), embedding):
            raise ModelError(f"config.json ties the head to the embedding, but {HEAD} differs from it.", DOWNLOAD_AGAIN)
        return Linear(embedding, None, self._backend.packed_linear)

    def _norm(self, name: str) -> RMSNorm:
        return RMSNorm(self._read(name), self._shape.eps)

    def _qk_norm(self, prefix: str) -> RMSNorm:
        """The norms of queries and keys as one, with the weight of each head."""
        counts: Mapping[str, int] = {"q": self._heads.num_heads, "k": self._heads.num_kv_heads}
        order = torch.tensor(self._head_order(), device=self._backend.device)
        weights = [
            self._read(f"{prefix}.self_attn.{name}_norm.weight").index_select(0, order).expand(count, -1)
            for name, count in counts.items()
        ]
        return RMSNorm(torch.cat(weights), self._shape.eps)

    def _qkv_order(self) -> Tensor:
        """The rows of the stacked projections, with each query and key head sorted as the rotation wants it."""
        heads, inner = self._heads, self._head_order()
        turned = heads.num_heads + heads.num_kv_heads
        order = [head * heads.head_dim + i for head in range(turned) for i in inner]
        order += range(turned * heads.head_dim, heads.width)
        return torch.tensor(order, device=self._backend.device)

    def _head_order(self) -> list[int]:
        return head_order(self._heads.head_dim, self._shape.rope.rotary_dim)

    def _read(self, name: str) -> Tensor:
        return self._weights.read(name, self._dtype).to(self._backend.device)
