"""Where the time goes between the start of the process and its first token. Standard library only."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Final, Literal

Phase = Literal[
    "interpreter",  # Python itself, until Helix's first line; where the process was a shell before, that too
    "import",  # modules: torch above all
    "config",  # options, the config file and its checks
    "prompt",  # files and stdin, waiting for them included
    "checkpoint",  # finding the models, downloading what is missing, their configs
    "tokenizer",  # loading it, comparing the draft's with it, the prompts' lengths
    "device",  # opening it and asking what it can do
    "weights",
    "cache",  # the K/V pools and what is wired to them
    "first_token",  # the prompt's forward pass, and what a first pass sets up
]
"""What the program does until its first token."""

LOADING: Final[tuple[Phase, ...]] = ("checkpoint", "tokenizer", "device", "weights", "cache")
"""The phases in which the models are opened."""


class Phases:
    """A stopwatch over the start of the program: every moment since its beginning belongs to one phase.

    `seconds` holds what each phase took; one that comes in several parts has their sum.
    """

    def __init__(self, age_s: float | None = None, tell: Callable[[str], None] | None = None) -> None:
        """The process is `age_s` seconds old; None where nobody knows, and the watch then starts now.

        `tell` hears a line for each part of a phase as it ends.
        """
        self.seconds: dict[Phase, float] = {}
        self.process_to_first_token_s: float | None = None
        """Set by `end_start`; None before, and where the age of the process is not known."""
        self._knows_age = age_s is not None
        self._tell = tell
        self._last = time.perf_counter() - (age_s or 0.0)
        self._is_over = False

    def end(self, phase: Phase) -> None:
        """Everything since the last call, or since the beginning, was `phase`."""
        now = time.perf_counter()
        taken, self._last = now - self._last, now
        self.seconds[phase] = self.seconds.get(phase, 0.0) + taken
        if self._tell is not None:
            self._tell(f"{phase.replace('_', ' ')}: {taken:.3f} s")

    def end_start(self) -> None:
        """The process has its first token: its start is over, and later calls change nothing."""
        if self._is_over:
            return
        self._is_over = True
        self.end("first_token")
        if self._knows_age:
            self.process_to_first_token_s = sum(self.seconds.values())

    @property
    def load_s(self) -> float:
        """What the phases of loading took together."""
        return sum(self.seconds.get(phase, 0.0) for phase in LOADING)

    def to_dict(self) -> dict[str, float]:
        """`import_s` and so on, for each phase that took place so far."""
        return {f"{phase}_s": taken for phase, taken in self.seconds.items()}


def process_age(stat: str = "/proc/self/stat") -> float | None:
    """Seconds since this process was created, to a hundredth; None where the system does not tell.

    `exec` makes no new process. `stat` is Linux's record of this process (see proc(5)).
    """
    try:
        with open(stat, encoding="utf-8", errors="replace") as file:
            # The program's name, in brackets, may hold anything; the start is the twentieth field after it.
            ticks = int(file.read().rpartition(")")[2].split()[19])
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return None
    return age if ticks > 0 and age >= 0.0 else None
