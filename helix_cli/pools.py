"""The pool of one model's keys and values, and how many blocks it has."""

from __future__ import annotations

from helix_cli.backend import Backend
from helix_cli.cache.paged import PagedKVCache
from helix_cli.config import Config
from helix_cli.model.language_model import LanguageModel
from helix_cli.planning.from_config import plan_memory
from helix_cli.planning.memory import loaded_memory
from helix_cli.planning.refusal import check_pool
from helix_cli.sections import CacheSection


def open_pool(decoder: LanguageModel, num_blocks: int, cache: CacheSection) -> PagedKVCache:
    """An empty pool of `num_blocks` blocks for one model."""
    return PagedKVCache(
        decoder.kv_shapes, num_blocks, cache.block_size, decoder.dtype, decoder.device, cache.prefix_reuse
    )


def choose_num_blocks(config: Config, backend: Backend, decoders: list[LanguageModel]) -> int:
    """Blocks of each pool, now that the weights are loaded: see `MemoryPlan.num_blocks`. Raises MemoryLimitError."""
    loaded = [loaded_memory(role, one) for role, one in zip(("target", "draft"), decoders, strict=False)]
    plan = plan_memory(config, backend, tuple(loaded))
    check_pool(plan)
    return plan.num_blocks
