"""Finds checkpoints on this machine: in the hub's cache, and in folders that the user names."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from helix_cli.errors import InputError

DEPTH: Final = 4
"""How many folders deep a checkpoint is looked for below one that the user names."""
CONFIG: Final = "config.json"
HUB_CACHE: Final = "the hub's cache"


@dataclass(frozen=True)
class Found:
    """A folder that seems to hold a checkpoint, and what to call it. `problem` says why it cannot even be looked at."""

    name: str
    path: Path
    problem: str = ""


def find_checkpoints(folders: Sequence[Path]) -> list[Found]:
    """Those of the hub's cache, which HF_HOME moves, then those in `folders`; each folder once.

    Raises InputError for one of `folders` that is not there.
    """
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"There is no folder {folder}.", "Name folders that hold checkpoints.")
    found: dict[tuple[Path, str], Found] = {}
    for one in (*_in_hub_cache(), *(one for folder in folders for one in _below(folder, DEPTH))):
        found.setdefault((one.path.resolve(), one.problem), one)
    return list(found.values())


def _in_hub_cache() -> Iterator[Found]:
    """The newest snapshot of every model in the cache: the one that `main` names, where it is there."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.errors import CacheNotFound

    try:
        cache = scan_cache_dir()
    except CacheNotFound:
        return
    except ValueError as error:  # the cache's place is taken by a file
        yield Found(HUB_CACHE, Path(HF_HUB_CACHE), " ".join(str(error).split()))
        return
    for repository in sorted((one for one in cache.repos if one.repo_type == "model"), key=lambda one: one.repo_id):
        if not repository.revisions:
            yield Found(repository.repo_id, repository.repo_path, "Its download was never finished.")
            continue
        snapshot = max(repository.revisions, key=lambda one: ("main" in one.refs, one.last_modified))
        yield Found(repository.repo_id, snapshot.snapshot_path)
    for warning in cache.warnings:
        text = " ".join(str(warning).split())
        yield Found(HUB_CACHE, Path(HF_HUB_CACHE), f"The hub's cache is damaged: {text}")


def _below(folder: Path, depth: int) -> Iterator[Found]:
    """Every folder with a config.json, `folder` itself included; nothing is looked for below such a one."""
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and entry.name[0] != ".")
        is_checkpoint = (folder / CONFIG).is_file()
    except OSError as error:
        yield Found(str(folder), folder, f"It cannot be read: {error.strerror}.")
        return
    if is_checkpoint:
        yield Found(str(folder), folder)
    elif depth > 0:
        for name in names:
            yield from _below(folder / name, depth - 1)
