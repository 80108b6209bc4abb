"""Forward passes of a fixed size, recorded once and queued in one call: decode steps and verifications on a GPU.

Small models keep a GPU waiting for Python: a layer is some fourteen launches, each a few microseconds of host time.
A pass over few tokens is therefore filled up to a window, `batch` rows of `width` tokens, whose inputs lie in buffers
that stay where they are. What fills it up belongs to tiles of no tokens, which read and write no K/V.

Which passes fit, how they are filled up and what is picked from the result is plain arithmetic and the same on every
device; only the recording is the device's own (`Capture`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from helix_cli.attention.triton_paged import Shape, TritonPaged, TritonPlan, power_of_two
from helix_cli.backend.graphs import Capture
from helix_cli.cache.paged import PagedKVCache, num_blocks_for
from helix_cli.core import Row
from helix_cli.model.batch import Batch, selection
from helix_cli.model.decoder import Decoder
from helix_cli.model.language_model import LanguageModel
from helix_cli.model.rope import RotaryTable, Rotation

WIDEST: Final = 16
"""Tokens of one row: a decode step has one, a verification one more than was drafted."""
EXACT: Final = 8
"""Up to here each width has windows of its own; wider ones are rounded up to a multiple of 4."""
MOST_TOKENS: Final = 128
"""Of a window. More keep a GPU busy while Python goes on, and the logits that each window holds grow large."""


class Size(NamedTuple):
    """Rows of a window, tokens of a row, and draft tokens of a loop (0 for one pass)."""

    batch: int
    width: int
    depth: int = 0


def size_for(rows: Sequence[Row], depth: int = 0) -> Size | None:
    """The smallest window that holds the rows; None where no window does."""
    widest = max(row.length for row in rows)
    width = widest if widest <= EXACT else -(-widest // 4) * 4
    batch = power_of_two(len(rows))
    return Size(batch, width, depth) if width <= WIDEST and batch * width <= MOST_TOKENS else None


@dataclass(frozen=True)
class WindowBatch(Batch):
    """Tokens of which only the device knows what and where they are; the logits of all are wanted."""

    positions: Tensor
    """int32 [T]."""

    def rotation(self, table: RotaryTable) -> Rotation:
        """The rotary embedding of every token."""
        return table.at(self.positions)


class Inputs:
    """The numbers of one window in one buffer on the host and one on the device, so that they travel in one copy."""

    def __init__(self, size: Size, tokens: int, max_blocks: int, block_size: int, device: torch.device) -> None:
        """`tokens` are those of a tile."""
        self._size, self._tile, self._max_blocks, self._block_size = size, tokens, max_blocks, block_size
        self.num_tiles = size.batch * -(-size.width // tokens)
        count = size.batch * size.width
        # The kernels are compiled for what begins at a multiple of 16 bytes: tiles and tables do.
        parts = (4 * self.num_tiles, size.batch * max_blocks, count, count, 3 * size.batch)
        self._host = torch.zeros(sum(parts), dtype=torch.int32)
        self._device = torch.zeros(sum(parts), dtype=torch.int32, device=device)
        self._views: list[npt.NDArray[np.int32]] = [part.numpy() for part in torch.split(self._host, list(parts))]
        self.tiles, self.tables, self.tokens, self.positions, ends = torch.split(self._device, list(parts))
        self.last, self.next_position, self.is_row = torch.split(ends, size.batch)
        """For each row the place of its last token, the position behind it, and 1 or, where nothing is fed, 0."""

    def fill(self, rows: Sequence[Row]) -> None:
        """Writes the rows' numbers and sends them to the device."""
        size, (tiles, tables, tokens, positions, ends) = self._size, self._views
        self._host.zero_()
        for number, row in enumerate(rows):
            start, first, length = number * size.width, row.table.num_computed, row.length
            fed = row.tokens + (row.draft.tokens.tolist() if row.draft is not None else [])
            tokens[start : start + length] = fed
            positions[start : start + length] = range(first, first + length)
            begin = number * self._max_blocks
            blocks = row.table.blocks[: num_blocks_for(first + length + max(0, size.depth - 1), self._block_size)]
            tables[begin : begin + len(blocks)] = blocks
            place = 4 * number * (self.num_tiles // size.batch)
            for offset in range(0, length, self._tile):
                count = min(self._tile, length - offset)
                tiles[place : place + 4] = (start + offset, count, first + offset, begin)
                place += 4
            ends[number :: size.batch] = (start + length - 1, first + length, 1)
        self._device.copy_(self._host)


class Windows:
    """The windows of one model over one pool."""

    def __init__(self, decoder: Decoder, kernel: TritonPaged, capture: Capture) -> None:
        self._decoder, self._kernel, self._capture = decoder, kernel, capture
        self._longest = min(decoder.architecture.context, kernel.num_slots)
        self._max_blocks = num_blocks_for(self._longest, kernel.block_size)
        self._seen: set[tuple[Size, int]] = set()
        self._ready: dict[tuple[Size, int], tuple[Inputs, Callable[[], Tensor]]] = {}
        self.failure: str | None = None
        """Why nothing is recorded any more."""

    def forward(self, rows: Sequence[Row]) -> Tensor | None:
        """The logits of a pass, as `ModelRunner.forward` gives them; None where it has to be made without a window."""
        size = size_for(rows)
        found = None if size is None else self._window(size, 0)
        if size is None or found is None:
            return None
        inputs, replay = found
        ends = [number * size.width + row.length for number, row in enumerate(rows)]
        wanted = [place for end, row in zip(ends, rows, strict=True) for place in range(end - row.num_logits, end)]
        picked = selection(wanted, size.batch * size.width, self._decoder.device)
        inputs.fill(rows)
        logits = replay()
        # The next pass of this size overwrites what is not a copy.
        return logits[picked] if isinstance(picked, Tensor) else logits[picked or slice(None)].clone()

    def draft(self, rows: Sequence[Row], depth: int, vocab_size: int) -> list[list[int]] | None:
        """Feeds the rows and then, `depth` - 1 times, the likeliest token: `depth` tokens for each row.

        The tables own room for all that is fed. Nothing waits for the device before the last token, and -1 stands for
        tokens of logits that are not finite. None where it has to be done without a window.
        """
        size = size_for(rows, depth)
        found = None if size is None else self._window(size, vocab_size)
        if found is None:
            return None
        inputs, replay = found
        inputs.fill(rows)
        drafted: list[list[int]] = replay()[: len(rows)].tolist()
        return drafted

    def _window(self, size: Size, vocab_size: int) -> tuple[Inputs, Callable[[], Tensor]] | None:
        """A recorded window. Sizes are recorded when they come a second time: some come only once."""
        key = (size, vocab_size)
        if key in self._ready:
            return self._ready[key]
        if self.failure is not None or key not in self._seen:
            self._seen.add(key)
            return None
        self._decoder.rotary.reach(self._longest)
        tokens, _ = self._kernel.tile(size.width)
        inputs = Inputs(size, tokens, self._max_blocks, self._kernel.block_size, self._kernel.device)
        run = self._loop(inputs, size, vocab_size) if size.depth else self._pass(inputs, size)
        try:
            self._ready[key] = inputs, self._capture(run)
        except RuntimeError as error:
            self.failure = str(error).partition("\n")[0] or type(error).__name__
            return None
        return self._ready[key]

    def _pass(self, inputs: Inputs, size: Size) -> Callable[[], Tensor]:
        """Logits [batch * width, vocab_size] of a window's tokens."""
        decoder, plan = self._decoder, self._plan(inputs.tiles, inputs.tables, size.width)
        batch = WindowBatch(inputs.tokens, (), None, inputs.positions)
        return lambda: decoder.forward(batch, plan, lambda: False)

    def _loop(self, inputs: Inputs, size: Size, vocab_size: int) -> Callable[[], Tensor]:
        """Drafted tokens [batch, depth] of a window's rows."""
        first = self._pass(inputs, size)
        rows = torch.arange(size.batch, dtype=torch.int32, device=self._kernel.device)

        def run() -> Tensor:
            highest, token = first().index_select(0, inputs.last)[:, :vocab_size].max(-1)
            drafted = [torch.where(highest.isfinite(), token, -1)]
            for step in range(size.depth - 1):
                position = inputs.next_position + step
                tiles = torch.stack([rows, inputs.is_row, position, rows * self._max_blocks], 1).flatten()
                batch = WindowBatch(token, (), None, position)
                logits = self._decoder.forward(batch, self._plan(tiles, inputs.tables, 1), lambda: False)
                highest, token = logits[:, :vocab_size].max(-1)
                drafted.append(torch.where(highest.isfinite(), token, -1))
            return torch.stack(drafted, 1)

        return run

    def _plan(self, tiles: Tensor, tables: Tensor, width: int) -> TritonPlan:
        tokens, rows = self._kernel.tile(width)
        splits = self._kernel.splits(len(tiles) // 4, self._longest)
        return TritonPlan(self._kernel, tiles, tables, Shape(tokens, rows, splits))


def windows_over(model: LanguageModel, cache: PagedKVCache) -> Windows | None:
    """Recorded passes of a model over its cache; None where the device records none."""
    if not isinstance(model, Decoder) or model.capture is None:
        return None
    kernel = model.attention_over(cache)
    return Windows(model, kernel, model.capture) if isinstance(kernel, TritonPaged) else None
