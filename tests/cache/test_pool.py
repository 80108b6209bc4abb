"""Reference counts, order of reuse and runs of blocks, alone and against a model."""

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from helix_cli.cache.pool import BlockPool, PoolExhausted


def name(number: int) -> bytes:
    """A hash for a test."""
    return bytes([number])


def publish_all(pool: BlockPool, ids: list[int]) -> None:
    """Publish each block under a name made of its own number."""
    for block in ids:
        pool.publish(block, name(block))


def test_a_fresh_pool_is_handed_out_from_the_beginning() -> None:
    pool = BlockPool(4)
    assert pool.take(3) == [0, 1, 2]
    assert (pool.num_used, pool.num_free, pool.peak_used, pool.num_evicted) == (3, 1, 3, 0)
    assert pool.take(0) == [] and pool.take(0, after=2) == []
    pool.check()


def test_an_exhausted_pool_takes_nothing() -> None:
    pool = BlockPool(4)
    published = pool.take(2)
    publish_all(pool, published)
    pool.release(published)
    held = pool.take(1)
    with pytest.raises(PoolExhausted):
        pool.take(4, after=held[0])
    assert (pool.num_free, pool.peak_used, pool.num_evicted) == (3, 2, 0)
    assert [pool.find(name(block)) for block in published] == published
    pool.check()
    assert len(pool.take(3)) == 3


def test_a_table_that_grows_alone_is_one_run() -> None:
    pool = BlockPool(8)
    blocks = pool.take(3)
    while pool.num_free:
        blocks += pool.take(1, after=blocks[-1])
    assert blocks == list(range(8))


def test_a_taken_neighbour_ends_the_run() -> None:
    pool = BlockPool(10)
    assert pool.take(3) == [0, 1, 2]
    assert pool.take(1) == [3]
    pool.release([1])
    assert pool.take(3, after=0) == [1, 4, 5]
    assert pool.take(1, after=9) == [6]


def test_a_fresh_take_starts_the_longest_blank_run() -> None:
    pool = BlockPool(10)
    pool.take(10)
    pool.release([0, 1, 4, 5, 6, 8, 9])
    assert pool.take(2) == [4, 5]
    assert pool.take(1) == [0]
    assert pool.take(3) == [1, 8, 9]


def test_blank_blocks_go_before_published_ones() -> None:
    pool = BlockPool(5)
    ids = pool.take(5)
    publish_all(pool, [1, 2])
    pool.release(ids)
    assert pool.take(2) == [3, 4]
    assert pool.take(2, after=0) == [0, 2]
    assert (pool.find(name(1)), pool.find(name(2)), pool.num_evicted) == (1, None, 1)
    pool.check()


def test_the_tail_of_the_table_released_first_is_evicted_first() -> None:
    pool = BlockPool(6)
    first, second = pool.take(3), pool.take(3)
    publish_all(pool, first + second)
    pool.release(second)
    pool.release(first)
    assert [pool.take(1)[0] for _ in range(6)] == [5, 4, 3, 2, 1, 0]
    assert pool.num_evicted == 6


def test_blocks_evicted_together_are_handed_out_ascending() -> None:
    pool = BlockPool(4)
    ids = pool.take(4)
    publish_all(pool, ids)
    pool.release(ids)
    assert pool.take(3) == [1, 2, 3]
    assert pool.find(name(0)) == 0


def test_a_free_block_is_revived_and_then_the_last_to_go() -> None:
    pool = BlockPool(3)
    ids = pool.take(3)
    publish_all(pool, ids)
    pool.release(ids)
    found = pool.find(name(2))
    assert found == 2
    pool.share([found])
    assert (pool.num_used, pool.references(2), pool.hash_of(2)) == (1, 1, name(2))
    pool.release([found])
    assert [pool.take(1)[0] for _ in range(3)] == [1, 0, 2]


def test_a_shared_block_is_free_after_its_last_owner() -> None:
    pool = BlockPool(1)
    ids = pool.take(1)
    pool.share(ids)
    pool.release(ids)
    assert pool.num_free == 0
    pool.release(ids)
    assert pool.num_free == 1
    pool.check()


def test_the_peak_counts_revived_blocks() -> None:
    pool = BlockPool(3)
    ids = pool.take(2)
    publish_all(pool, ids)
    pool.release(ids)
    pool.take(1)
    pool.share(ids)
    assert pool.peak_used == 3


def test_the_first_block_keeps_a_name() -> None:
    pool = BlockPool(2)
    ids = pool.take(2)
    pool.publish(0, name(7))
    pool.publish(1, name(7))
    assert (pool.find(name(7)), pool.hash_of(1)) == (0, None)
    pool.release(ids)
    assert pool.take(1) == [1] and pool.find(name(7)) == 0
    pool.check()


def test_publishing_twice_changes_nothing() -> None:
    pool = BlockPool(1)
    pool.take(1)
    pool.publish(0, name(1))
    pool.publish(0, name(1))
    assert pool.find(name(1)) == 0
    pool.check()


def test_misuse_is_caught() -> None:
    pool = BlockPool(2)
    with pytest.raises(AssertionError):
        pool.publish(0, name(0))
    with pytest.raises(AssertionError):
        pool.share([0])
    ids = pool.take(1)
    pool.publish(0, name(0))
    with pytest.raises(AssertionError):
        pool.publish(0, name(1))
    pool.release(ids)
    with pytest.raises(AssertionError):
        pool.release(ids)
    with pytest.raises(AssertionError):
        pool.take(-1)


