"""Two reports side by side: what changed, and whether it is outside the noise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from helix_cli.bench.figures import SPEEDS, overall_speed
from helix_cli.bench.intervals import log_speeds, paired, ratio_interval, unpaired_rounds
from helix_cli.bench.plan import PLAIN
from helix_cli.bench.schema import Interval, Report, Row
from helix_cli.bench.tables import Table, interval_text, number, pair_unit
from helix_cli.errors import InputError


@dataclass(frozen=True)
class Change:
    """One row of both reports: how its speed and its speed-up over plain changed, as ratios of new to old."""

    arm: str
    workload: str
    unit: str
    """What its pairs are: prompts or batches."""
    old_speed: float | None
    new_speed: float | None
    """Of the jobs that both reports have, as the change is."""
    speed: Interval
    speed_up: Interval | None
    """Free of what slowed both arms alike; None for the plain arm and where plain was not measured."""

    @property
    def verdict(self) -> str:
        """What can be said of it."""
        return said_of(self.speed, self.unit)


def said_of(interval: Interval | None, unit: str) -> str:
    """Whether a ratio differs from 1 by more than the noise of its pairs."""
    if interval is None:
        return "-"
    if interval.low is None or interval.high is None:
        return f"one {unit}, no interval"
    if interval.low > 1.0:
        return "faster"
    return "slower" if interval.high < 1.0 else "within the noise"


def compare(old: Report, new: Report) -> list[Change]:
    """A change for each row that both have with at least one common job. Raises InputError where there is none."""
    before = {(row.arm, row.workload): row for row in old.rows}
    after = {(row.arm, row.workload): row for row in new.rows}
    changes = []
    for key, row in after.items():
        if key not in before:
            continue
        speed = SPEEDS[row.kind]
        change = ratio_interval(unpaired_rounds(log_speeds(row.runs, speed), log_speeds(before[key].runs, speed)))
        if change is not None:
            plain = (PLAIN, key[1])
            gain = None
            if key != plain and plain in before and plain in after:
                gain = _gain_change((before[key], before[plain]), (row, after[plain]))
            speeds = _common_speeds(before[key], row)
            changes.append(Change(*key, pair_unit(row.kind), *speeds, speed=change, speed_up=gain))
    if not changes:
        raise InputError("The two reports have no prompt in common.", "Compare runs of the same arms and work.")
    return changes


def _common_speeds(old: Row, new: Row) -> tuple[float | None, float | None]:
    """The speed of each of two rows over the jobs that both have."""
    jobs = {run.job for run in old.runs} & {run.job for run in new.runs}
    one, other = (overall_speed(row.kind, [run for run in row.runs if run.job in jobs]) for row in (old, new))
    return one, other


def _gain_change(old: tuple[Row, Row], new: tuple[Row, Row]) -> Interval | None:
    """How the speed-up over plain changed, job by job."""
    speed = SPEEDS[new[0].kind]
    gains = []
    for mine, plain in (new, old):
        mine_logs, plain_logs = log_speeds(mine.runs, speed), log_speeds(plain.runs, speed)
        both = mine_logs.keys() & plain_logs.keys()
        gains.append({job: dict(enumerate(paired({job: mine_logs[job]}, {job: plain_logs[job]}))) for job in both})
    return ratio_interval(paired(gains[0], gains[1]))


def change_table(changes: list[Change]) -> Table:
    """The changes as text."""
    rows = [
        (
            change.workload,
            change.arm,
            number(change.old_speed, 1),
            number(change.new_speed, 1),
            interval_text(change.speed, change.unit),
            change.verdict,
            interval_text(change.speed_up, change.unit),
            said_of(change.speed_up, change.unit),
        )
        for change in changes
    ]
    columns = ("work", "arm", "tok/s before", "after", "change", "", "change of the gain over plain", "")
    return Table("What changed", columns, tuple(rows))


def differences(old: Report, new: Report) -> Iterator[str]:
    """What else differs between the reports, a line each: a change of speed may come from there."""
    for arm in dict.fromkeys(row.arm for row in new.rows):
        before = next((row.setup for row in old.rows if row.arm == arm), None)
        after = next(row.setup for row in new.rows if row.arm == arm)
        if before is not None:
            yield from _changed(arm, before.model_dump(mode="json"), after.model_dump(mode="json"))
    one, other = old.condition.read_bandwidth, new.condition.read_bandwidth
    if one and other:
        yield f"memory bandwidth: {one / 1e9:.1f} GB/s before, {other / 1e9:.1f} GB/s after"


def _changed(name: str, old: object, new: object) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from _changed(f"{name}.{key}", old.get(key), new.get(key))
    elif old != new:
        yield f"{name}: {old} before, {new} after"
