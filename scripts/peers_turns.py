"""The run of `compare_peers`: arms take turns over the prompts, and what goes wrong with one ends that one only."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

from helix_cli.commands.prompts import read_prompts
from scripts.peer_protocol import Run
from scripts.peers_arms import Arm
from scripts.peers_process import PeerError, Worker, WorkerPool
from scripts.peers_report import Result, speed

WARM_TOKENS = 16
"""Tokens of the text that warms an arm up at each of its turns, and of the text behind the long prompt."""


@dataclass(frozen=True)
class Question:
    """A prompt as text and as the target's token ids."""

    text: str
    ids: list[int]


@dataclass(frozen=True)
class Questions:
    """The prompts, and one long prompt that is asked for its first token only."""

    prompts: list[Question]
    long: Question
    tokens: int
    """New tokens of each text."""


def read_questions(encode: Callable[[str], list[int]], file: Path, limit: int | None) -> list[Question]:
    """The prompts of a file of JSON lines, the first `limit` of them. Raises InputError."""
    texts = [prompt.text or "" for prompt in read_prompts(file, chat=False)][:limit]
    return [Question(text, encode(text)) for text in texts]


def long_question(encode: Callable[[str], list[int]], texts: Sequence[str], length: int) -> Question:
    """The words of all prompts, again and again, until they are `length` tokens."""
    words: list[str] = []
    for word in cycle(" ".join(texts).split()):
        words.append(word)
        text = " ".join(words)
        if len(ids := encode(text)) >= length:
            return Question(text, ids)
    raise AssertionError("there are no words")


def measure_round(pool: WorkerPool, results: Sequence[Result], questions: Questions, at: int, turn: int) -> None:
    """All prompts through all arms once; the arms take turns every `turn` prompts.

    Every other pass goes through the arms backwards, so that a steady drift of the machine favours none.
    """
    starts = range(0, len(questions.prompts), turn)
    for number, first in enumerate(starts, start=at * len(starts)):
        places = range(first, min(first + turn, len(questions.prompts)))
        for result in reversed(results) if number % 2 else results:
            if not result.problem:
                _turn(pool, result, questions, at, places)


def _turn(pool: WorkerPool, result: Result, questions: Questions, at: int, places: range) -> None:
    """Some prompts through one arm, after a short text that is not counted."""
    recipe = result.arm.recipe
    assert recipe is not None
    try:
        worker, is_new = pool.get(recipe)
        if is_new:
            result.load_s.append(worker.load_s)
        result.versions = worker.versions
        _ask(worker, result.arm, questions.prompts[places[0]], WARM_TOKENS)
        if places[0] == 0:
            result.long_first_s.append(_ask(worker, result.arm, questions.long, WARM_TOKENS).first_s)
        for place in places:
            result.runs[at, place] = _ask(worker, result.arm, questions.prompts[place], questions.tokens)
        if worker.memory is not None:
            result.peak_bytes = max(worker.memory["peak"], result.peak_bytes or 0)
        pool.note_memory(recipe)
        said = " ".join(f"{speed(result.runs[at, place]):.1f}" for place in places) + " tokens/s"
    except PeerError as error:
        pool.drop(recipe)
        said = result.problem = f"failed: {error}"
    print(f"round {at + 1}: {result.arm.name}: {said}", file=sys.stderr)


def _ask(worker: Worker, arm: Arm, question: Question, tokens: int) -> Run:
    return worker.generate(question.ids, question.text, tokens, arm.k)
