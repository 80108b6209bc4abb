"""CUDA graphs (HIP graphs on ROCm): what was queued once is queued again in one call, without Python in between."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor


class Capture(Protocol):
    """Records a function that queues the same operations on the same tensors at every call."""

    def __call__(self, run: Callable[[], Tensor]) -> Callable[[], Tensor]:
        """A function that queues them all at once and returns the same tensor each time, overwritten.

        Raises RuntimeError where an operation cannot be recorded, or the device has no room.
        """
        ...


@dataclass(frozen=True)
class Recorded:
    """One recorded function, which is kept too: it owns tensors that the recording reads."""

    graph: Any
    result: Tensor
    run: Callable[[], Tensor]

    def __call__(self) -> Tensor:
        """Queues everything on the current stream."""
        self.graph.replay()
        return self.result


class GraphCapture:
    """See `Capture`. All graphs share one pool of memory: they run one after the other, and each keeps its result."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool: Any = None
        self._stream: Any = None

    def __call__(self, run: Callable[[], Tensor]) -> Recorded:
        cuda: Any = torch.cuda  # half of it has no types
        with cuda.device(self._device):
            if self._pool is None:
                self._pool, self._stream = cuda.graph_pool_handle(), cuda.Stream()
            current = cuda.current_stream()
            self._stream.wait_stream(current)
            # Libraries and Triton set themselves up at the first call, which cannot be recorded.
            with cuda.stream(self._stream):
                run()
            current.wait_stream(self._stream)
            graph = cuda.CUDAGraph()
            with cuda.graph(graph, pool=self._pool, stream=self._stream):
                result = run()
            return Recorded(graph, result, run)
