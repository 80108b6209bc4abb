"""Sequences that wait for blocks, smallest (priority, arrival) first. Standard library only."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from helix_cli.core import Sequence


class RequestQueue:
    """A priority queue with removal by id. A preempted sequence keeps its arrival, so it returns to its old place."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Sequence]] = []
        self._waiting: dict[int, Sequence] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def push(self, sequence: Sequence) -> None:
        """Adds a sequence; its (priority, arrival) must be unique."""
        self._waiting[sequence.id] = sequence
        heapq.heappush(self._heap, (sequence.priority, sequence.arrival, sequence))

    def peek(self) -> Sequence | None:
        """The next sequence, left where it is."""
        while self._heap and self._heap[0][2].id not in self._waiting:
            heapq.heappop(self._heap)
        return self._heap[0][2] if self._heap else None

    def pop(self) -> Sequence:
        """Takes the next sequence out; the queue must not be empty."""
        sequence = self.peek()
        assert sequence is not None
        heapq.heappop(self._heap)
        del self._waiting[sequence.id]
        return sequence

    def remove(self, sequence_id: int) -> Sequence | None:
        """Takes one sequence out by id; None when it does not wait here. Its heap entry is dropped when it surfaces."""
        return self._waiting.pop(sequence_id, None)
