"""Growing, sharing, publishing and giving back, with the tensors standing in as a record of who wrote what."""

import mmap
import zlib
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from helix_cli.cache.paged import KVShape, PagedKVCache, bytes_per_block, num_blocks_for
from helix_cli.cache.pool import PoolExhausted
from helix_cli.cache.table import BlockTable, chain_hash
from helix_cli.errors import MemoryLimitError

BLOCK = 4


def small_cache(num_blocks: int = 8, prefix_reuse: bool = True) -> PagedKVCache:
    """One layer, one head, one number a slot."""
    return PagedKVCache([KVShape(1, 1, 1)], num_blocks, BLOCK, torch.int64, "cpu", prefix_reuse)


def compute(cache: PagedKVCache, tokens: list[int]) -> BlockTable:
    """A table in which all of `tokens` are computed and committed."""
    table = cache.match_prefix(tokens)
    cache.grow(table, len(tokens))
    cache.advance(table, tokens, len(tokens))
    return table


def test_the_layers_have_the_promised_shape_and_are_finite() -> None:
    cache = PagedKVCache([KVShape(2, 5, 5)] * 3, 7, BLOCK, torch.bfloat16, "cpu")
    assert (cache.num_blocks, cache.block_size, cache.num_slots) == (7, 4, 28)
    assert [tuple(layer.shape) for layer in cache.layers] == [(2, 2, 28, 5)] * 3
    assert len({layer.data_ptr() for layer in cache.layers}) == 3
    for layer in cache.layers:
        assert layer.dtype == torch.bfloat16 and not layer.any()


def test_memory_is_counted_in_bytes() -> None:
    assert bytes_per_block([KVShape(4, 64, 64)] * 22, 16, 2) == 22 * 2 * 4 * 64 * 16 * 2
    cache = PagedKVCache([KVShape(2, 5, 5)] * 3, 7, BLOCK, torch.bfloat16, "cpu")
    assert cache.block_bytes * 7 == sum(layer.nbytes for layer in cache.layers)
    table = compute(cache, [1] * 9)
    assert (cache.used_bytes(), cache.peak_bytes()) == (3 * cache.block_bytes, 3 * cache.block_bytes)
    cache.free(table)
    assert (cache.used_bytes(), cache.peak_bytes()) == (0, 3 * cache.block_bytes)


@pytest.mark.parametrize(("length", "blocks"), [(0, 0), (1, 1), (4, 1), (5, 2), (8, 2)])
def test_blocks_for_a_length(length: int, blocks: int) -> None:
    assert num_blocks_for(length, BLOCK) == blocks


def test_a_pool_that_does_not_fit_is_the_users_business() -> None:
    with pytest.raises(MemoryLimitError, match="1048576") as caught:
        PagedKVCache([KVShape(2**10, 2**10, 2**10)], 2**20, 2**10, torch.float32, "cpu")
    assert caught.value.hint


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="only Linux says which pages a process has")
def test_a_pool_costs_nothing_until_it_is_written_and_then_a_page() -> None:
    before = resident_bytes()
    cache = PagedKVCache([KVShape(2, 64, 64)] * 2, 2**12, 16, torch.float32, "cpu")
    assert cache.layers[0].nbytes == 2**26
    # Huge pages that a program asks for are found and cleared while its first token waits.
    assert "hg" not in flags_of(cache.layers[0].data_ptr() + 2**25)
    for layer in cache.layers:
        layer.narrow(2, 1000, 8).fill_(1.0)
    assert resident_bytes() - before < 2**25
    assert all(float(layer.sum()) == 2 * 2 * 8 * 64 for layer in cache.layers)


