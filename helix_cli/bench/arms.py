"""An arm: one way of generating, which turns a job into texts with the counters that all arms share."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from helix_cli.bench.schema import Setup, Text
from helix_cli.core import Request

if TYPE_CHECKING:
    from helix_cli.bench.workloads import Job
    from helix_cli.draft.depth import Depth
    from helix_cli.draft.drafter import Drafter
    from helix_cli.session import Session


class NotPossible(Exception):
    """What an arm cannot do by its nature; no failure, and no number."""


class Arm(Protocol):
    """One way of generating. What it raises, NotPossible and Interrupted apart, is its failure."""

    name: str

    def open(self) -> float:
        """Loads what is not loaded yet and returns the seconds it took; called once, before anything is measured."""
        ...

    def run(self, job: Job) -> list[Text]:
        """Continues all prompts of the job together, past every end-of-text token, each by `job.max_tokens`."""
        ...

    def setup(self) -> Setup:
        """What a row of this arm says of itself; called after `open`."""
        ...


class HelixArm:
    """A session with one drafter and one depth. Any number of arms may share a session: the models are loaded once."""

    def __init__(self, name: str, session: Session, drafter: Drafter, depth: Depth, setup: Setup | None = None) -> None:
        """`setup`, which takes the checkpoints' hashes, is needed for a report only."""
        self.name = name
        self._session = session
        self._drafter, self._depth = drafter, depth
        self._setup = setup

    def open(self) -> float:
        return self._session.info.load_s

    def run(self, job: Job) -> list[Text]:
        engine = self._session.engine
        engine.drafter, engine.scheduler.depth = self._drafter, self._depth
        params = replace(self._session.params, max_tokens=job.max_tokens, ignore_eos=True, stop=())
        sequences = self._session.run([Request(prompt, params) for prompt in job.prompts])
        return [Text.of(one.trace, tuple(one.tokens[one.prompt_len :])) for one in sequences]

    def setup(self) -> Setup:
        assert self._setup is not None, "this arm was not made for a report"
        return self._setup
