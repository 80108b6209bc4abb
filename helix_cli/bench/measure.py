"""Runs arms over workloads in turns, and keeps what is finished whatever happens."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import zip_longest

from helix_cli.bench.arms import Arm, NotPossible
from helix_cli.bench.memory import peak_since_restart, restart_peak
from helix_cli.bench.schema import Problem, Run, Text
from helix_cli.bench.workloads import Job, Workload
from helix_cli.errors import HelixError, Interrupted

WARM_TOKENS = 8


@dataclass
class Measured:
    """Everything that was found out so far."""

    load_s: dict[str, float] = field(default_factory=dict)
    warm_up_s: dict[str, float] = field(default_factory=dict)
    runs: dict[tuple[str, str], list[Run]] = field(default_factory=lambda: defaultdict(list))
    """By arm and workload, in the order of measuring."""
    problems: list[Problem] = field(default_factory=list)
    interrupted: bool = False

    def has_failed(self, arm: str) -> bool:
        """Whether an arm is out of the run."""
        return any(one.is_failure and one.arm == arm for one in self.problems)

    def cannot(self, arm: str, workload: str) -> bool:
        """Whether an arm has said that it cannot do a workload."""
        return any(one.arm == arm and one.workload in (None, workload) for one in self.problems)

    def fail(self, arm: str, message: str) -> None:
        """Takes an arm out of the run; it has no numbers then, whatever it did before."""
        self.problems.append(Problem(arm=arm, workload=None, message=message, is_failure=True))
        for key in [key for key in self.runs if key[0] == arm]:
            del self.runs[key]


Watch = Callable[[str, str, Run | None], None]
"""Told (arm, workload, run) after every run; None for one that gave nothing. May raise Interrupted to end it there."""

Stage = list[tuple[Workload, Job, int]]
"""Jobs, each with its workload and its round, after which a measurement may end."""


def by_round(workloads: Sequence[Workload], rounds: int) -> Iterator[Stage]:
    """Everything is a stage, and then everything again."""
    for at in range(rounds):
        yield [(workload, job, at) for workload in workloads for job in workload.jobs]


def by_job(workloads: Sequence[Workload], rounds: int) -> Iterator[Stage]:
    """The first job of every workload is a stage, then the second ones: new jobs say more than repeated ones."""
    for at in range(rounds):
        for jobs in zip_longest(*(workload.jobs for workload in workloads)):
            yield [(workload, job, at) for workload, job in zip(workloads, jobs, strict=True) if job is not None]


def measure(
    arms: Sequence[Arm],
    workloads: Sequence[Workload],
    rounds: int,
    watch: Watch,
    enough: Callable[[Measured], bool],
    stages: Callable[[Sequence[Workload], int], Iterator[Stage]] = by_round,
) -> Measured:
    """Every job of every workload through every arm, once a round, after one warm-up an arm.

    The arms take turns job by job, each pass in the opposite order of the one before, so that a machine that drifts
    favours none. An arm that fails is out, with its message. Ctrl-C keeps the runs that are finished. `enough` is asked
    after each stage whether the next is needed.
    """
    measured = Measured()
    try:
        _prepare(measured, arms, workloads)
        passes = 0
        for stage in stages(workloads, rounds):
            for workload, job, at in stage:
                passes += 1
                for arm in arms if passes % 2 else reversed(arms):
                    run = _attempt(measured, arm, workload.name, job, at)
                    watch(arm.name, workload.name, run)
            if enough(measured):
                break
    except (Interrupted, KeyboardInterrupt):
        measured.interrupted = True
    return measured


def never(measured: Measured) -> bool:
    """For those who want every round."""
    return False


def planned_runs(arms: Sequence[Arm], workloads: Sequence[Workload], rounds: int) -> int:
    """How often `watch` is called, if nothing fails."""
    return len(arms) * rounds * sum(len(workload.jobs) for workload in workloads)


def _prepare(measured: Measured, arms: Sequence[Arm], workloads: Sequence[Workload]) -> None:
    """Notes what cannot be done, loads every arm and lets it run once, so that loading and first use are no figures."""
    for workload in workloads:
        if workload.impossible:
            measured.problems += [
                Problem(arm=arm.name, workload=workload.name, message=workload.impossible, is_failure=False)
                for arm in arms
            ]
    jobs = [job for workload in workloads for job in workload.jobs]
    for arm in arms:
        try:
            measured.load_s[arm.name] = arm.open()
            if jobs:
                begun = time.perf_counter()
                shortest = min(jobs, key=lambda job: sum(map(len, job.prompts)))
                with suppress(NotPossible):  # It says so again when it is asked in earnest.
                    arm.run(replace(shortest, prompts=shortest.prompts[:1], max_tokens=WARM_TOKENS))
                measured.warm_up_s[arm.name] = time.perf_counter() - begun
        except Interrupted:
            raise
        except Exception as error:
            measured.fail(arm.name, sentence(error))


def _attempt(measured: Measured, arm: Arm, workload: str, job: Job, at: int) -> Run | None:
    if measured.cannot(arm.name, workload):
        return None
    try:
        restart_peak()
        begun = time.perf_counter()
        texts = arm.run(job)
        elapsed_s = time.perf_counter() - begun
        check_lengths(job, texts)
    except Interrupted:
        raise
    except NotPossible as error:
        problem = Problem(arm=arm.name, workload=workload, message=str(error), is_failure=False)
        measured.problems.append(problem)
        return None
    except Exception as error:
        measured.fail(arm.name, sentence(error))
        return None
    run = Run(job=job.id, round=at, elapsed_s=elapsed_s, peak_memory=peak_since_restart(), texts=tuple(texts))
    measured.runs[arm.name, workload].append(run)
    return run


def check_lengths(job: Job, texts: Sequence[Text]) -> None:
    """Raises RuntimeError unless every prompt was continued by exactly what was asked: else arms do unequal work."""
    lengths = [len(text.token_ids) for text in texts]
    if lengths != [job.max_tokens] * len(job.prompts):
        raise RuntimeError(f"{job.id}: texts of {lengths} tokens came where {job.max_tokens} each were asked for")


def sentence(error: Exception) -> str:
    """An exception in one line."""
    if isinstance(error, HelixError):
        return error.message
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
