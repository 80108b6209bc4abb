"""The K/V pool as tensors, and the rules by which sequences grow, share and give back their part of it."""

from __future__ import annotations

import math
import mmap
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import torch
from torch import Tensor

from helix_cli.cache.pool import BlockPool
from helix_cli.cache.table import BlockTable, is_run
from helix_cli.errors import MemoryLimitError


@dataclass(frozen=True)
class KVShape:
    """What one layer keeps of a position: heads, and the widths of a key and of a value."""

    num_heads: int
    key_dim: int
    value_dim: int

    def pool(self, num_slots: int) -> tuple[int, int, int, int]:
        """Keys at 0 and values at 1 of the first dimension; where their widths differ, values stand behind the keys."""
        if self.key_dim == self.value_dim:
            return (2, self.num_heads, num_slots, self.key_dim)
        return (1, self.num_heads, num_slots, self.key_dim + self.value_dim)

    def views(self, layer: Tensor) -> tuple[Tensor, Tensor]:
        """Keys [Hkv, slots, key_dim] and values [Hkv, slots, value_dim] of a layer of the pool."""
        if self.key_dim == self.value_dim:
            return layer[0], layer[1]
        return layer[0, :, :, : self.key_dim], layer[0, :, :, self.key_dim :]


def bytes_per_block(shapes: Sequence[KVShape], block_size: int, itemsize: int) -> int:
    """Memory of one block in bytes: keys and values of `block_size` positions in every layer."""
    return sum(shape.num_heads * (shape.key_dim + shape.value_dim) for shape in shapes) * block_size * itemsize


def num_blocks_for(length: int, block_size: int) -> int:
    """Blocks that hold `length` positions."""
    return -(-length // block_size)


def zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device | str) -> Tensor:
    """Zeros that cost no memory on the CPU until they are written: the system clears a page when it is first touched.

    torch would write every page now. numpy would ask for huge pages: a first token then waits until the kernel has
    found and cleared one for each head of each layer, hundreds of MiB.
    """
    if not torch.empty(0, device=device).is_cpu:
        return torch.zeros(shape, dtype=dtype, device=device)
    num_bytes = math.prod(shape) * dtype.itemsize
    # Windows has no flags, and nothing but private memory.
    flags = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
    return torch.frombuffer(mmap.mmap(-1, num_bytes, **flags), dtype=dtype).view(shape)


