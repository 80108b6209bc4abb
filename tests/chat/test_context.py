"""What goes when the context is full."""

from __future__ import annotations

import pytest

from helix_cli.chat.context import first_to_keep, room_for_prompt


@pytest.mark.parametrize(("capacity", "max_tokens", "room"), [(1000, 100, 900), (1000, 5000, 750), (2, 9, 1)])
def test_the_answer_has_its_room(capacity: int, max_tokens: int, room: int) -> None:
    assert room_for_prompt(capacity, max_tokens) == room


def kept(room: int, lengths: list[int], question: int = 10, first: int = 0) -> int:
    return first_to_keep(first, len(lengths), room, lambda place: sum(lengths[place:]) + question)


def test_nothing_goes_while_everything_fits() -> None:
    assert kept(110, [50, 50]) == 0
    assert kept(110, [50, 50, 50], first=1) == 1


def test_a_quarter_is_freed_at_once() -> None:
    assert kept(100, [10] * 10) == 4  # 6 turns and the question are 70 tokens, and 75 are allowed
    assert kept(100, [10] * 12, first=2) == 6


def test_a_long_question_lets_as_few_go_as_it_can() -> None:
    assert kept(100, [10] * 3, question=80) == 1
    assert kept(100, [10] * 3, question=95) == 3
    assert kept(100, [10] * 3, question=101) == 3
