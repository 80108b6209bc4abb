"""Whose turn it is in the comparison, and what a failure of one arm leaves of the others."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from helix_cli.errors import InputError
from scripts.compare_peers import PROMPTS
from scripts.peer_protocol import Run
from scripts.peers_arms import Arm
from scripts.peers_process import PeerError, Recipe, WorkerPool
from scripts.peers_report import Result
from scripts.peers_turns import WARM_TOKENS, Question, Questions, long_question, measure_round, read_questions

TOKENS = 40


class Pool:
    """Workers that note what they are asked; an arm of weights "bad" fails from its second turn on."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, int]] = []
        self.turns: list[str] = []
        self.dropped: list[Recipe] = []

    def get(self, recipe: Recipe) -> tuple[Any, bool]:
        self.turns.append(recipe.settings)
        return Worker(self, recipe.settings), self.turns.count(recipe.settings) == 1

    def note_memory(self, recipe: Recipe) -> None:
        """Nothing to remember."""

    def drop(self, recipe: Recipe) -> None:
        self.dropped.append(recipe)


class Worker:
    """A worker of that pool."""

    def __init__(self, pool: Pool, name: str) -> None:
        self.load_s = 2.0
        self.versions = {"engine": "1.0"}
        self.memory = {"now": 1, "peak": 5}
        self.pool = pool
        self.name = name

    def generate(self, ids: list[int], text: str, tokens: int, k: int) -> Run:
        self.pool.asked.append((self.name, text, tokens))
        if self.name == "bad" and self.pool.turns.count("bad") == 2:
            raise PeerError("gave up")
        return Run(list(range(tokens)), 0.5, 1, 1.0, tokens - 1)


@pytest.fixture
def results() -> list[Result]:
    """Three arms."""
    return [Result(Arm("E", name, 0, Recipe("python", "worker", name, 1))) for name in ("one", "bad", "two")]


@pytest.fixture
def questions() -> Questions:
    """Three prompts and a long one."""
    return Questions([Question(text, [1]) for text in "abc"], Question("long", [1]), TOKENS)


def rounds(pool: Pool, results: list[Result], questions: Questions, turn: int) -> Iterator[list[str]]:
    """The turns of one round after another."""
    for at in range(3):
        pool.turns.clear()
        measure_round(cast(WorkerPool, pool), results, questions, at, turn)
        yield list(pool.turns)


def test_arms_take_turns_forwards_and_backwards_in_every_round(results: list[Result], questions: Questions) -> None:
    """With an odd number of passes a round, the next round begins with the other direction."""
    pool = Pool()
    forwards = ["one", "two"]
    turns = rounds(pool, [results[0], results[2]], questions, turn=1)
    assert next(turns) == [*forwards, *reversed(forwards), *forwards]
    assert next(turns) == [*reversed(forwards), *forwards, *reversed(forwards)]


def test_a_turn_is_a_warm_up_that_is_not_counted_and_some_prompts(results: list[Result], questions: Questions) -> None:
    pool = Pool()
    next(rounds(pool, results[:1], questions, turn=2))
    assert pool.asked == [
        ("one", "a", WARM_TOKENS),
        ("one", "long", WARM_TOKENS),
        ("one", "a", TOKENS),
        ("one", "b", TOKENS),
        ("one", "c", WARM_TOKENS),
        ("one", "c", TOKENS),
    ]
    assert {(key, len(run.tokens)) for key, run in results[0].runs.items()} == {((0, i), TOKENS) for i in range(3)}
    assert results[0].long_first_s == [0.5]
    assert results[0].load_s == [2.0]
    assert results[0].peak_bytes == 5


def test_an_arm_that_fails_is_over_and_the_others_go_on(results: list[Result], questions: Questions) -> None:
    pool = Pool()
    *_, last = rounds(pool, results, questions, turn=2)
    assert results[1].problem == "failed: gave up"
    assert results[1].failed
    assert pool.dropped == [results[1].arm.recipe]
    assert last == ["one", "two", "two", "one"]
    assert all(len(results[place].runs) == 9 and not results[place].problem for place in (0, 2))


def test_an_absent_arm_has_no_turn(results: list[Result], questions: Questions) -> None:
    results[1].problem = "not installed: name it"
    assert "bad" not in next(rounds(Pool(), results, questions, turn=3))


def test_the_long_prompt_repeats_the_words_until_it_is_long_enough() -> None:
    def encode(text: str) -> list[int]:
        return list(range(len(text.split())))

    assert long_question(encode, ["a b", "c"], 5) == Question("a b c a b", list(range(5)))


def test_prompts_come_from_json_lines(tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"prompt": "ab"}\n{"prompt": "c"}\n')
    assert read_questions(lambda text: [len(text)], file, None) == [Question("ab", [2]), Question("c", [1])]
    assert len(read_questions(lambda text: [0], file, 1)) == 1
    file.write_text("nonsense\n")
    with pytest.raises(InputError):
        read_questions(lambda text: [0], file, None)


def test_the_bundled_prompts_are_enough_and_all_different() -> None:
    texts = [question.text for question in read_questions(lambda text: [], PROMPTS, None)]
    assert len(set(texts)) >= 16
    assert all(40 <= len(text.split()) <= 56 for text in texts)
