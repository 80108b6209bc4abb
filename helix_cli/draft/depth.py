"""How many tokens to propose for a sequence; 0 is a legal answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol


class Room(NamedTuple):
    """A decoding sequence of `num_tokens` tokens, of which up to `most` more may be proposed by way of `source`."""

    sequence_id: int
    num_tokens: int
    most: int
    source: str


class Choice(NamedTuple):
    """How many tokens to propose, and when to end before: see `core.Wanted`."""

    depth: int
    token_floor: float = 0.0
    step_floor: float = 0.0


class Round(NamedTuple):
    """How one sequence's step went: `length` tokens were proposed, `accepted` of the `judged` ones were kept.

    A text that ends within a draft leaves the rest of it unjudged.
    """

    sequence_id: int
    length: int
    judged: int
    accepted: int


class StepTimes(NamedTuple):
    """Seconds of one step, and the rows that the target computed; `rows` is None where a prefill was among them."""

    draft_s: float
    target_s: float
    other_s: float
    rows: int | None


class Depth(Protocol):
    """Chooses depths from what has happened, never from a token that is drawn but not committed (see `engine/`)."""

    def choose(self, rooms: Sequence[Room]) -> list[Choice]:
        """A choice for each sequence of the next step."""
        ...

    def observe(self, times: StepTimes, rounds: Sequence[Round]) -> None:
        """Learns what the step that was chosen for took, and how its drafts fared."""
        ...

    def forget(self, sequence_id: int) -> None:
        """The sequence has ended; unknown ids are fine."""
        ...


@dataclass(frozen=True)
class FixedDepth:
    """Proposes `k` tokens, fewer where the sequence must end sooner."""

    k: int

    def choose(self, rooms: Sequence[Room]) -> list[Choice]:
        return [Choice(max(0, min(self.k, room.most))) for room in rooms]

    def observe(self, times: StepTimes, rounds: Sequence[Round]) -> None:
        return None

    def forget(self, sequence_id: int) -> None:
        return None
