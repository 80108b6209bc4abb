"""Keys and values of prompts on disk, so that a second process need not compute a long text again.

An entry holds the full blocks of one prompt, for the target and, where one drafts, for the draft. What is read goes
into free blocks of the pool and is published under the chain hashes of its tokens, exactly as if it had been computed
here; the scheduler then finds it like any other prefix. Entries belong to a model's content and to everything else that
its K/V depend on; entries of others are never looked at.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from helix_cli.cache.paged import PagedKVCache
from helix_cli.cache.table import BlockTable
from helix_cli.storage import Storage

KIND = "prompts"
TOKENS, CHECKSUMS = "tokens.json", "checksums.json"
FORMAT_VERSION = 2


class KeptPrompts:
    """The prompts kept for one pair of models; `notes` collects what the user should hear of them."""

    def __init__(self, storage: Storage, caches: Mapping[str, PagedKVCache], models: str, name: str | None) -> None:
        """`caches` by role. `models` names the content of all models and the settings that their K/V depend on.

        With a `name`, one entry of that name is read and written; without, every prompt has an entry of its own.
        """
        self._storage, self._caches, self._name = storage, caches, name
        self.block_size = next(iter(caches.values())).block_size
        facts = f"{FORMAT_VERSION} {self.block_size} {sorted(caches)} {models}"
        self._models = hashlib.blake2b(facts.encode(), digest_size=12).hexdigest()
        self.notes: list[str] = []

    def restore(self, tokens: Sequence[int]) -> int:
        """Reads the entry that shares the most blocks with `tokens` into the pools; returns the tokens that it held."""
        best, shared = None, self._num_held(tokens)
        for key in self._keys():
            num_blocks = self._num_shared(self._tokens_of(key), tokens)
            if num_blocks > shared:
                best, shared = key, num_blocks
        if best is None or any(shared > cache.pool.num_free for cache in self._caches.values()):
            return 0
        try:
            self._read(best, tokens, shared * self.block_size)
        except (OSError, ValueError, KeyError, TypeError, SafetensorError, RuntimeError):
            self._discard(best)
            return 0
        return shared * self.block_size

    def keep(self, tokens: Sequence[int]) -> None:
        """Writes the blocks of `tokens` that are in the target's pool, unless an entry holds them already.

        The last token's block is left out, as it is never shared. A disk that does not take it costs a note.
        """
        target = self._caches["target"]
        table = target.match_prefix(tokens)
        held = list(tokens[: table.num_computed])
        target.free(table)
        if not held or any(self._tokens_of(key)[: len(held)] == held for key in self._keys()):
            return
        label = self._name or hashlib.blake2b(json.dumps(held).encode(), digest_size=8).hexdigest()
        try:
            with self._storage.write(
                KIND, self._key(label), f"{len(held)} tokens, {self._name or 'by content'}"
            ) as folder:
                self._write(folder, held)
        except (OSError, SafetensorError) as error:
            self.notes.append(f"The prompt could not be kept for the next start: {getattr(error, 'strerror', error)}.")
            return
        if self._name is None:
            self._drop_beginnings(held)

    def _write(self, folder: Path, tokens: list[int]) -> None:
        checksums = {}
        for role, cache in self._caches.items():
            # One token more, because a match always leaves the last one to compute.
            table = cache.match_prefix([*tokens, 0])
            slots = table.slots(0, table.num_computed, self.block_size)
            path = folder / f"{role}.safetensors"
            try:
                save_file({f"{place}": layer[:, :, slots].cpu() for place, layer in enumerate(cache.layers)}, path)
            finally:
                cache.free(table)
            checksums[role] = _checksum(path)
        (folder / TOKENS).write_text(json.dumps(tokens), encoding="utf-8")
        checksums[TOKENS] = _checksum(folder / TOKENS)
        (folder / CHECKSUMS).write_text(json.dumps(checksums), encoding="utf-8")

    def _read(self, key: str, tokens: Sequence[int], length: int) -> None:
        """Everything is checked before the first pool is touched."""
        folder = self._storage.find(KIND, key)
        if folder is None:
            raise OSError(key)
        wanted = json.loads((folder / CHECKSUMS).read_text(encoding="utf-8"))
        files = {role: folder / f"{role}.safetensors" for role in self._caches}
        for name, path in {TOKENS: folder / TOKENS, **files}.items():
            if _checksum(path) != wanted[name]:
                raise ValueError(f"{path} is damaged")
        held = {}
        for role, cache in self._caches.items():
            with safe_open(files[role], framework="pt") as file:
                held[role] = [file.get_tensor(f"{place}") for place in range(len(cache.layers))]
        for role, cache in self._caches.items():
            self._publish(cache, held[role], tokens, length)

    def _publish(self, cache: PagedKVCache, layers: list[Tensor], tokens: Sequence[int], length: int) -> None:
        """A draft may have computed fewer blocks than the target."""
        length = min(length, layers[0].shape[2])
        table = BlockTable()
        cache.grow(table, length)
        slots = table.slots(0, length, self.block_size)
        try:
            for mine, theirs in zip(cache.layers, layers, strict=True):
                mine[:, :, slots] = theirs[:, :, :length].to(mine)
            cache.advance(table, tokens, length)
        finally:
            cache.free(table)

    def _num_held(self, tokens: Sequence[int]) -> int:
        """Blocks of `tokens` that the target's pool holds already."""
        table = self._caches["target"].match_prefix(tokens)
        num_blocks = len(table.blocks)
        self._caches["target"].free(table)
        return num_blocks

    def _num_shared(self, held: Sequence[int], tokens: Sequence[int]) -> int:
        """Full blocks at the beginning of both; the last of `tokens` is always left to compute."""
        most = min(len(held), len(tokens) - 1)
        length = next((place for place in range(most) if held[place] != tokens[place]), most)
        return length // self.block_size

    def _drop_beginnings(self, tokens: list[int]) -> None:
        """Deletes the entries that the new one contains."""
        for key in self._keys():
            held = self._tokens_of(key)
            if len(held) < len(tokens) and held == tokens[: len(held)]:
                self._storage.remove(KIND, key)

    def _tokens_of(self, key: str) -> list[int]:
        """The tokens of an entry; none where there is no such entry, or where it is damaged and goes."""
        folder = self._storage.root / KIND / key
        if not folder.is_dir():
            return []
        with suppress(OSError, ValueError, RecursionError):
            held = json.loads((folder / TOKENS).read_text(encoding="utf-8"))
            if isinstance(held, list):
                return held
        self._discard(key)
        return []

    def _discard(self, key: str) -> None:
        self._storage.remove(KIND, key)
        self.notes.append("A kept prompt was damaged; it is computed and kept anew.")

    def _keys(self) -> list[str]:
        if self._name is not None:
            return [self._key(self._name)]
        return [key for key in self._storage.keys(KIND) if key.startswith(self._models)]

    def _key(self, label: str) -> str:
        plain = "".join(c if c.isalnum() else "-" for c in label)[:40]
        return f"{self._models}-{plain}-{zlib.crc32(label.encode()):08x}"


def _checksum(file: Path) -> int:
    return zlib.crc32(file.read_bytes())