class PagedKVCache:
    """Keys and values of every sequence of one model, in blocks of `block_size` slots.

    `layers[i]` is [2, num_kv_heads, num_slots, head_dim]; 0 is keys, 1 is values (see `KVShape.pool` for layers where
    their widths differ), and slot `block * block_size + offset` belongs to one position. Everything starts at zero,
    because a slot that is read must be finite even if masked (0 x NaN is NaN).

    Raises MemoryLimitError when the device cannot hold it.
    """

    def __init__(
        self,
        shapes: Sequence[KVShape],
        num_blocks: int,
        block_size: int,
        dtype: torch.dtype,
        device: torch.device | str,
        prefix_reuse: bool = True,
    ) -> None:
        """Allocate the pool for layers of `shapes`; without `prefix_reuse` nothing is published, so nothing matches."""
        assert block_size > 0
        self.num_blocks = num_blocks
        self.block_size = block_size
        self.num_slots = num_blocks * block_size
        self.block_bytes = bytes_per_block(shapes, block_size, dtype.itemsize)
        self.layers = self._allocate([shape.pool(self.num_slots) for shape in shapes], dtype, device)
        self.pool = BlockPool(num_blocks)
        self._prefix_reuse = prefix_reuse

    def match_prefix(self, tokens: Sequence[int]) -> BlockTable:
        """Start a table with the published blocks that hold the longest prefix of `tokens`.

        It shares at most (len - 1) // block_size blocks: the last token is always computed (its logits are wanted), and
        that into a block with one owner. `num_computed` says how many positions were found.
        """
        table = BlockTable()
        most = (len(tokens) - 1) // self.block_size
        while len(table.hashes) < most:
            digest = table.next_hash(tokens, self.block_size)
            block = self.pool.find(digest)
            if block is None:
                break
            table.append([block])
            table.hashes.append(digest)
        self.pool.share(table.blocks)
        table.num_computed = len(table.blocks) * self.block_size
        return table

    def can_grow(self, table: BlockTable, length: int) -> bool:
        """Whether `grow` would succeed."""
        return self._num_missing(table, length) <= self.pool.num_free

    def grow(self, table: BlockTable, length: int) -> None:
        """Make the table's blocks cover `length` positions, all of which from `num_computed` on may then be written.

        Raises PoolExhausted, changing nothing, when too few blocks are free.
        """
        assert len(table.hashes) * self.block_size <= table.num_computed, "a published block would be written"
        writable = table.blocks[table.num_computed // self.block_size :]
        assert all(self.pool.references(block) == 1 for block in writable), "a shared block would be written"
        missing = self._num_missing(table, length)
        if missing > 0:
            table.append(self.pool.take(missing, after=table.blocks[-1] if table.blocks else None))

    def advance(self, table: BlockTable, tokens: Sequence[int], num_computed: int) -> None:
        """Set `num_computed`, forwards or back, and publish the blocks that are now full of committed tokens.

        `tokens` are the sequence's committed tokens. `num_computed` may lie beyond them while a draft model runs ahead;
        such positions are never published. It never falls below the published prefix, which others may be reading.
        """
        published = len(table.hashes) * self.block_size
        assert published <= num_computed <= len(table.blocks) * self.block_size
        table.num_computed = num_computed
        if not self._prefix_reuse:
            return
        for index in range(len(table.hashes), min(num_computed, len(tokens)) // self.block_size):
            table.hashes.append(table.next_hash(tokens, self.block_size))
            self.pool.publish(table.blocks[index], table.hashes[-1])

    def free(self, table: BlockTable) -> None:
        """Give the table's blocks back and empty it; what was published stays findable until its block is reused."""
        self.pool.release(table.blocks)
        table.clear()

    def used_bytes(self) -> int:
        """Memory of the blocks that tables hold now."""
        return self.pool.num_used * self.block_bytes

    def peak_bytes(self) -> int:
        """Memory of the blocks that tables held at most."""
        return self.pool.peak_used * self.block_bytes

    def waste(self, tables: Iterable[BlockTable]) -> int:
        """Slots that the tables own and have not computed."""
        return sum(len(table.blocks) * self.block_size - table.num_computed for table in tables)

    def check(self, tables: Iterable[BlockTable]) -> None:
        """Assert every invariant; `tables` are all tables of this cache that are alive."""
        self.pool.check()
        owners: Counter[int] = Counter()
        for table in tables:
            owners.update(table.blocks)
            self._check_table(table)
        held = [self.pool.references(block) for block in range(self.num_blocks)]
        assert held == [owners[block] for block in range(self.num_blocks)], "references differ from the tables' blocks"

    def _check_table(self, table: BlockTable) -> None:
        published = len(table.hashes) * self.block_size
        assert published <= table.num_computed <= len(table.blocks) * self.block_size
        assert table.contiguous == is_run(table.blocks)
        for block, digest in zip_longest(table.blocks, table.hashes):
            name = self.pool.hash_of(block)
            # None where the block is unfinished, or where another block had the name first.
            assert name in (None, digest), "a block is published under another hash"
            assert name is not None or self.pool.references(block) == 1, "a block that nobody can find is shared"

    def _num_missing(self, table: BlockTable, length: int) -> int:
        return num_blocks_for(length, self.block_size) - len(table.blocks)

    def _allocate(
        self, shapes: Sequence[tuple[int, ...]], dtype: torch.dtype, device: torch.device | str
    ) -> list[Tensor]:
        try:
            return [zeros(shape, dtype, device) for shape in shapes]
        except (RuntimeError, MemoryError, ValueError, OverflowError, OSError) as error:
            # "memory" is every backend's word for it; not all have a class of their own
            if isinstance(error, RuntimeError) and "memory" not in str(error).lower():
                raise
            need = self.num_blocks * self.block_bytes / 2**30
            raise MemoryLimitError(
                f"The device has no room for a K/V pool of {self.num_blocks} blocks ({need:.1f} GiB).",
                "Make the pool smaller, or use a shorter context or a narrower number type.",
            ) from error
