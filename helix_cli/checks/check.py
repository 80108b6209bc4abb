"""What a check is, and what comes of one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from helix_cli.checks.subject import Subject


class Result(StrEnum):
    """How a check ended. A skipped one proves nothing, and is never counted as passed."""

    PASS = "pass"
    TIE = "tie"
    """Texts part where rounding decides between two tokens; neither path is wrong."""
    FAIL = "fail"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Outcome:
    """A result, a sentence about it, and the numbers behind it (JSON values)."""

    result: Result
    reason: str
    evidence: dict[str, Any] = field(default_factory=dict)


class Skip(Exception):
    """Raised inside a check that cannot say anything here; the message is the reason."""


@dataclass(frozen=True)
class Check:
    """One thing that is proved. `id` is stable and begins with the group."""

    id: str
    proves: str
    run: Callable[[Subject], Outcome]

    @property
    def group(self) -> str:
        """The part of `id` before its first dot."""
        return self.id.partition(".")[0]


def judged(holds: bool, reason: str, **evidence: Any) -> Outcome:
    """Pass or fail."""
    return Outcome(Result.PASS if holds else Result.FAIL, reason, evidence)
