"""A sequence's map from positions to slots of the pool. Standard library only.

The pool is cut into blocks of `block_size` slots; slot `block * block_size + offset` holds the keys and values of one
position in every layer. Position p of a sequence lies in block `blocks[p // block_size]`, at offset `p % block_size`.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import pairwise

HASH_BYTES = 16


def chain_hash(previous: bytes, tokens: Sequence[int]) -> bytes:
    """Name the content of a full block: 128 bits over the block's tokens and, through `previous`, all tokens before.

    K/V depend on the whole prefix, so two blocks hold the same numbers exactly when their chains are equal. `previous`
    is the hash of the block before (b"" for the first); as BLAKE2's key it cannot be mistaken for tokens. At 128 bits
    a chance collision is out of reach (one in 2^64 after 2^32 blocks), so tokens need not be compared again.
    """
    return blake2b(array("q", tokens).tobytes(), digest_size=HASH_BYTES, key=previous).digest()


@dataclass(eq=False)
class BlockTable:
    """The blocks of one sequence, in order of position; they only grow, through `append`, until `clear`.

    `hashes[i]` is the chain hash of `blocks[i]`, for the full blocks whose tokens are committed and computed (the
    published prefix). Positions below `num_computed` have their K/V in the pool.
    """

    blocks: list[int] = field(default_factory=list)
    hashes: list[bytes] = field(default_factory=list)
    num_computed: int = 0
    _contiguous: bool = field(default=True, init=False, repr=False)

    def __post_init__(self) -> None:
        """Look at the blocks once; `append` keeps the answer."""
        self._contiguous = is_run(self.blocks)

    @property
    def contiguous(self) -> bool:
        """Whether the blocks are one ascending run, so that the sequence's slots are one slice of the pool. O(1)."""
        return self._contiguous

    def append(self, ids: Sequence[int]) -> None:
        """Add blocks behind the last one."""
        joins = not self.blocks or not ids or ids[0] == self.blocks[-1] + 1
        self._contiguous = self._contiguous and joins and is_run(ids)
        self.blocks.extend(ids)

    def clear(self) -> None:
        """Forget everything; the caller has released the blocks."""
        self.blocks.clear()
        self.hashes.clear()
        self.num_computed = 0
        self._contiguous = True

    def slot(self, position: int, block_size: int) -> int:
        """Slot of one position."""
        assert 0 <= position < len(self.blocks) * block_size
        return self.blocks[position // block_size] * block_size + position % block_size

    def slots(self, start: int, stop: int, block_size: int) -> list[int]:
        """Slots of positions `start` to `stop` - 1."""
        assert 0 <= start <= stop <= len(self.blocks) * block_size
        if start == stop:
            return []
        if self._contiguous:
            first = self.blocks[0] * block_size
            return list(range(first + start, first + stop))
        slots: list[int] = []
        for index in range(start // block_size, (stop - 1) // block_size + 1):
            shift = (self.blocks[index] - index) * block_size
            slots += range(shift + max(start, index * block_size), shift + min(stop, (index + 1) * block_size))
        return slots

    def next_hash(self, tokens: Sequence[int], block_size: int) -> bytes:
        """Chain hash of the first block that `hashes` does not reach yet; `tokens` is the whole sequence."""
        start = len(self.hashes) * block_size
        assert start + block_size <= len(tokens)
        return chain_hash(self.hashes[-1] if self.hashes else b"", tokens[start : start + block_size])


def is_run(ids: Sequence[int]) -> bool:
    """Whether `ids` ascend one by one (true of none and of one)."""
    return all(right == left + 1 for left, right in pairwise(ids))
