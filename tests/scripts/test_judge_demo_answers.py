"""How answers are judged; the model is not needed for it."""

from __future__ import annotations

from scripts import demo_questions as questions
from scripts.judge_demo_answers import held_out_questions, likeness, report


def test_words_decide() -> None:
    assert likeness("Return the path.", "return THE path") == 1.0
    assert likeness("a b c d", "a b c d e") > 0.8 > likeness("a b c", "a b d e")
    assert likeness("", "a") == likeness("a a a", "") == 0.0
    assert likeness("a a a a", "a") < 0.5


def test_the_report_counts() -> None:
    turns = [questions.Turn(f"{n}?", "Return the sum of all numbers.") for n in range(3)]
    text = report(turns, ["Return the sum of all numbers.", "Return the sum of numbers.", "No."])
    assert text.endswith("1 of 3 right word for word, 2 right or near")
    assert [line.split()[0] for line in text.splitlines() if line.endswith("?")] == ["right", "near", "wrong"]


def test_the_questions_are_in_phrasings_that_training_never_used() -> None:
    turns = held_out_questions(20, seed=0)
    starts = [phrasing.partition("{")[0] for phrasing in questions.HELD_OUT_PHRASINGS]
    assert len({turn.question for turn in turns}) == 20
    assert all(turn.question.startswith(tuple(starts)) and turn.answer for turn in turns)
    assert turns == held_out_questions(20, seed=0)
