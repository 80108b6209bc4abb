"""Folders on disk are whole or absent, and the oldest go when there are too many."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from helix_cli.storage import Storage, read_record, write_record

LARGE = 1 << 30


def put(storage: Storage, key: str, size: int, used: float | None = None, kind: str = "weights") -> None:
    with storage.write(kind, key, f"from {key}") as folder:
        (folder / "data").write_bytes(bytes(size))
    if used is not None:
        os.utime(storage.root / kind / key / "last-use", (used, used))


def test_what_was_written_is_found_and_listed(tmp_path: Path) -> None:
    storage = Storage(tmp_path, LARGE)
    assert storage.find("weights", "a") is None and storage.entries() == []
    put(storage, "a", 100, used=1.0)
    put(storage, "b", 5, used=2.0, kind="measurements")
    assert [(one.kind, one.key, one.source) for one in storage.entries()] == [
        ("weights", "a", "from a"),
        ("measurements", "b", "from b"),
    ]
    assert 100 <= storage.entries()[0].num_bytes < 200
    found = storage.find("weights", "a")
    assert found is not None and (found / "data").stat().st_size == 100
    assert storage.entries()[-1].key == "a", "finding is a use"


def test_a_body_that_fails_leaves_nothing(tmp_path: Path) -> None:
    storage = Storage(tmp_path, LARGE)
    put(storage, "a", 1)
    with pytest.raises(OSError, match="full"), storage.write("weights", "a", "again") as folder:
        (folder / "data").write_bytes(bytes(7))
        raise OSError("full")
    assert [one.source for one in storage.entries()] == ["from a"], "the old one stays"
    assert [path.name for path in (tmp_path / "weights").iterdir()] == ["a"]


def test_the_limit_drops_what_was_used_longest_ago_but_never_what_was_just_written(tmp_path: Path) -> None:
    storage = Storage(tmp_path, 1000)
    put(storage, "old", 400, used=1.0)
    put(storage, "new", 300, used=2.0)
    put(storage, "latest", 400)
    assert {one.key for one in storage.entries()} == {"new", "latest"}
    put(storage, "giant", 5000)
    assert {one.key for one in storage.entries()} == {"giant"}


def test_clear_goes_by_kind_and_takes_unfinished_folders(tmp_path: Path) -> None:
    storage = Storage(tmp_path, LARGE)
    put(storage, "a", 100)
    put(storage, "b", 100, kind="measurements")
    (tmp_path / "weights" / ".partial-left").mkdir()
    assert storage.clear("weights") >= 100
    assert [one.key for one in storage.entries()] == ["b"]
    assert list((tmp_path / "weights").iterdir()) == []
    storage.clear()
    assert storage.entries() == []


def test_unfinished_folders_of_the_dead_go_and_those_of_the_living_stay(tmp_path: Path) -> None:
    storage = Storage(tmp_path, LARGE)
    for name, age in ((".partial-dead", 1.0), (".partial-alive", None)):
        folder = tmp_path / "weights" / name
        folder.mkdir(parents=True)
        if age is not None:
            os.utime(folder, (age, age))
    put(storage, "a", 1)
    assert {path.name for path in (tmp_path / "weights").iterdir()} == {".partial-alive", "a"}


def test_records(tmp_path: Path) -> None:
    storage = Storage(tmp_path, LARGE)
    assert read_record(storage, "measurements", "x") is None
    write_record(storage, "measurements", "x", "here", [1.5, 2.5])
    assert read_record(storage, "measurements", "x") == [1.5, 2.5]
    (tmp_path / "measurements" / "x" / "record.json").write_text("{")
    assert read_record(storage, "measurements", "x") is None


def test_a_directory_that_cannot_be_written_is_no_reason_to_stop(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    storage = Storage(blocked / "below", LARGE)
    write_record(storage, "measurements", "x", "here", 1)
    assert read_record(storage, "measurements", "x") is None and storage.entries() == [] and storage.clear() == 0
    with pytest.raises(OSError, match="file"), storage.write("weights", "a", "x"):
        pass


def test_places_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HELIX_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("HELIX_CACHE_GIB", "2")
    assert (Storage().root, Storage().limit) == (tmp_path, 2 << 30)
    monkeypatch.setenv("HELIX_CACHE_GIB", "many")
    monkeypatch.delenv("HELIX_CACHE_DIR")
    assert Storage().limit == 20 << 30 and "helix" in str(Storage().root)
