"""Which setting leads, and how much faster another one may still turn out to be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from helix_cli.bench.figures import text_speed
from helix_cli.bench.intervals import log_speeds, paired, ratio_interval
from helix_cli.bench.measure import Measured
from helix_cli.bench.plan import PLAIN
from helix_cli.bench.schema import Run
from helix_cli.bench.sweep.plan import Setting
from helix_cli.bench.workloads import Workload

FEWEST_PROMPTS = 3
"""Of each kind of work, before a sweep may end early: the kinds differ, and each is reported by itself."""


@dataclass(frozen=True)
class Standing:
    """The setting that leads over all work, and by how much another may be faster at 95 %; None: nobody can say."""

    leader: Setting
    gain: float
    """Its mean speed-up over plain decoding; 1 for plain decoding itself."""
    margin: float | None

    @property
    def line(self) -> str:
        """For a progress display."""
        rest = "" if self.margin is None else f", another may be {self.margin:.0%} faster"
        return f"best so far {self.leader.name}, {self.gain:.2f} times plain{rest}"


def standing(measured: Measured, settings: Sequence[Setting], workloads: Sequence[Workload]) -> Standing | None:
    """How it stands; None while plain decoding or every other setting has no runs.

    Settings are compared with the leader by the prompts that both have, so what differs between prompts but not
    between settings widens nothing.
    """
    logs = {setting: log_speeds(runs_of(measured, setting.name, workloads), text_speed) for setting in settings}
    logs = {setting: found for setting, found in logs.items() if found}
    plain = next((found for setting, found in logs.items() if setting.name == PLAIN), None)
    if plain is None or len(logs) < 2:
        return None
    gains = {setting: ratios for setting, found in logs.items() if (ratios := paired(found, plain))}
    leader = max(gains, key=lambda setting: fmean(gains[setting]))
    others = [
        ratio_interval(paired(found, logs[leader])) for setting, found in logs.items() if setting.name != leader.name
    ]
    highs = [None if one is None else one.high for one in others]
    margin = None if None in highs else max(0.0, *(high - 1.0 for high in highs if high is not None))
    gain = ratio_interval(gains[leader])
    assert gain is not None
    return Standing(leader, gain.ratio, margin)


def is_enough(
    measured: Measured, settings: Sequence[Setting], workloads: Sequence[Workload], found: Standing | None, least: float
) -> bool:
    """Whether no setting can be more than `least` faster than the leader, by enough prompts of each kind of work.

    `found` is how it stands now.
    """
    if found is None or found.margin is None or found.margin > least:
        return False
    names = [setting.name for setting in settings if not measured.has_failed(setting.name)]
    return all(
        len({run.job for run in measured.runs[name, workload.name]}) >= min(FEWEST_PROMPTS, len(workload.jobs))
        for workload in workloads
        for name in names
        if not measured.cannot(name, workload.name)
    )


def runs_of(measured: Measured, arm: str, workloads: Sequence[Workload]) -> list[Run]:
    """An arm's runs in all work."""
    return [run for workload in workloads for run in measured.runs.get((arm, workload.name), [])]