def resident_bytes() -> int:
    """Memory of this process that is really there."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE


def flags_of(address: int) -> list[str]:
    """What the kernel was told about the mapping that holds `address`."""
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        name, *rest = line.split()
        if not name.endswith(":"):
            start, end = (int(part, 16) for part in name.split("-"))
            inside = start <= address < end
        elif inside and name == "VmFlags:":
            return rest
    pytest.skip("this kernel does not say")


def test_other_failures_of_the_device_are_not_called_memory() -> None:
    with pytest.raises(RuntimeError):
        PagedKVCache([KVShape(1, 1, 1)], 1, BLOCK, torch.float32, "no such device")


@pytest.mark.parametrize(("length", "matched"), [(1, 0), (4, 0), (5, 4), (8, 4), (9, 8), (12, 8), (13, 12), (20, 12)])
def test_a_match_never_covers_the_last_token(length: int, matched: int) -> None:
    cache = small_cache()
    tokens = list(range(12))
    first = compute(cache, tokens)
    second = cache.match_prefix([*tokens, *range(50, 58)][:length])
    assert second.num_computed == matched
    assert second.blocks == first.blocks[: matched // BLOCK] and second.hashes == first.hashes[: matched // BLOCK]
    cache.check([first, second])


def test_nothing_matches_no_tokens() -> None:
    assert small_cache().match_prefix([]).blocks == []


def test_a_match_ends_at_the_first_difference() -> None:
    cache = small_cache()
    compute(cache, list(range(12)))
    assert cache.match_prefix([0, 1, 2, 3, 4, 99, 6, 7, 8, 9, 10, 11, 12]).num_computed == 4
    assert cache.match_prefix([99, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]).num_computed == 0


def test_a_match_ends_where_a_block_was_lost() -> None:
    cache = small_cache(num_blocks=3)
    tokens = list(range(12))
    cache.free(compute(cache, tokens))
    cache.pool.take(1)
    assert cache.match_prefix([*tokens, 12]).num_computed == 8


def test_a_freed_prefix_is_revived() -> None:
    cache = small_cache()
    tokens = list(range(12))
    table = compute(cache, tokens)
    blocks = list(table.blocks)
    cache.free(table)
    assert (table.blocks, table.num_computed, cache.pool.num_used) == ([], 0, 0)
    again = cache.match_prefix([*tokens, 12])
    assert (again.blocks, again.num_computed) == (blocks, 12)
    cache.check([again])


def test_one_user_is_contiguous_until_the_pool_is_full() -> None:
    cache = small_cache()
    table = BlockTable()
    for length in range(1, cache.num_slots + 1):
        cache.grow(table, length)
        assert table.contiguous and len(table.blocks) == num_blocks_for(length, BLOCK)
    assert not cache.can_grow(table, cache.num_slots + 1)


def test_a_conversation_continues_its_own_run() -> None:
    cache = small_cache()
    cache.free(compute(cache, list(range(10))))
    table = compute(cache, list(range(20)))
    assert table.blocks == [0, 1, 2, 3, 4] and table.contiguous


def test_a_table_grows_into_its_own_neighbour() -> None:
    cache = small_cache(prefix_reuse=False)
    tables = [compute(cache, [1] * BLOCK) for _ in range(3)]
    cache.free(tables[1])
    cache.grow(tables[0], 3 * BLOCK)
    assert tables[0].blocks == [0, 1, 3]  # not 3, 4: the longest run is for those who start afresh


def test_growing_beyond_the_pool_changes_nothing() -> None:
    cache = small_cache(num_blocks=3)
    table = compute(cache, [1] * 5)
    assert cache.can_grow(table, 12) and not cache.can_grow(table, 13)
    with pytest.raises(PoolExhausted):
        cache.grow(table, 13)
    assert (len(table.blocks), table.num_computed) == (2, 5)
    cache.check([table])


def test_growing_to_less_changes_nothing() -> None:
    cache = small_cache()
    table = compute(cache, [1] * 9)
    cache.grow(table, 2)
    assert len(table.blocks) == 3 and cache.can_grow(table, 2)


def test_full_blocks_are_published_as_they_fill() -> None:
    cache = small_cache()
    tokens = list(range(9))
    table = BlockTable()
    cache.grow(table, 9)
    expected = [chain_hash(b"", tokens[:4])]
    expected.append(chain_hash(expected[0], tokens[4:8]))
    for computed in range(10):
        cache.advance(table, tokens, computed)
        assert table.hashes == expected[: computed // BLOCK]
        assert [cache.pool.find(digest) for digest in expected] == table.blocks[: computed // BLOCK] + [None] * (
            2 - computed // BLOCK
        )


def test_drafted_positions_are_never_published() -> None:
    cache = small_cache()
    tokens = [1, 2, 3]
    table = BlockTable()
    cache.grow(table, 8)
    cache.advance(table, tokens, 8)  # a draft model runs five positions ahead
    assert table.num_computed == 8 and table.hashes == []
    cache.advance(table, tokens, 3)
    cache.advance(table, [*tokens, 9], 4)
    assert table.hashes == [chain_hash(b"", [1, 2, 3, 9])]
    assert cache.pool.find(chain_hash(b"", [1, 2, 3, 9])) == table.blocks[0]
    cache.check([table])


def test_committed_positions_are_not_published_before_they_are_computed() -> None:
    cache = small_cache()
    table = BlockTable()
    cache.grow(table, 8)
    cache.advance(table, list(range(8)), 7)
    assert len(table.hashes) == 1


def test_rolling_back_is_an_assignment_down_to_the_published_prefix() -> None:
    cache = small_cache()
    tokens = list(range(10))
    table = compute(cache, tokens)
    cache.advance(table, tokens, 8)
    assert table.num_computed == 8 and len(table.blocks) == 3
    cache.check([table])
    with pytest.raises(AssertionError):
        cache.advance(table, tokens, 7)
    with pytest.raises(AssertionError):
        cache.advance(table, tokens, 13)


def test_a_shared_block_is_never_written() -> None:
    cache = small_cache()
    first = compute(cache, list(range(9)))
    second = cache.match_prefix(list(range(9)))
    cache.grow(second, 12)
    assert second.blocks[:2] == first.blocks[:2] and second.blocks[2] != first.blocks[2]
    second.num_computed = 5
    with pytest.raises(AssertionError, match="published"):
        cache.grow(second, 12)
    second.hashes.clear()
    with pytest.raises(AssertionError, match="shared"):
        cache.grow(second, 12)


def test_twins_publish_once() -> None:
    cache = small_cache()
    tokens = list(range(9))
    tables = [cache.match_prefix(tokens) for _ in range(2)]
    for table in tables:
        cache.grow(table, 9)
        cache.advance(table, tokens, 9)
    assert tables[0].hashes == tables[1].hashes and not set(tables[0].blocks) & set(tables[1].blocks)
    cache.check(tables)
    assert cache.match_prefix(tokens).blocks == tables[0].blocks[:2]


def test_without_prefix_reuse_nothing_is_published_or_matched() -> None:
    cache = small_cache(prefix_reuse=False)
    tokens = list(range(9))
    table = compute(cache, tokens)
    assert table.hashes == [] and cache.match_prefix(tokens).blocks == []
    cache.advance(table, tokens, 0)
    cache.grow(table, 9)
    cache.check([table])


def test_waste_is_what_is_owned_and_not_computed() -> None:
    cache = small_cache()
    tables = [compute(cache, [1] * 5), compute(cache, [2] * 4)]
    assert cache.waste(tables) == 3
    tables.append(cache.match_prefix([1] * 5))
    assert cache.waste(tables) == 3


def test_check_sees_a_forgotten_table() -> None:
    cache = small_cache()
    tables = [compute(cache, [1] * 5), compute(cache, [2] * 5)]
    cache.check(tables)
    with pytest.raises(AssertionError):
        cache.check(tables[:1])
    with pytest.raises(AssertionError):
        cache.check([*tables, BlockTable(blocks=[0])])


def test_check_sees_an_unfinished_block_in_two_tables() -> None:
    cache = small_cache()
    table = compute(cache, [1] * 5)
    cache.pool.share([0])
    cache.check([table, BlockTable(blocks=[0], hashes=table.hashes[:1], num_computed=4)])
    cache.pool.release([0])
    cache.pool._references[1] = 2
    with pytest.raises(AssertionError, match="nobody can find"):
        cache.check([table, BlockTable(blocks=[1])])


@pytest.mark.parametrize(
    "damage",
    [
        lambda table: table.hashes.reverse(),
        lambda table: table.hashes.append(b"x"),
        lambda table: table.hashes.pop(),
        lambda table: setattr(table, "num_computed", 7),
        lambda table: setattr(table, "num_computed", 13),
        lambda table: setattr(table, "_contiguous", False),
        lambda table: table.blocks.__setitem__(2, 0),
    ],
)
def test_check_sees_a_damaged_table(damage) -> None:  # type: ignore[no-untyped-def]
    cache = small_cache()
    table = compute(cache, list(range(9)))
    cache.check([table])
    damage(table)
    with pytest.raises(AssertionError):
        cache.check([table])


class CacheMachine(RuleBasedStateMachine):
    """Sequences that share prefixes; each slot records the whole prefix for which it was computed."""

    tokens = st.lists(st.integers(0, 1), min_size=1, max_size=14)

    def __init__(self) -> None:
        super().__init__()
        self.cache = small_cache(num_blocks=9)
        self.alive: list[tuple[list[int], BlockTable]] = []

    def record(self, table: BlockTable) -> list[int]:
        """What lies in the slots of the computed positions."""
        slots = table.slots(0, table.num_computed, BLOCK)
        values: list[int] = self.cache.layers[0][0, 0, slots, 0].tolist()
        return values

    def write(self, table: BlockTable, tokens: list[int]) -> None:
        """Compute what is missing of `tokens`, as a forward pass would."""
        slots = table.slots(table.num_computed, len(tokens), BLOCK)
        values = [trace(tokens[: position + 1]) for position in range(table.num_computed, len(tokens))]
        self.cache.layers[0][:, 0, slots, 0] = torch.tensor(values, dtype=torch.int64)

    def pick(self, data: st.DataObject) -> tuple[list[int], BlockTable]:
        """One of the sequences that are alive."""
        return self.alive[data.draw(st.integers(0, len(self.alive) - 1), "sequence")]

    @rule(prompt=tokens)
    def start(self, prompt: list[int]) -> None:
        table = self.cache.match_prefix(prompt)
        assert table.num_computed < len(prompt)
        self.alive.append((prompt, table))

    @precondition(lambda self: self.alive)
    @rule(data=st.data(), draft=st.lists(st.integers(0, 1), max_size=5), following=st.integers(0, 1))
    def step(self, data: st.DataObject, draft: list[int], following: int) -> None:
        tokens, table = self.pick(data)
        fed = tokens + draft
        if not self.cache.can_grow(table, len(fed)):
            before = list(table.blocks)
            with pytest.raises(PoolExhausted):
                self.cache.grow(table, len(fed))
            assert table.blocks == before
            return
        self.cache.grow(table, len(fed))
        self.write(table, fed)
        if data.draw(st.booleans(), "runs ahead"):  # as the draft model's own cache does
            self.cache.advance(table, tokens, len(fed))
        accepted = data.draw(st.integers(0, len(draft)), "accepted")
        tokens += [*draft[:accepted], following]
        self.cache.advance(table, tokens, len(tokens) - 1)

    @precondition(lambda self: self.alive)
    @rule(data=st.data(), share=st.floats(0, 1))
    def prefill_a_chunk(self, data: st.DataObject, share: float) -> None:
        tokens, table = self.pick(data)
        stop = table.num_computed + int(share * (len(tokens) - table.num_computed))
        if self.cache.can_grow(table, stop):
            self.cache.grow(table, stop)
            self.write(table, tokens[:stop])
            self.cache.advance(table, tokens, stop)

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def roll_back(self, data: st.DataObject) -> None:
        tokens, table = self.pick(data)
        least = len(table.hashes) * BLOCK
        self.cache.advance(table, tokens, data.draw(st.integers(least, table.num_computed), "num_computed"))

    @precondition(lambda self: self.alive)
    @rule(data=st.data(), resumes=st.booleans())
    def preempt(self, data: st.DataObject, resumes: bool) -> None:
        tokens, table = self.pick(data)
        self.alive = [pair for pair in self.alive if pair[1] is not table]
        self.cache.free(table)
        if resumes:
            self.alive.append((tokens, self.cache.match_prefix(tokens)))

    @invariant()
    def every_computed_position_holds_its_own_prefix(self) -> None:
        for tokens, table in self.alive:
            assert self.record(table) == [trace(tokens[: end + 1]) for end in range(table.num_computed)]

    @invariant()
    def is_consistent(self) -> None:
        self.cache.check([table for _, table in self.alive])
        for tokens, table in self.alive:
            chain = [b""]
            for start in range(0, table.num_computed - BLOCK + 1, BLOCK):
                chain.append(chain_hash(chain[-1], tokens[start : start + BLOCK]))
            assert table.hashes == chain[1:]

    def teardown(self) -> None:
        for _, table in self.alive:
            self.cache.free(table)
        self.cache.check([])
        assert self.cache.pool.num_used == 0


def trace(tokens: list[int]) -> int:
    """A number that stands for the K/V of the last of `tokens`, which depend on all of them. Never 0."""
    return zlib.crc32(bytes(tokens)) + 1


CacheMachine.TestCase.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
TestCacheMachine = CacheMachine.TestCase
