"""Who owns which block of the K/V pool: reference counts, names of contents, and what is reused first.

Standard library only; no tensor is touched here. A block is *used* (referenced by at least one table) or *free*. A used
block may be *published* under the chain hash of its content; a free one keeps its hash, so that a later `find` and
`share` revive it, until `take` gives it to somebody else. Free blocks without a hash are called *blank*.

Blank blocks are handed out first, in ascending runs, so that the table of a single user stays one slice of the pool.
Published free blocks follow, the least recently released first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence


class PoolExhausted(Exception):
    """More blocks were wanted than are free; nothing was taken. The scheduler answers it, the user never sees it."""


class BlockPool:
    """Reference-counted blocks 0 to `num_blocks` - 1, with counts: `num_used` now, `peak_used` at most, `num_evicted`.

    `num_evicted` counts the published blocks whose content was lost because somebody else took them.
    """

    def __init__(self, num_blocks: int) -> None:
        """Begin with every block blank."""
        assert num_blocks > 0
        self.num_blocks = num_blocks
        self.num_used = 0
        self.peak_used = 0
        self.num_evicted = 0
        self._references = [0] * num_blocks
        self._hashes: list[bytes | None] = [None] * num_blocks
        self._published: dict[bytes, int] = {}
        self._blank = bytearray(b"\x01" * num_blocks)
        """1 where a block is blank; bytes, so that the ends of runs are found at C speed."""
        self._retired: OrderedDict[int, None] = OrderedDict()
        """Published free blocks, the least recently released first."""

    @property
    def num_free(self) -> int:
        """Blocks that `take` could hand out, published ones included."""
        return self.num_blocks - self.num_used

    def references(self, block: int) -> int:
        """How many tables hold `block`."""
        return self._references[block]

    def hash_of(self, block: int) -> bytes | None:
        """The hash under which `block` is published, if it is."""
        return self._hashes[block]

    def find(self, digest: bytes) -> int | None:
        """The block, used or free, that is published under `digest`. A free one must be shared before the next take."""
        return self._published.get(digest)

    def take(self, n: int, after: int | None = None) -> list[int]:
        """Hand out `n` free blocks, each with one reference and no hash.

        The blank blocks `after` + 1, `after` + 2, ... come first, which costs O(n). What is then missing comes from the
        longest runs of blank blocks, each from its beginning, and last from the published free blocks, in ascending
        order; finding the runs scans the pool once.

        Raises PoolExhausted, taking nothing, when fewer than `n` blocks are free.
        """
        assert n >= 0
        if n > self.num_free:
            raise PoolExhausted(f"{n} blocks wanted, {self.num_free} free")
        ids = [] if after is None else self._take_run(after + 1, n)
        ids += self._take_anywhere(n - len(ids))
        self.num_used += n
        self.peak_used = max(self.peak_used, self.num_used)
        return ids

    def share(self, ids: Sequence[int]) -> None:
        """Add one reference to each block. A free one is revived with its content, which therefore has a name."""
        for block in ids:
            if self._references[block] == 0:
                assert self._hashes[block] is not None, f"block {block} is free and has no content to share"
                del self._retired[block]
                self.num_used += 1
            self._references[block] += 1
        self.peak_used = max(self.peak_used, self.num_used)

    def release(self, ids: Sequence[int]) -> None:
        """Drop one reference from each block of a table, given in order of position.

        The tail is retired first and so evicted first: a prefix is of use without its continuation, not the reverse.
        """
        for block in reversed(ids):
            assert self._references[block] > 0, f"block {block} is released more often than it was taken"
            self._references[block] -= 1
            if self._references[block] == 0:
                self.num_used -= 1
                self._retire(block)

    def publish(self, block: int, digest: bytes) -> None:
        """Make the content of a used block findable. Where another block has that name already, it keeps it."""
        assert self._references[block] > 0, f"block {block} is published by nobody"
        assert self._hashes[block] in (None, digest), f"block {block} is published under another hash"
        if digest not in self._published:
            self._published[digest] = block
            self._hashes[block] = digest

    def check(self) -> None:
        """Assert every invariant of the pool. O(num_blocks)."""
        used = {block for block, references in enumerate(self._references) if references > 0}
        blank = {block for block, flag in enumerate(self._blank) if flag}
        retired = set(self._retired)
        assert min(self._references) >= 0
        assert used | blank | retired == set(range(self.num_blocks)), "a block is lost"
        assert len(used) + len(blank) + len(retired) == self.num_blocks, "a block is used and free, or free twice"
        assert self.num_used == len(used) <= self.peak_used <= self.num_blocks
        assert all(self._hashes[block] is None for block in blank), "a blank block has a hash"
        assert all(self._hashes[block] is not None for block in retired), "a retired block has no hash"
        named = {digest: block for block, digest in enumerate(self._hashes) if digest is not None}
        assert named == self._published, "hashes and blocks disagree"
        assert len(named) == sum(digest is not None for digest in self._hashes), "two blocks have one hash"

    def _take_run(self, start: int, most: int) -> list[int]:
        """Claim the blank blocks from `start` on, without a gap, at most `most` of them."""
        stop = min(start + most, self.num_blocks)
        end = self._blank.find(0, start, stop)
        return self._claim(range(start, stop if end < 0 else end))

    def _take_anywhere(self, n: int) -> list[int]:
        """Claim `n` free blocks: the longest blank runs first, then the least recently released. Returned ascending."""
        if n == 0:
            return []
        ids: list[int] = []
        for start, stop in sorted(self._blank_runs(), key=lambda run: run[0] - run[1]):
            ids += range(start, min(stop, start + n - len(ids)))
            if len(ids) == n:
                break
        ids += [self._retired.popitem(last=False)[0] for _ in range(n - len(ids))]
        return self._claim(sorted(ids))

    def _blank_runs(self) -> list[tuple[int, int]]:
        """Where each run of blank blocks starts and stops, in ascending order."""
        runs: list[tuple[int, int]] = []
        stop = 0
        while (start := self._blank.find(1, stop)) >= 0:
            end = self._blank.find(0, start)
            stop = self.num_blocks if end < 0 else end
            runs.append((start, stop))
        return runs

    def _claim(self, ids: Sequence[int]) -> list[int]:
        """Give each block its first reference; a published one loses its content and its name."""
        for block in ids:
            digest = self._hashes[block]
            if digest is not None:
                del self._published[digest]
                self._hashes[block] = None
                self.num_evicted += 1
            self._blank[block] = 0
            self._references[block] = 1
        return list(ids)

    def _retire(self, block: int) -> None:
        """File a block that has just lost its last reference."""
        if self._hashes[block] is None:
            self._blank[block] = 1
        else:
            self._retired[block] = None
