"""Memory for weights in huge pages: a pass reads all of it, and each page has to be looked up again.

With pages of 4 KiB a model of 1 GB has 260,000 of them, and the processor's prefetching stops at the end of each.
Weights of any size lie side by side in large chunks, so that no huge page is left half empty but a chunk's last one. A
chunk goes back to the system with the last of its weights.
"""

from __future__ import annotations

import math
import mmap
from contextlib import suppress
from threading import Lock

import torch
from torch import Tensor

HUGE, CHUNK = 1 << 21, 1 << 26
"""Bytes of a huge page, on x86 and most of ARM, and of a chunk."""
LINE = 64
"""Where a tensor may begin: cache lines and the widest vectors have so many bytes."""


class WeightMemory:
    """Hands out tensors from chunks; any number of threads may ask."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._chunk = torch.empty(0, dtype=torch.uint8)
        self._used = 0

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """A tensor without content. Raises MemoryError or OSError where the system refuses."""
        num_bytes = math.prod(shape) * dtype.itemsize
        with self._lock:
            if self._used + num_bytes > len(self._chunk):
                self._chunk, self._used = _chunk(max(CHUNK, -(-num_bytes // HUGE) * HUGE)), 0
            start, self._used = self._used, self._used + -(-num_bytes // LINE) * LINE
            chunk = self._chunk
        return chunk[start : start + num_bytes].view(dtype).view(shape)


def _chunk(size: int) -> Tensor:
    """`size` bytes that begin where a huge page may; ordinary memory where there are no huge pages to ask for."""
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return torch.empty(size, dtype=torch.uint8)
    # One huge page more, to begin at a boundary; what is never touched costs nothing.
    memory = mmap.mmap(-1, size + HUGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    whole = torch.frombuffer(memory, dtype=torch.uint8)
    skipped = -whole.data_ptr() % HUGE
    with suppress(OSError):  # a kernel without them: the pages are small, and everything else is the same
        memory.madvise(mmap.MADV_HUGEPAGE, skipped, size)
    return whole[skipped : skipped + size]


_shared = WeightMemory()


def empty_weights(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Room for a matrix that passes will stream, without content."""
    return _shared.empty(shape, dtype)
