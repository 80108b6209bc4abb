"""From what was measured to the sweep's report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from helix_cli.bench.arms import Arm
from helix_cli.bench.costs import costs
from helix_cli.bench.figures import speed_up, text_speed, tokens_per_round
from helix_cli.bench.measure import Measured
from helix_cli.bench.plan import PLAIN
from helix_cli.bench.reporting import build_report
from helix_cli.bench.schema import Condition, Run
from helix_cli.bench.sweep.ingredients import expected_tokens, ingredients, predict
from helix_cli.bench.sweep.plan import Setting, SweepPlan
from helix_cli.bench.sweep.schema import ALL, Best, Gain, Ingredients, Sweep
from helix_cli.bench.sweep.standing import standing
from helix_cli.bench.verdict import verdict
from helix_cli.bench.workloads import Workload

RunsOf = Mapping[tuple[str, str], Sequence[Run]]
"""By arm and kind of work, ALL among them where there are several."""


def build_sweep(
    measured: Measured,
    arms: Sequence[Arm],
    workloads: Sequence[Workload],
    plan: SweepPlan,
    *,
    command: str,
    condition: Condition,
    stopped_early: bool,
) -> Sweep:
    """Computes every figure from the raw runs. What has no runs has no row and no gain."""
    base = build_report(measured, arms, workloads, command=command, rounds=plan.rounds, condition=condition)
    # Texts of one token have no speed; the report says so of them, and a sweep has no use for them.
    runs: dict[tuple[str, str], Sequence[Run]] = {
        (arm.name, one.name): timed
        for one in workloads
        for arm in arms
        if (timed := [run for run in measured.runs.get((arm.name, one.name), ()) if text_speed(run) is not None])
    }
    kinds = [one.name for one in workloads if any((arm.name, one.name) in runs for arm in arms)]
    if len(kinds) > 1:
        runs |= {
            (arm.name, ALL): together
            for arm in arms
            if (together := [run for kind in kinds for run in runs.get((arm.name, kind), ())])
        }
        kinds = [ALL, *kinds]
    parts = [
        found
        for drafter in plan.drafters
        if (found := _ingredients(drafter, plan.settings, [kind for kind in kinds if kind != ALL], runs))
    ]
    gains = [
        _gain(setting, kind, runs, next((one for one in parts if one.drafter == setting.drafter), None))
        for kind in kinds
        for setting in plan.settings
        if (setting.name, kind) in runs
    ]
    winners = (_best(kind, [one for one in gains if one.workload == kind], runs) for kind in kinds)
    best = [one for one in winners if one is not None]
    stands = standing(measured, plan.settings, workloads)
    return Sweep(
        **{name: value for name, value in base if name != "verdict"},
        verdict=_verdict(best),
        precision=plan.precision,
        margin=stands.margin if stands else None,
        stopped_early=stopped_early,
        ingredients=tuple(parts),
        gains=tuple(gains),
        best=tuple(best),
    )


def _ingredients(drafter: str, settings: Sequence[Setting], kinds: Sequence[str], runs: RunsOf) -> Ingredients | None:
    depths = [setting for setting in settings if setting.drafter == drafter and setting.k]
    by_kind = {kind: {one.k: runs[one.name, kind] for one in depths if (one.name, kind) in runs} for kind in kinds}
    return ingredients(drafter, by_kind, [run for kind in kinds for run in runs.get((PLAIN, kind), ())])


def _gain(setting: Setting, kind: str, runs: RunsOf, parts: Ingredients | None) -> Gain:
    mine, plain = runs[setting.name, kind], runs.get((PLAIN, kind), [])
    known = None
    if setting.k and parts is not None:
        known = next((one.rates for one in parts.acceptance if one.workload == kind), None)
    return Gain(
        arm=setting.name,
        drafter=setting.drafter if setting.k else "none",
        k=setting.k,
        workload=kind,
        speed=median(filter(None, map(text_speed, mine))),
        speed_up=speed_up(mine, plain, text_speed) if setting.k else None,
        predicted=predict(parts, known, setting.k, mine) if parts is not None and known is not None else None,
        tokens_per_round=tokens_per_round([text for run in mine for text in run.texts]),
        expected_tokens=expected_tokens(known, setting.k) if known is not None else None,
    )


def _best(kind: str, gains: Sequence[Gain], runs: RunsOf) -> Best | None:
    """The fastest by the mean speed-up; K = 0 where none is above 1."""
    drafting = [one for one in gains if one.speed_up is not None]
    if not drafting:
        return None
    first = max(drafting, key=lambda one: one.speed_up.ratio if one.speed_up else 0.0)
    assert first.speed_up is not None
    said = verdict(first.arm, first.speed_up, costs(runs[first.arm, kind], runs[PLAIN, kind]))
    if first.speed_up.ratio > 1.0:
        return Best(workload=kind, arm=first.arm, drafter=first.drafter, k=first.k, verdict=said)
    said = f"{said} Of all depths {first.arm} came closest to plain decoding."
    return Best(workload=kind, arm=PLAIN, drafter="none", k=0, verdict=said)


def _verdict(best: Sequence[Best]) -> str:
    """The finding in a few sentences."""
    if not best:
        return "Plain decoding or everything else has no runs, so there is nothing to compare."
    setting = "K = 0, plain decoding" if best[0].k == 0 else f"drafter {best[0].drafter}, K = {best[0].k}"
    return f"Best setting: {setting}. {best[0].verdict}"
