"""What Helix keeps on disk between runs, in the user's cache directory: folders that are whole or absent.

Everything here can be made again, so it may be deleted at any time, and a disk that is full or read-only costs only the
saving of time.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DIRECTORY_VARIABLE = "HELIX_CACHE_DIR"
LIMIT_VARIABLE = "HELIX_CACHE_GIB"
DEFAULT_LIMIT_GIB = 20.0
KINDS = ("weights", "measurements", "kernels", "prompts")
"""Eight-bit weights of checkpoints, what was measured of this machine and compiled for it, and K/V of prompts."""
LAST_USE = "last-use"
ABANDONED_S = 24 * 3600.0
"""A folder that is still unfinished after this long was left behind by a process that died."""


@dataclass(frozen=True)
class Entry:
    """One folder: its kind, its name, what it was made from, its bytes, and when it was last used (Unix seconds)."""

    kind: str
    key: str
    source: str
    num_bytes: int
    used: float


class Storage:
    """The cache directory, at most `limit` bytes of it; what was used longest ago goes first."""

    def __init__(self, root: Path | None = None, limit: int | None = None) -> None:
        """`root` is $HELIX_CACHE_DIR or the system's place for caches, `limit` $HELIX_CACHE_GIB or 20 GiB."""
        self.root = root or _default_root()
        self.limit = _default_limit() if limit is None else limit

    def find(self, kind: str, key: str) -> Path | None:
        """The complete folder of that name, noted as used now; None where there is none."""
        folder = self.root / kind / key
        if not folder.is_dir():
            return None
        with suppress(OSError):
            (folder / LAST_USE).touch()
        return folder

    @contextmanager
    def write(self, kind: str, key: str, source: str) -> Iterator[Path]:
        """A folder to fill, which takes its name when the body ends and vanishes when it raises. Raises OSError."""
        self.root.joinpath(kind).mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=self.root / kind))
        try:
            yield partial
            (partial / "source.json").write_text(json.dumps(source), encoding="utf-8")
            (partial / LAST_USE).touch()
            final = self.root / kind / key
            shutil.rmtree(final, ignore_errors=True)
            os.replace(partial, final)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        self._keep_to_limit(spare=key)

    def remove(self, kind: str, key: str) -> None:
        """Deletes one folder, if it is there."""
        shutil.rmtree(self.root / kind / key, ignore_errors=True)

    def keys(self, kind: str) -> list[str]:
        """The names of every complete folder of one kind."""
        return [folder.name for folder in self._folders(kind) if folder.name[0] != "."]

    def entries(self) -> list[Entry]:
        """Every complete folder, the one used longest ago first."""
        found = [_entry(kind, folder) for kind in KINDS for folder in self._folders(kind) if folder.name[0] != "."]
        return sorted((one for one in found if one is not None), key=lambda one: one.used)

    def clear(self, kind: str | None = None) -> int:
        """Deletes everything, or everything of one kind; returns the bytes of complete folders that went."""
        freed = 0
        for entry in self.entries():
            if kind in (None, entry.kind):
                self.remove(entry.kind, entry.key)
                freed += 0 if (self.root / entry.kind / entry.key).exists() else entry.num_bytes
        self._sweep(older_than_s=0.0)
        return freed

    def _keep_to_limit(self, spare: str) -> None:
        self._sweep(ABANDONED_S)
        entries = self.entries()
        surplus = sum(one.num_bytes for one in entries) - self.limit
        for entry in entries:
            if surplus <= 0:
                return
            if entry.key != spare:
                self.remove(entry.kind, entry.key)
                surplus -= entry.num_bytes

    def _sweep(self, older_than_s: float) -> None:
        for folder in (folder for kind in KINDS for folder in self._folders(kind) if folder.name[0] == "."):
            with suppress(OSError):
                if time.time() - folder.stat().st_mtime >= older_than_s:
                    shutil.rmtree(folder, ignore_errors=True)

    def _folders(self, kind: str) -> list[Path]:
        try:
            return [folder for folder in (self.root / kind).iterdir() if folder.is_dir()]
        except OSError:
            return []


def read_record(storage: Storage, kind: str, key: str) -> Any:
    """The JSON value kept under that name; None where there is none that can be read."""
    folder = storage.find(kind, key)
    try:
        return None if folder is None else json.loads((folder / "record.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def write_record(storage: Storage, kind: str, key: str, source: str, value: Any) -> None:
    """Keeps a JSON value; a disk that does not take it is no reason to stop."""
    with suppress(OSError), storage.write(kind, key, source) as folder:
        (folder / "record.json").write_text(json.dumps(value), encoding="utf-8")


def _entry(kind: str, folder: Path) -> Entry | None:
    try:
        source = json.loads((folder / "source.json").read_text(encoding="utf-8"))
        num_bytes = sum(file.stat().st_size for file in folder.iterdir())
        return Entry(kind, folder.name, str(source), num_bytes, (folder / LAST_USE).stat().st_mtime)
    except (OSError, ValueError):
        return None


def _default_root() -> Path:
    chosen = os.environ.get(DIRECTORY_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    from platformdirs import user_cache_path

    return user_cache_path("helix-cli", appauthor=False)


def _default_limit() -> int:
    try:
        gib = float(os.environ.get(LIMIT_VARIABLE, DEFAULT_LIMIT_GIB))
    except ValueError:
        gib = DEFAULT_LIMIT_GIB
    return int(gib * 2**30)
