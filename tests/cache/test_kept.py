"""Prompts on disk: what is read back is what was computed, and nothing that is foreign or damaged is believed."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from helix_cli.cache.kept import KIND, KeptPrompts
from helix_cli.cache.paged import KVShape, PagedKVCache
from helix_cli.storage import Storage

BLOCK = 4
PROMPT = list(range(30, 49))
FULL = 16


def new_cache(num_blocks: int = 16, layers: int = 2) -> PagedKVCache:
    return PagedKVCache([KVShape(2, 8, 8)] * layers, num_blocks, BLOCK, torch.float32, "cpu")


def compute(cache: PagedKVCache, tokens: list[int], seed: int) -> None:
    """Stands for a model: fills the K/V of a prompt and lets go of it."""
    table = cache.match_prefix(tokens)
    start = table.num_computed
    cache.grow(table, len(tokens))
    generator = torch.Generator().manual_seed(seed)
    for layer in cache.layers:
        slots = table.slots(start, len(tokens), BLOCK)
        layer[:, :, slots] = torch.randn(2, 2, len(slots), 8, generator=generator)
    cache.advance(table, tokens, len(tokens))
    cache.free(table)


def contents(cache: PagedKVCache, tokens: list[int]) -> list[torch.Tensor]:
    """K/V of the prefix that is found."""
    table = cache.match_prefix(tokens)
    slots = table.slots(0, table.num_computed, BLOCK)
    found = [layer[:, :, slots].clone() for layer in cache.layers]
    cache.free(table)
    return found


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path)


@pytest.fixture
def fresh(storage: Storage) -> Callable[..., KeptPrompts]:
    def open_kept(name: str | None = None, models: str = "pair", num_blocks: int = 16) -> KeptPrompts:
        caches = {"target": new_cache(num_blocks), "draft": new_cache(num_blocks, layers=1)}
        return KeptPrompts(storage, caches, models, name)

    return open_kept


def kept(fresh: Callable[..., KeptPrompts], tokens: list[int] = PROMPT, name: str | None = None) -> KeptPrompts:
    """A process that computed a prompt and kept it."""
    first = fresh(name)
    for seed, cache in enumerate(first._caches.values()):
        compute(cache, tokens, seed)
    first.keep(tokens)
    assert not first.notes
    return first


@pytest.mark.parametrize("name", [None, "notes", "a b/../c"])
def test_a_second_process_finds_the_blocks(fresh: Callable[..., KeptPrompts], name: str | None) -> None:
    first, second = kept(fresh, name=name), fresh(name)
    longer = [*PROMPT[:18], 7, 8, 9]
    assert second.restore(longer) == FULL and not second.notes
    for role, cache in second._caches.items():
        wanted, found = contents(first._caches[role], PROMPT), contents(cache, longer)
        assert all(torch.equal(a, b) for a, b in zip(wanted, found, strict=True)) and found[0].shape[2] == FULL
        cache.check([])
    assert second.restore(longer) == 0, "what is in the pool already is not read again"


def test_only_what_is_shared_is_found(fresh: Callable[..., KeptPrompts]) -> None:
    kept(fresh)
    assert fresh().restore([*PROMPT[:9], 1, 2, 3, 4]) == 8
    assert fresh().restore(PROMPT[:8]) == 4, "the last token is always computed"
    assert fresh().restore([1, *PROMPT]) == 0


def test_the_longest_entry_wins_and_contains_shorter_ones(fresh: Callable[..., KeptPrompts], storage: Storage) -> None:
    kept(fresh, PROMPT[:10])
    kept(fresh)
    kept(fresh, [*PROMPT[:10], *range(12)])
    assert len(storage.keys(KIND)) == 2
    assert fresh().restore([*PROMPT, 5]) == FULL
    assert fresh().restore([*PROMPT[:10], *range(12), 11]) == 20
    kept(fresh, PROMPT[:12])
    assert len(storage.keys(KIND)) == 2, "contained already"


def test_a_name_has_one_entry_and_others_do_not_see_it(fresh: Callable[..., KeptPrompts], storage: Storage) -> None:
    kept(fresh, name="one")
    assert fresh("two").restore(PROMPT) == 0
    kept(fresh, list(range(20)), name="one")
    assert len(storage.keys(KIND)) == 1 and fresh("one").restore(PROMPT) == 0
    assert fresh("one").restore([*range(20)]) == FULL


def test_other_models_are_strangers(fresh: Callable[..., KeptPrompts]) -> None:
    kept(fresh)
    assert fresh(models="another").restore(PROMPT) == 0


def test_a_draft_that_computed_less(fresh: Callable[..., KeptPrompts]) -> None:
    first = fresh()
    compute(first._caches["target"], PROMPT, 0)
    compute(first._caches["draft"], PROMPT[:9], 0)
    first.keep(PROMPT)
    second = fresh()
    assert second.restore(PROMPT) == FULL
    assert [contents(cache, PROMPT)[0].shape[2] for cache in second._caches.values()] == [FULL, 8]


@pytest.mark.parametrize("damage", ["bits", "tokens", "one token", "checksums", "missing"])
def test_a_damaged_entry_is_removed_with_one_line(
    fresh: Callable[..., KeptPrompts], storage: Storage, damage: str
) -> None:
    kept(fresh)
    [key] = storage.keys(KIND)
    folder = storage.root / KIND / key
    if damage == "bits":
        content = bytearray((folder / "draft.safetensors").read_bytes())
        content[-3] ^= 1
        (folder / "draft.safetensors").write_bytes(bytes(content))
    elif damage == "missing":
        (folder / "draft.safetensors").unlink()
    elif damage == "checksums":
        (folder / "checksums.json").write_text("[]")
    elif damage == "one token":
        (folder / "tokens.json").write_text(json.dumps([*PROMPT[: FULL - 1], 7]))
    else:
        (folder / "tokens.json").write_text("{")
    second = fresh()
    assert second.restore(PROMPT) == 0
    assert all(cache.pool.num_used == 0 and not contents(cache, PROMPT)[0].numel() for cache in second._caches.values())
    [note] = second.notes
    assert "damaged" in note and not storage.keys(KIND)


def test_a_pool_without_room_is_left_alone(fresh: Callable[..., KeptPrompts]) -> None:
    kept(fresh)
    small = fresh(num_blocks=3)
    assert small.restore(PROMPT) == 0 and not small.notes


def test_a_full_disk_costs_a_note(fresh: Callable[..., KeptPrompts], monkeypatch: pytest.MonkeyPatch) -> None:
    first = fresh()
    for cache in first._caches.values():
        compute(cache, PROMPT, 0)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("helix_cli.cache.kept.save_file", full)
    first.keep(PROMPT)
    [note] = first.notes
    assert "No space left" in note
    for cache in first._caches.values():
        cache.check([])


def test_a_short_prompt_has_nothing_to_keep(fresh: Callable[..., KeptPrompts], storage: Storage) -> None:
    kept(fresh, PROMPT[:4])
    assert not storage.keys(KIND)
    kept(fresh, PROMPT[:5])
    [key] = storage.keys(KIND)
    assert json.loads((storage.root / KIND / key / "tokens.json").read_text()) == PROMPT[:4]
