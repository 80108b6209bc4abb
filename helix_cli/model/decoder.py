"""The Llama-family decoder over a paged cache, as few operations a layer as torch allows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from helix_cli.attention import Heads, TorchPaged
from helix_cli.errors import Interrupted
from helix_cli.model.architecture import Architecture
from helix_cli.model.batch import Batch
from helix_cli.model.linear import Linear
from helix_cli.model.rope import RotaryTable, rotate


@dataclass(frozen=True)
class Norm:
    """RMSNorm with weight [dim]."""

    weight: Tensor
    eps: float

    def __call__(self, x: Tensor) -> Tensor:
        return functional.rms_norm(x, self.weight.shape, self.weight, self.eps)


@dataclass(frozen=True)
class Layer:
    """One decoder layer: attention with fused query, key and value, then the gated MLP with fused gate and up."""

    heads: Heads
    window: int | None
    input_norm: Norm
    qkv: Linear
    query_norm: Norm | None
    key_norm: Norm | None
    output: Linear
    mlp_norm: Norm
    gate_up: Linear
    down: Linear

    def __call__(self, x: Tensor, pool: Tensor, kernel: TorchPaged, cos: Tensor, sin: Tensor) -> Tensor:
        """Hidden states [T, hidden] to the same; writes the tokens' K/V into `pool` and attends over it."""
        x = x + self.output(self._attention(self.qkv(self.input_norm(x)), pool, kernel, cos, sin))
        gate, up = self.gate_up(self.mlp_norm(x)).chunk(2, dim=-1)
        return x + self.down(functional.silu(gate) * up)

    def _attention(self, qkv: Tensor, pool: Tensor, kernel: TorchPaged, cos: Tensor, sin: Tensor) -> Tensor:
        num_heads, num_kv_heads, head_dim = self.heads.num_heads, self.heads.num_kv_heads, self.heads.head_dim
        heads = qkv.view(-1, num_heads + 2 * num_kv_heads, head_dim)
        turning = heads[:, : num_heads + num_kv_heads]
        if self.query_norm is not None and self.key_norm is not None:
            queries, keys = turning.split([num_heads, num_kv_heads], dim=1)
            turning = torch.cat([self.query_norm(queries), self.key_norm(keys)], dim=1)
        turned = rotate(turning, cos, sin)
        values = heads[:, num_heads + num_kv_heads :]
        kernel.write(pool, torch.stack([turned[:, num_heads:], values], dim=1))
        return kernel.read(pool, turned[:, :num_heads], self.window)


@dataclass(frozen=True)
class Decoder:
    """A causal language model whose K/V live in a pool it is handed."""

    architecture: Architecture
    dtype: torch.dtype
    device: torch.device
    fused_attention: bool
    embedding: Tensor
    layers: tuple[Layer, ...]
    norm: Norm
    head: Linear
    rotary: RotaryTable

    def forward(self, batch: Batch, pools: list[Tensor], block_size: int, interrupted: Callable[[], bool]) -> Tensor:
        """Logits [R, V] in float32 of the tokens that `batch.wanted` names; K/V of all its tokens go into `pools`.

        Raises Interrupted between two layers once `interrupted()` is true.
        """
        heads = self.layers[0].heads
        kernel = TorchPaged(batch, heads, block_size, self.fused_attention, self.dtype)
        cos, sin = self.rotary.at(batch.positions)
        x = self.embedding[batch.tokens]
        for layer, pool in zip(self.layers, pools, strict=True):
            if interrupted():
                raise Interrupted
            x = layer(x, pool, kernel, cos, sin)
        return self.head(self.norm(x[batch.wanted])).float()

    def truncated(self, num_layers: int) -> Decoder:
        """The first `num_layers` layers with this model's own norm and head; all weights are shared."""
        return replace(
            self,
            architecture=replace(self.architecture, num_layers=num_layers),
            layers=self.layers[:num_layers],
        )