@pytest.mark.parametrize(
    "damage",
    [
        {"_references": {0: 0}},
        {"_references": {3: 1}},
        {"_references": {3: -1}},
        {"_retired": {0: None}},
        {"_retired": {0: None}, "_blank": {3: 0}},
        {"_blank": {3: 0}},
        {"_published": {name(0): 1}},
        {"_published": {name(9): 3}, "_hashes": {3: name(9)}},
        {"_published": {name(0): 2}, "_hashes": {2: name(0)}},
        {"_hashes": {3: name(0)}},
        {"_hashes": {1: None}},
        {"_retired": {2: None}, "_references": {2: 0}, "num_used": 1},
        {"num_used": 1},
        {"peak_used": 0},
    ],
)
def test_check_sees_damage(damage: dict[str, Any]) -> None:
    pool = BlockPool(4)  # 0 used and published, 1 retired, 2 used, 3 blank
    pool.take(3)
    publish_all(pool, [0, 1])
    pool.release([1])
    pool.check()
    for attribute, values in damage.items():
        if not isinstance(values, dict):
            setattr(pool, attribute, values)
            continue
        for key, value in values.items():
            getattr(pool, attribute)[key] = value
    with pytest.raises(AssertionError):
        pool.check()


class PoolMachine(RuleBasedStateMachine):
    """Random owners against a model that is slow and obvious."""

    size = 7

    def __init__(self) -> None:
        super().__init__()
        self.pool = BlockPool(self.size)
        self.tables: list[list[int]] = []
        self.names: dict[int, bytes] = {}
        self.retired: list[int] = []
        self.evicted = 0
        self.peak = 0

    def references(self, block: int) -> int:
        """References in the model."""
        return sum(table.count(block) for table in self.tables)

    def is_blank(self, block: int) -> bool:
        """Whether the model has the block free and unnamed."""
        return 0 <= block < self.size and not self.references(block) and block not in self.names

    def expect(self, n: int, after: int | None) -> list[int]:
        """What `take` should hand out."""
        head: list[int] = []
        while after is not None and len(head) < n and self.is_blank(after + 1 + len(head)):
            head.append(after + 1 + len(head))
        blank = [block for block in range(self.size) if self.is_blank(block) and block not in head]
        rest: list[int] = []
        while blank and len(head) + len(rest) < n:
            runs = {start: next(k for k in range(self.size + 1) if start + k not in blank) for start in blank}
            best = max(runs, key=lambda start: (runs[start], -start))
            used = list(range(best, best + runs[best]))
            blank = [block for block in blank if block not in used]
            rest += used[: n - len(head) - len(rest)]
        return head + sorted(rest + self.retired[: n - len(head) - len(rest)])

    @rule(n=st.integers(0, 4) | st.integers(0, size + 1), data=st.data())
    def take(self, n: int, data: st.DataObject) -> None:
        ends: list[int | None] = [None, *(table[-1] for table in self.tables)]
        after = data.draw(st.sampled_from(ends), "after")
        if n > sum(not self.references(block) for block in range(self.size)):
            with pytest.raises(PoolExhausted):
                self.pool.take(n, after)
            return
        expected = self.expect(n, after)
        assert self.pool.take(n, after) == expected
        for block in expected:
            if block in self.names:
                del self.names[block]
                self.retired.remove(block)
                self.evicted += 1
        if expected:
            self.tables.append(expected)

    @precondition(lambda self: self.tables)
    @rule(data=st.data())
    def share(self, data: st.DataObject) -> None:
        table = data.draw(st.sampled_from(self.tables), "table")
        ids = table[: data.draw(st.integers(1, len(table)))]
        self.pool.share(ids)
        self.tables.append(list(ids))

    @rule(wanted=st.lists(st.integers(0, 9), min_size=1, max_size=4, unique=True))
    def revive(self, wanted: list[int]) -> None:
        ids = [found for number in wanted if (found := self.pool.find(name(number))) is not None]
        self.pool.share(ids)
        self.retired = [block for block in self.retired if block not in ids]
        if ids:
            self.tables.append(ids)

    @precondition(lambda self: self.tables)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        table = self.tables.pop(data.draw(st.integers(0, len(self.tables) - 1), "table"))
        self.pool.release(table)
        self.retired += [block for block in reversed(table) if not self.references(block) and block in self.names]

    @precondition(lambda self: self.tables)
    @rule(numbers=st.lists(st.integers(0, 9), min_size=1, max_size=size, unique=True), data=st.data())
    def publish(self, numbers: list[int], data: st.DataObject) -> None:
        for number, block in zip(numbers, data.draw(st.sampled_from(self.tables), "table"), strict=False):
            if block in self.names:
                continue
            self.pool.publish(block, name(number))
            if name(number) not in self.names.values():
                self.names[block] = name(number)

    @invariant()
    def agrees(self) -> None:
        self.pool.check()
        references = [self.references(block) for block in range(self.size)]
        used = sum(count > 0 for count in references)
        self.peak = max(self.peak, used)
        assert [self.pool.references(block) for block in range(self.size)] == references
        assert [self.pool.hash_of(block) for block in range(self.size)] == [self.names.get(b) for b in range(self.size)]
        assert {self.pool.find(digest): digest for digest in self.names.values()} == self.names
        assert (self.pool.num_used, self.pool.num_free) == (used, self.size - used)
        assert (self.pool.peak_used, self.pool.num_evicted) == (self.peak, self.evicted)


PoolMachine.TestCase.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)
TestPoolMachine = PoolMachine.TestCase
