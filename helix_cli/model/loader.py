"""Reads a checkpoint into a decoder, tensor by tensor: no second copy of the model is ever held."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import torch
from torch import Tensor

from helix_cli.attention import Heads, kernel_for
from helix_cli.backend import Backend, host
from helix_cli.errors import ModelError
from helix_cli.model.architecture import Architecture
from helix_cli.model.decoder import Decoder, Layer
from helix_cli.model.fields import DOWNLOAD_AGAIN
from helix_cli.model.linear import Product
from helix_cli.model.norm import RMSNorm
from helix_cli.model.products import Room, float_product, room_for
from helix_cli.model.rope import RotaryTable, head_order
from helix_cli.model.weights import Weights

EMBEDDING, NORM, HEAD = "model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"
# Old checkpoints store the rotary frequencies too.
IGNORED = ("rotary_emb.inv_freq",)


def load_decoder(
    directory: Path,
    architecture: Architecture,
    backend: Backend,
    dtype: torch.dtype,
    weights: torch.dtype | None = None,
) -> Decoder:
    """Loads a model that computes in `dtype`, with its matrices in `weights` (left out, the same), on the device.

    Raises ModelError for a checkpoint that does not fit.
    """
    return Loader(Weights(directory), architecture, backend, dtype, weights or dtype).decoder()


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


def check_tensors(weights: Weights, shape: Architecture) -> None:
    """Raises ModelError, reading headers only, for a checkpoint that does not hold what its config says."""
    weights.require(expected_tensors(shape), (*IGNORED, HEAD) if shape.tied else IGNORED)


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


def loading_threads() -> ThreadPoolExecutor:
    """Workers that read and pack side by side; each computes alone, so that together they are as many as compute."""
    return ThreadPoolExecutor(torch.get_num_threads(), initializer=partial(torch.set_num_threads, 1))


@dataclass(frozen=True)
class Matrix:
    """One matrix, of several in the checkpoint one under the other; `order` sorts the rows. Read when asked for."""

    read: Callable[[str], Tensor | None]
    names: list[str]
    order: Tensor | None
    is_held: bool = False
    """The tensor is in memory anyway, so that a copy would be a second one."""

    def weight(self, room: Room | None = None) -> Tensor:
        """[out, in]; in a tensor that `room` makes, if it is given."""
        parts = self._parts("weight")
        assert parts, self.names
        if room is None or self.is_held:
            return self._ordered(parts[0] if len(parts) == 1 else torch.cat(parts))
        out = room((sum(map(len, parts)), *parts[0].shape[1:]), dtype=parts[0].dtype)
        if self.order is None:
            return torch.cat(parts, out=out)
        return torch.index_select(torch.cat(parts), 0, self.order, out=out)

    def bias(self) -> Tensor | None:
        """[out], if there is one."""
        parts = self._parts("bias")
        return self._ordered(torch.cat(parts)) if parts else None

    def _parts(self, kind: str) -> list[Tensor]:
        return [part for name in self.names if (part := self.read(f"{name}.{kind}")) is not None]

    def _ordered(self, whole: Tensor) -> Tensor:
        return whole if self.order is None else whole.index_select(0, self.order)


Build = Callable[[str, Matrix], Product]
"""(the layer's field that it is for, the matrix) -> the product."""


class Loader:
    """A checkpoint's tensors, turned into layers; several threads may build layers at once."""

    def __init__(
        self, weights: Weights, shape: Architecture, backend: Backend, dtype: torch.dtype, matrices: torch.dtype
    ) -> None:
        """Checks the tensors' names and shapes; `matrices` is the number type of what is multiplied by."""
        check_tensors(weights, shape)
        self._weights = weights
        self._shape = shape
        self.heads = Heads(shape.num_heads, shape.num_kv_heads, shape.head_dim)
        self._backend = backend
        self._dtype = dtype
        self._matrices = matrices
        self._order = self._qkv_order()

    def decoder(self, build: Build | None = None) -> Decoder:
        """The whole model, its layers read and packed by as many threads as compute; `build` as for `layer`."""
        with loading_threads() as pool:
            layers = tuple(pool.map(lambda index: self.layer(index, build), range(self._shape.num_layers)))
        return self.assemble(layers, self.head(build))

    @cached_property
    def embedding(self) -> Tensor:
        """[vocab_size, hidden], in the number type of the computation."""
        values = self._read(EMBEDDING)
        if not self._shape.tied:
            return values
        return room_for(self._dtype, self._backend)(tuple(values.shape), dtype=values.dtype).copy_(values)

    def assemble(self, layers: tuple[Layer, ...], head: Product) -> Decoder:
        """A decoder of these parts."""
        shape = self._shape
        return Decoder(
            architecture=shape,
            dtype=self._dtype,
            device=self._backend.device,
            fused_attention=self._backend.fused_attention,
            embedding=self.embedding,
            layers=layers,
            norm=self._norm(NORM),
            head=head,
            rotary=self.rotary(),
            kernel=kernel_for(self.heads, self._dtype, self._backend.device, exact=False),
            capture=self._backend.capture,
        )

    def rotary(self) -> RotaryTable:
        """The rotations of every position."""
        shape, rope = self._shape, self._shape.rope
        return RotaryTable(rope.frequencies(), rope.magnitude, shape.head_dim, self._dtype, self._backend.device)

    def layer(self, index: int, build: Build | None = None) -> Layer:
        """One layer; `build` makes its matrices, float ones where it is left out."""
        host.give_back_freed_memory()  # what the layer before left behind
        build = build or self.in_float
        prefix = f"model.layers.{index}"
        fused = self._shape.fused_projections
        qkv = ("qkv_proj",) if fused else ("q_proj", "k_proj", "v_proj")
        gate_up = ("gate_up_proj",) if fused else ("gate_proj", "up_proj")

        def make(field: str, names: tuple[str, ...], order: Tensor | None = None) -> Product:
            return build(field, Matrix(self._read_matrix, [f"{prefix}.{name}" for name in names], order))

        return Layer(
            index=index,
            heads=self.heads,
            window=self._shape.windows[index],
            attention_norm=self._norm(f"{prefix}.input_layernorm.weight"),
            qkv=make("qkv", tuple(f"self_attn.{name}" for name in qkv), self._order),
            qk_norm=self._qk_norm(prefix) if self._shape.qk_norm else None,
            output=make("output", ("self_attn.o_proj",)),
            mlp_norm=self._norm(f"{prefix}.post_attention_layernorm.weight"),
            gate_up=make("gate_up", tuple(f"mlp.{name}" for name in gate_up)),
            down=make("down", ("mlp.down_proj",)),
        )

    def head(self, build: Build | None = None) -> Product:
        """A tied head is a product too, beside the embedding: it is the largest one of a small model."""
        tied = self._shape.tied
        if tied and HEAD in self._weights and not torch.equal(self._read(HEAD), self.embedding):
            raise ModelError(f"config.json ties the head to the embedding, but {HEAD} differs from it.", DOWNLOAD_AGAIN)
        name = (EMBEDDING if tied else HEAD).removesuffix(".weight")
        is_held = tied and self._matrices == self._dtype
        return (build or self.in_float)("head", Matrix(self._read_matrix, [name], None, is_held))

    def in_float(self, _: str, matrix: Matrix) -> Product:
        """A matrix in float."""
        return self.float_product(matrix.weight(room_for(self._matrices, self._backend)), matrix.bias())

    def float_product(self, weight: Tensor, bias: Tensor | None) -> Product:
        """The product with a matrix [out, in], by the device's kernel for it."""
        return float_product(weight, bias, self._backend)

    def _read_matrix(self, name: str) -> Tensor | None:
        if name == EMBEDDING:
            return self.embedding.to(self._matrices)
        return self._read(name, self._matrices) if name in self._weights else None

    def _norm(self, name: str) -> RMSNorm:
        return RMSNorm(self._read(name), self._shape.eps)

    def _qk_norm(self, prefix: str) -> RMSNorm:
        """The norms of queries and keys as one, with the weight of each head."""
        counts: Mapping[str, int] = {"q": self.heads.num_heads, "k": self.heads.num_kv_heads}
        order = torch.tensor(self._head_order(), device=self._backend.device)
        weights = [
            self._read(f"{prefix}.self_attn.{name}_norm.weight").index_select(0, order).expand(count, -1)
            for name, count in counts.items()
        ]
        return RMSNorm(torch.cat(weights), self._shape.eps)

    def _qkv_order(self) -> Tensor:
        """The rows of the stacked projections, with each query and key head sorted as the rotation wants it."""
        heads, inner = self.heads, self._head_order()
        turned = heads.num_heads + heads.num_kv_heads
        order = [head * heads.head_dim + i for head in range(turned) for i in inner]
        order += range(turned * heads.head_dim, heads.width)
        return torch.tensor(order, device=self._backend.device)

    def _head_order(self) -> list[int]:
        return head_order(self.heads.head_dim, self._shape.rope.rotary_dim)

    def _read(self, name: str, dtype: torch.dtype | None = None) -> Tensor:
        return self._weights.read(name, dtype or self._dtype).to(self._backend.device)
