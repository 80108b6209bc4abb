"""The Llama-family decoder, in as few operations a layer as torch allows: in small models they are the time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from helix_cli.attention import KERNELS, Attend, AttentionKernel, Heads, kernel_for
from helix_cli.backend import Capture
from helix_cli.cache.paged import KVShape, PagedKVCache
from helix_cli.errors import Interrupted, ModelError
from helix_cli.model.architecture import Architecture
from helix_cli.model.batch import Batch
from helix_cli.model.gate import gated
from helix_cli.model.language_model import Forward
from helix_cli.model.linear import Product
from helix_cli.model.norm import RMSNorm
from helix_cli.model.rope import RotaryTable, Rotation


@dataclass(frozen=True)
class Layer:
    """Attention with fused query, key and value projections, then the gated MLP with fused gate and up."""

    index: int
    heads: Heads
    window: int | None
    attention_norm: RMSNorm
    qkv: Product
    qk_norm: RMSNorm | None
    """Per head of the queries and keys, weight [num_heads + num_kv_heads, head_dim]."""
    output: Product
    mlp_norm: RMSNorm
    gate_up: Product
    down: Product

    def __call__(self, x: Tensor, rotation: Rotation, attend: Attend) -> Tensor:
        """Hidden states [T, hidden] to the same; stores the tokens' K/V on the way."""
        qkv = self.qkv(self.attention_norm(x))
        self._position(qkv, rotation)
        x = self.output.add(attend(self.index, qkv, self.window), x)
        both = self.gate_up(self.mlp_norm(x))
        return self.down.add(gated(both), x)

    def _position(self, qkv: Tensor, rotation: Rotation) -> None:
        """Normalises, if the model does, and rotates the queries and keys in place."""
        heads = self.heads
        num_turned = heads.num_heads + heads.num_kv_heads
        turned = qkv.narrow(1, 0, num_turned * heads.head_dim).view(-1, num_turned, heads.head_dim)
        if self.qk_norm is not None:
            turned.copy_(self.qk_norm(turned))
        rotation(turned)


@dataclass(frozen=True)
class Decoder:
    """A loaded model. It holds no K/V and no state of a sequence, so any number of runners may share it."""

    architecture: Architecture
    dtype: torch.dtype
    device: torch.device
    fused_attention: bool
    embedding: Tensor
    """[vocab_size, hidden]."""
    layers: Sequence[Layer]
    norm: RMSNorm
    head: Product
    rotary: RotaryTable
    kernel: str = "torch_paged"
    """The attention kernel to run it with, a name in KERNELS."""
    capture: Capture | None = None
    """How the device records passes of a fixed size; None: it does not."""

    @property
    def kv_shapes(self) -> tuple[KVShape, ...]:
        """What each layer keeps of a position."""
        return self.architecture.kv_shapes

    @property
    def num_bytes(self) -> int:
        """Bytes of matrices that a pass reads."""
        return sum(product.num_bytes for product in self.products)

    @property
    def products(self) -> list[Product]:
        """Every matrix that a pass multiplies by; they are what it reads of memory."""
        layers = self.layers
        return [one for layer in layers for one in (layer.qkv, layer.output, layer.gate_up, layer.down)] + [self.head]

    @property
    def heads(self) -> Heads:
        """The head counts that an attention kernel needs."""
        shape = self.architecture
        return Heads(shape.num_heads, shape.num_kv_heads, shape.head_dim)

    def attention_over(self, cache: PagedKVCache) -> AttentionKernel:
        """What attends over this cache."""
        return KERNELS[self.kernel](cache.layers, cache.block_size, self.heads, self.fused_attention)

    def over(self, cache: PagedKVCache) -> Forward:
        """See `LanguageModel`."""
        kernel = self.attention_over(cache)
        return lambda batch, interrupted: self.forward(batch, kernel.plan(batch.spans), interrupted)

    def forward(self, batch: Batch, attend: Attend, interrupted: Callable[[], bool]) -> Tensor:
        """Logits [R, vocab_size] in float32 of the tokens that the batch asks for.

        Raises Interrupted when `interrupted()` is true before a layer. That is harmless: K/V of positions beyond a
        table's `num_computed` mean nothing.
        """
        rotation = batch.rotation(self.rotary)
        x = functional.embedding(batch.tokens, self.embedding)
        for layer in self.layers:
            if interrupted():
                raise Interrupted
            x = layer(x, rotation, attend)
        x = batch.select(x)
        if len(x) == 0:
            return torch.zeros(0, self.architecture.vocab_size, device=self.device)
        return self.head(self.norm(x)).float()

    def tokenwise(self, least: int) -> Decoder:
        """The same model computing each token by itself, with products that are `uniform`; no weight is copied."""

        def one_kernel(layer: Layer) -> Layer:
            products = {name: getattr(layer, name).uniform(least) for name in ("qkv", "output", "gate_up", "down")}
            return replace(layer, **products)

        layers = tuple(map(one_kernel, self.layers))
        return replace(
            self,
            layers=layers,
            head=self.head.uniform(least),
            kernel=kernel_for(self.heads, self.dtype, self.device, exact=True),
        )

    def truncated(self, num_layers: int) -> Decoder:
        """The first layers with the same embedding, norm and head; no weight is copied. Raises ModelError."""
        shape = self.architecture
        if not 1 <= num_layers <= shape.num_layers:
            raise ModelError(
                f"A model of {shape.num_layers} layers cannot be cut to {num_layers}.",
                f"Choose between 1 and {shape.num_layers}.",
            )
        return replace(self, architecture=shape.truncated(num_layers), layers=self.layers[:num_layers])
