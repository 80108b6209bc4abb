"""What is asked: llama-bench's shapes, the bundled task prompts by category, a user's file, and batches of them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain, cycle, islice, zip_longest
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Final

from helix_cli.bench.schema import Kind
from helix_cli.errors import InputError
from helix_cli.prompt import Prompt

if TYPE_CHECKING:
    from helix_cli.tokenizer import Tokenizer

CATEGORIES: Final = ("chat", "code", "summary", "translation", "reasoning", "extraction")
BUNDLE: Final = Path(__file__).parent.parent / "assets" / "prompts.jsonl"
SHAPE_TEXTS: Final = 3
"""Texts that a tg shape continues: one alone could have no interval."""


@dataclass(frozen=True)
class Job:
    """Prompts that are run together, as token ids, and how many tokens each of them is continued by."""

    id: str
    prompts: tuple[tuple[int, ...], ...]
    max_tokens: int


@dataclass(frozen=True)
class Workload:
    """Jobs whose figures make one row. With `impossible` set there are none, and it says why."""

    name: str
    kind: Kind
    jobs: tuple[Job, ...] = ()
    batch: int = 1
    impossible: str = ""


@dataclass(frozen=True)
class Shape:
    """pp512 reads 512 random tokens; tg128 writes 128; tg128@d2048 writes them after 2048 tokens of context."""

    name: str
    num_prompt: int
    """Tokens to read; for a tg shape the context, 0 for a short prompt as it is."""
    num_new: int
    """1 for a pp shape, whose speed is that of the first token."""

    @property
    def is_prompt(self) -> bool:
        """Whether it is a pp shape."""
        return self.name.startswith("pp")


@dataclass(frozen=True)
class Task:
    """A prompt of a category."""

    id: str
    category: str
    text: str

    def prompt(self, as_chat: bool) -> Prompt:
        """The prompt itself; code is a beginning to be continued, everything else is asked if the model can chat."""
        if as_chat and self.category != "code":
            return Prompt(0, messages=({"role": "user", "content": self.text},), id=self.id)
        return Prompt(0, self.text, id=self.id)


def parse_shape(name: str) -> Shape:
    """`pp512`, `tg128` or `tg128@d2048`, with any numbers. Raises InputError."""
    if match := re.fullmatch(r"pp([1-9]\d*)", name):
        return Shape(name, int(match[1]), 1)
    if match := re.fullmatch(r"tg([1-9]\d*)(?:@d([1-9]\d*))?", name):
        return Shape(name, int(match[2] or 0), int(match[1]))
    raise InputError(f"There is no shape '{name}'.", "Write pp512, tg128 or tg128@d2048, with any numbers.")


@cache
def bundled() -> tuple[Task, ...]:
    """The task prompts that ship with Helix."""
    lines = BUNDLE.read_text(encoding="utf-8").splitlines()
    return tuple(Task(one["id"], one["category"], one["prompt"]) for one in map(json.loads, lines))


@dataclass(frozen=True)
class Builder:
    """Makes workloads for one model. `refusal` says why a prompt of so many tokens cannot be continued, or nothing."""

    tokenizer: Tokenizer
    vocab_size: int
    context: int
    refusal: Callable[[Job], str] = lambda job: ""

    def shape(self, shape: Shape, seed: int) -> Workload:
        """A standard shape. Only a pp shape's tokens are random: what is accepted depends on the text."""
        kind: Kind = "prompt" if shape.is_prompt else "shape"
        if reason := self._too_long(shape.num_prompt + shape.num_new):  # before its tokens are made
            return Workload(shape.name, kind, impossible=reason)
        if shape.is_prompt:
            random = Random(seed)
            ids = tuple(random.randrange(self.vocab_size) for _ in range(shape.num_prompt))
            return self._workload(shape.name, kind, [Job(shape.name, (ids,), 1)])
        starts = [next(one for one in bundled() if one.category == name) for name in CATEGORIES[:SHAPE_TEXTS]]
        if not shape.num_prompt:
            jobs = [Job(one.id, (self._encode(one),), shape.num_new) for one in starts]
        else:
            jobs = [Job(one.id, (self._context(one, shape.num_prompt),), shape.num_new) for one in starts]
        return self._workload(shape.name, kind, jobs)

    def category(self, name: str, limit: int | None, num_new: int) -> Workload:
        """The first `limit` prompts of a category, one at a time."""
        tasks = [one for one in bundled() if one.category == name][:limit]
        return self._workload(name, "task", [Job(one.id, (self._encode(one),), num_new) for one in tasks])

    def file(self, name: str, prompts: Sequence[Prompt], num_new: int) -> Workload:
        """A user's own prompts, one at a time; a line's own max_tokens counts."""
        jobs = [Job(str(one.index + 1), (self.encode(one),), one.max_tokens or num_new) for one in prompts]
        return self._workload(name, "task", jobs)

    def batches(self, jobs: Sequence[Job], sizes: Sequence[int], num_new: int) -> list[Workload]:
        """The same prompts, as many as the largest size, together in groups of each size. Raises InputError."""
        most = max(sizes)
        if most > len(jobs):
            raise InputError(
                f"A batch of {most} needs as many prompts, and there are {len(jobs)}.", "Give more prompts."
            )
        prompts = [prompt for job in jobs[:most] for prompt in job.prompts]
        return [
            self._workload(
                f"batch {size}",
                "batch",
                [
                    Job(f"{start + 1} to {start + size}", tuple(prompts[start : start + size]), num_new)
                    for start in range(0, most, size)
                ],
                size,
            )
            for size in sizes
        ]

    def mixed(self, categories: Sequence[str], num_new: int) -> list[Job]:
        """A job for every bundled prompt of some categories, which take turns."""
        groups = [[one for one in bundled() if one.category == name] for name in categories]
        tasks = [one for one in chain(*zip_longest(*groups)) if one is not None]
        return [Job(one.id, (self._encode(one),), num_new) for one in tasks]

    def encode(self, prompt: Prompt) -> tuple[int, ...]:
        """Token ids; messages go through the model's chat template."""
        if prompt.messages is not None:
            return tuple(self.tokenizer.encode_chat([dict(message) for message in prompt.messages]))
        return tuple(self.tokenizer.encode(prompt.text or ""))

    def _encode(self, task: Task) -> tuple[int, ...]:
        return self.encode(task.prompt(self.tokenizer.has_chat_template))

    def _context(self, first: Task, length: int) -> tuple[int, ...]:
        """Exactly `length` tokens of the bundled texts, from `first` on and round again if need be."""
        tasks = bundled()
        place = tasks.index(first)
        ids = [self.tokenizer.encode(one.text + "\n\n") for one in (*tasks[place:], *tasks[:place])]
        return tuple(islice(chain.from_iterable(cycle(ids)), length))

    def _workload(self, name: str, kind: Kind, jobs: Sequence[Job], batch: int = 1) -> Workload:
        for job in jobs:
            reason = self._too_long(max(map(len, job.prompts)) + job.max_tokens) or self.refusal(job)
            if reason:
                where = f"prompt {job.id}: " if kind == "task" else ""
                return Workload(name, kind, batch=batch, impossible=where + reason)
        return Workload(name, kind, tuple(jobs), batch)

    def _too_long(self, needed: int) -> str:
        return f"needs {needed} positions, and the model's context has {self.context}" if needed > self.context else ""
