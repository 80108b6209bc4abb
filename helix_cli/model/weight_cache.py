"""Eight-bit weights of a checkpoint on disk, so that choosing them is done once: a safetensors file for each part.

A checkpoint is known by its content: the size, the header and evenly spread samples of every weights file. Reading all
of it would cost as much as the cache saves. A file that was changed in place between the samples is told by its time.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from helix_cli.storage import Storage

KIND = "weights"
FORMAT_VERSION = 1
SAMPLES, SAMPLE_BYTES = 64, 4096
CHECKSUMS = "checksums.json"


class DamagedCache(Exception):
    """A part that is missing, or whose bytes are not those that were written."""


class WeightCache:
    """The parts of one checkpoint, by name; `settings` is whatever else the values depend on."""

    def __init__(self, storage: Storage, checkpoint: Path, settings: str) -> None:
        self._storage = storage
        self._source = str(checkpoint)
        self.key = fingerprint(checkpoint, settings)
        self._folder = storage.find(KIND, self.key)

    @property
    def present(self) -> bool:
        """Whether a complete set of parts is there; `read` tells whether it is sound."""
        return self._folder is not None

    def read(self, part: str) -> dict[str, Tensor]:
        """The tensors of one part; raises DamagedCache."""
        assert self._folder is not None
        path = self._folder / f"{part}.safetensors"
        try:
            wanted = json.loads((self._folder / CHECKSUMS).read_text(encoding="utf-8"))[path.name]
            if checksum(path) != wanted:
                raise DamagedCache(f"{path.name} is damaged")
            return load_file(path)
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise DamagedCache(f"{path.name} cannot be read") from error

    def discard(self) -> None:
        """Deletes a damaged set."""
        self._storage.remove(KIND, self.key)
        self._folder = None

    @contextmanager
    def writing(self) -> Iterator[_Writer]:
        """A writer of parts; all of them are there when the body ends, or none. Raises OSError."""
        with self._storage.write(KIND, self.key, self._source) as folder:
            writer = _Writer(folder)
            yield writer
            writer.finish()


class _Writer:
    """Writes parts into a folder and remembers their checksums."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._checksums: dict[str, int] = {}

    def write(self, part: str, tensors: dict[str, Tensor]) -> None:
        """Writes one part; raises OSError."""
        path = self._folder / f"{part}.safetensors"
        try:
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
        except SafetensorError as error:
            # The library wraps what the disk says, a full one above all.
            raise OSError(str(error)) from error
        self._checksums[path.name] = checksum(path)

    def finish(self) -> None:
        """Writes the checksums; without them a set is not whole."""
        (self._folder / CHECKSUMS).write_text(json.dumps(self._checksums), encoding="utf-8")


def fingerprint(checkpoint: Path, settings: str) -> str:
    """Name a checkpoint's content, together with everything that its eight-bit weights depend on; 128 bits in hex."""
    digest = hashlib.blake2b(f"{FORMAT_VERSION} {torch.__version__.split('+')[0]} {settings}".encode(), digest_size=16)
    digest.update((checkpoint / "config.json").read_bytes())
    for path in sorted(checkpoint.glob("*.safetensors")):
        state = path.stat()
        digest.update(f"{path.name} {state.st_size} {state.st_mtime_ns}".encode())
        step = max(SAMPLE_BYTES, state.st_size // SAMPLES)
        with path.open("rb") as file:
            for start in range(0, state.st_size, step):
                file.seek(start)
                digest.update(file.read(SAMPLE_BYTES))
    return digest.hexdigest()


def checksum(path: Path) -> int:
    """CRC-32 of a file, read in pieces: fast, and the global lock is let go meanwhile."""
    value = 0
    with path.open("rb") as file:
        while piece := file.read(1 << 22):
            value = zlib.crc32(piece, value)
    return value
