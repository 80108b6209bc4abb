"""The pool of one model's keys and values, and how many blocks it has."""

from __future__ import annotations

from helix_cli.backend import Backend
from helix_cli.cache.paged import PagedKVCache
from helix_cli.config import Config
from helix_cli.model.decoder import Decoder
from helix_cli.planning.from_config import plan_memory
from helix_cli.planning.memory import ModelMemory, WeightSize
from helix_cli.planning.refusal import check_pool
from helix_cli.planning.sizes import kv_values, widths
from helix_cli.sections import CacheSection


def open_pool(decoder: Decoder, num_blocks: int, cache: CacheSection) -> PagedKVCache:
    """An empty pool of `num_blocks` blocks for one model."""
    shape = decoder.architecture
    return PagedKVCache(
        shape.num_layers,
        shape.num_kv_heads,
        shape.head_dim,
        num_blocks,
        cache.block_size,
        decoder.dtype,
        decoder.device,
        cache.prefix_reuse,
    )


def choose_num_blocks(config: Config, backend: Backend, decoders: list[Decoder]) -> int:
    """Blocks of each pool, now that the weights are loaded: see `MemoryPlan.num_blocks`. Raises MemoryLimitError."""
    roles = ("target", "draft")
    loaded = [
        ModelMemory(role, widths(one.architecture), kv_values(one.architecture), one.dtype, "", WeightSize(0))
        for role, one in zip(roles, decoders, strict=False)
    ]
    plan = plan_memory(config, backend, tuple(loaded))
    check_pool(plan)
    return plan.num_blocks
