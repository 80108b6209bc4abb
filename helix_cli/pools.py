"""How many blocks a pool has, and the pool itself: keys and values of one model."""

from __future__ import annotations

from helix_cli.backend import Backend
from helix_cli.cache.paged import PagedKVCache, bytes_per_block
from helix_cli.config import Config
from helix_cli.errors import MemoryLimitError
from helix_cli.model.language_model import LanguageModel
from helix_cli.sections import CacheSection

# Some devices do not say how much memory is free; this much is safe to assume of one that runs a language model.
ASSUMED_FREE_BYTES = 2 * 2**30


def open_pool(decoder: LanguageModel, num_blocks: int, cache: CacheSection) -> PagedKVCache:
    """An empty pool of `num_blocks` blocks for one model."""
    return PagedKVCache(
        decoder.kv_shapes, num_blocks, cache.block_size, decoder.dtype, decoder.device, cache.prefix_reuse
    )


def choose_num_blocks(config: Config, backend: Backend, decoders: list[LanguageModel]) -> int:
    """What the config says, or as many blocks as its share of the free memory holds, but no more than can be used.

    Raises MemoryLimitError where not even one fits.
    """
    if config.cache.blocks is not None:
        return config.cache.blocks
    block_size = config.cache.block_size
    free = backend.free_memory()
    share = int((ASSUMED_FREE_BYTES if free is None else free) * config.cache.memory_share)
    block_bytes = sum(bytes_per_block(one.kv_shapes, block_size, one.dtype.itemsize) for one in decoders)
    usable = -(-decoders[0].architecture.context // block_size) * config.engine.max_sequences
    affordable = share // block_bytes
    if affordable < 1:
        raise MemoryLimitError(
            f"The cache may take {share / 2**20:.0f} MiB, and one block of it needs {block_bytes / 2**20:.1f} MiB.",
            "Free some memory, raise cache.memory_share, or lower cache.block_size.",
        )
    return min(usable, affordable)
