"""A sweep over made-up arms with known times."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from helix_cli.bench.measure import Measured, by_job, measure
from helix_cli.bench.schema import Setup, Text
from helix_cli.bench.sweep.plan import Setting, SweepPlan, make_settings
from helix_cli.bench.sweep.report import build_sweep
from helix_cli.bench.sweep.schema import Sweep
from helix_cli.bench.workloads import Job, Workload
from tests.bench.made import CONDITION, plain_setup, plain_text, setup, text

STEP_S = 0.1
WORK = tuple(
    Workload(name, "task", tuple(Job(f"{name}-{at}", ((1, 2),), 13) for at in range(6))) for name in ("chat", "code")
)


class SettingArm:
    """A setting whose rounds take `round_s` and keep `kept` tokens; prompts differ a little, all arms alike."""

    def __init__(self, setting: Setting, round_s: float, kept: int) -> None:
        self.name = setting.name
        self.setting, self.round_s, self.kept = setting, round_s, kept
        self.before: Callable[[Job], None] = lambda job: None

    def open(self) -> float:
        return 0.1

    def setup(self) -> Setup:
        return plain_setup() if self.setting.k == 0 else setup(drafter=self.setting.drafter, k=self.setting.k)

    def run(self, job: Job) -> list[Text]:
        self.before(job)
        slower = 1.0 + 0.1 * int(job.id[-1])
        if self.setting.k == 0:
            return [plain_text(job.max_tokens, STEP_S * slower)]
        times = (0.3 * self.round_s * slower, 0.7 * self.round_s * slower, 0.0)
        rounds, room = [], job.max_tokens - 1
        while room:
            drafted = min(self.setting.k, room - 1)
            kept = min(self.kept, drafted)
            rounds.append((drafted, kept))
            room -= kept + 1
        return [text(rounds, times)]


def swept(
    rounds_of: Mapping[int, tuple[float, int]], arms: Callable[[list[SettingArm]], Any] = lambda arms: None
) -> tuple[SweepPlan, list[SettingArm], Measured]:
    """Measured settings of drafter `model`: depth -> (seconds of a round, tokens kept in it)."""
    plan = SweepPlan(make_settings(("model",), tuple(rounds_of)), rounds=1, tokens=13, limit=6, precision=0.03)
    made = [SettingArm(setting, *rounds_of.get(setting.k, (STEP_S, 0))) for setting in plan.settings]
    arms(made)
    return plan, made, measure(made, WORK, 1, lambda arm, workload, run: None, lambda measured: False, by_job)


def sweep(
    rounds_of: Mapping[int, tuple[float, int]],
    arms: Callable[[list[SettingArm]], Any] = lambda arms: None,
    work: Sequence[Workload] = WORK,
) -> Sweep:
    """The report of the same."""
    plan, made, measured = swept(rounds_of, arms)
    return build_sweep(measured, made, work, plan, command="helix", condition=CONDITION, stopped_early=False)
