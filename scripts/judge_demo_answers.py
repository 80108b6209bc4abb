"""Asks a demonstration pair about functions it was trained on, in phrasings it was not, and counts the right answers.

    python -m scripts.judge_demo_answers [--pair FOLDER] [--questions N]

An answer is right where it is the docstring's word for word, and near where it shares four words of five with it. The
phrasings are those that scripts/demo_questions.py keeps from training. The answers are greedy, without a draft.
"""

from __future__ import annotations

import argparse
import random
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from helix_cli.assembly import DEMO_PAIR
from helix_cli.config import load_config
from helix_cli.core import FinishedEvent
from helix_cli.prompt import Prompt
from helix_cli.session import Session, open_session
from scripts import demo_questions as questions
from scripts.demo_data import library_files, split_files, stdlib_root

NEAR = 0.8
MAX_TOKENS = 128


def held_out_questions(count: int, seed: int) -> list[questions.Turn]:
    """Some questions about things that were trained on, in phrasings that were not."""
    train, held = split_files(library_files(stdlib_root()))
    known = [entry for entry in questions.entries(train, held) if not entry.held]
    return random.Random(seed).sample(questions.rephrased(known), count)


def likeness(answer: str, expected: str) -> float:
    """Twice the words in common, as often as both have them, by the words of both: 1 for the same words."""
    ours, theirs = (Counter(re.findall(r"\w+", text.lower())) for text in (answer, expected))
    return 2 * (ours & theirs).total() / max(1, ours.total() + theirs.total())


def answers(session: Session, turns: Sequence[questions.Turn]) -> list[str]:
    """What the model says to each question, in a conversation of its own."""
    asked = [({"role": "user", "content": turn.question},) for turn in turns]
    prompts = [Prompt(place, messages=messages) for place, messages in enumerate(asked)]
    ended = [event for event in session.stream(prompts) if isinstance(event, FinishedEvent)]
    return [event.text.strip() for event in sorted(ended, key=lambda event: event.index)]


def report(turns: Sequence[questions.Turn], said: Sequence[str]) -> str:
    """Every question with its judgement, and the counts."""
    lines, right, near = [], 0, 0
    for turn, answer in zip(turns, said, strict=True):
        is_right = answer.split() == turn.answer.split()
        is_near = likeness(answer, turn.answer) >= NEAR
        right, near = right + is_right, near + is_near
        verdict = "right" if is_right else "near" if is_near else "wrong"
        lines += [f"{verdict:<5}  {turn.question}", f"       said      {answer}"]
        lines += [] if is_right else [f"       expected  {turn.answer}"]
    return "\n".join([*lines, f"{right} of {len(turns)} right word for word, {near} right or near"])


def main() -> None:
    """Judge the pair that ships with Helix, or another."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pair", type=Path, default=DEMO_PAIR, help="the folder that holds target and draft")
    parser.add_argument("--questions", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0, help="which questions are drawn")
    options = parser.parse_args()
    turns = held_out_questions(options.questions, options.seed)
    chosen = [f"model.path={options.pair / 'target'}", "model.dtype=float32", "draft.kind=none"]
    chosen += ["sampling.temperature=0", f"sampling.max_tokens={MAX_TOKENS}"]
    print(report(turns, answers(open_session(load_config(None, chosen)), turns)))


if __name__ == "__main__":
    main()
