"""The map from positions to slots, and the names of block contents."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helix_cli.cache.table import BlockTable, chain_hash, is_run

IDS = st.lists(st.integers(0, 9), max_size=5)


def test_a_hash_is_128_bits_and_repeats() -> None:
    assert len(chain_hash(b"", [1, 2])) == 16
    assert chain_hash(b"", [1, 2]) == chain_hash(b"", (1, 2))


def test_a_hash_depends_on_the_tokens_their_order_and_everything_before() -> None:
    first = chain_hash(b"", [1, 2])
    other = chain_hash(b"", [2, 1])
    hashes = {first, other, chain_hash(first, [3, 4]), chain_hash(other, [3, 4]), chain_hash(b"", [3, 4])}
    assert len(hashes) == 5
    assert chain_hash(b"", [1, 256]) != chain_hash(b"", [257, 0])


@given(st.lists(IDS, max_size=4))
def test_contiguous_is_kept_by_append(pieces: list[list[int]]) -> None:
    table = BlockTable()
    for piece in pieces:
        table.append(piece)
    assert table.blocks == [block for piece in pieces for block in piece]
    assert table.contiguous == is_run(table.blocks)
    assert BlockTable(blocks=list(table.blocks)).contiguous == table.contiguous


@pytest.mark.parametrize(
    ("ids", "expected"),
    [([], True), ([7], True), ([3, 4, 5], True), ([3, 5], False), ([4, 3], False), ([3, 3], False)],
)
def test_a_run_ascends_one_by_one(ids: list[int], expected: bool) -> None:
    assert is_run(ids) is expected


@given(st.integers(1, 4), st.lists(st.integers(0, 20), min_size=1, max_size=5, unique=True), st.data())
def test_slots_are_the_slots_of_the_positions(block_size: int, blocks: list[int], data: st.DataObject) -> None:
    if data.draw(st.booleans(), "contiguous"):
        blocks = list(range(blocks[0], blocks[0] + len(blocks)))
    table = BlockTable(blocks=blocks)
    length = len(blocks) * block_size
    start = data.draw(st.integers(0, length))
    stop = data.draw(st.integers(start, length))
    expected = [blocks[position // block_size] * block_size + position % block_size for position in range(start, stop)]
    assert table.slots(start, stop, block_size) == expected
    assert [table.slot(position, block_size) for position in range(start, stop)] == expected


@pytest.mark.parametrize("blocks", [[4, 5], [4, 6]])
def test_a_position_without_a_block_has_no_slot(blocks: list[int]) -> None:
    table = BlockTable(blocks=blocks)
    with pytest.raises(AssertionError):
        table.slot(8, 4)
    with pytest.raises(AssertionError):
        table.slots(7, 9, 4)


def test_clear_forgets_everything() -> None:
    table = BlockTable(blocks=[5, 3], hashes=[b"x"], num_computed=6)
    table.clear()
    assert (table.blocks, table.hashes, table.num_computed, table.contiguous) == ([], [], 0, True)


def test_next_hash_walks_along_the_chain() -> None:
    tokens = [1, 2, 3, 4, 5]
    table = BlockTable()
    table.hashes.append(table.next_hash(tokens, 2))
    assert table.hashes[0] == chain_hash(b"", [1, 2])
    assert table.next_hash(tokens, 2) == chain_hash(table.hashes[0], [3, 4])
    table.hashes.append(table.next_hash(tokens, 2))
    with pytest.raises(AssertionError):
        table.next_hash(tokens, 2)


def test_tables_are_compared_by_identity() -> None:
    assert BlockTable() != BlockTable()
    assert len({BlockTable(), BlockTable()}) == 2
