"""Which turns the model still sees when the context is full: whole turns go, the oldest first."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable

ANSWER_SHARE = 4
"""A quarter of the context is kept for the answer, or what the answer may have at most, if that is less."""
FREED_SHARE = 4
"""When turns must go, as many go as free a quarter: every drop means that the rest is computed once again."""


def room_for_prompt(capacity: int, max_tokens: int) -> int:
    """Tokens that a prompt may have in a context of `capacity` tokens."""
    return capacity - min(max_tokens, max(1, capacity // ANSWER_SHARE))


def first_to_keep(first: int, num_turns: int, room: int, length_from: Callable[[int], int]) -> int:
    """The first turn that the model sees: `first`, where everything from there fits `room` tokens.

    `length_from(n)` is the length of the prompt without the turns before n. What does not fit with every turn left out
    is for the engine to refuse.
    """
    if length_from(first) <= room:
        return first
    later = range(first + 1, num_turns + 1)
    for wanted in (room - room // FREED_SHARE, room):
        place = bisect_left(later, True, key=lambda turn: length_from(turn) <= wanted)
        if place < len(later):
            return later[place]
    return num_turns
