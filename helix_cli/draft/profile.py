"""What is known of a pair on a machine, kept between runs: costs and acceptance, as depth control starts from them.

A profile that is missing or damaged costs the first rounds of a run; one that has become wrong is corrected by the run.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import Any

from helix_cli.draft.acceptance import Acceptance
from helix_cli.draft.auto_depth import AutoDepth
from helix_cli.draft.costs import CostCurve, Costs
from helix_cli.draft.depth import Depth
from helix_cli.draft.lead import Lead
from helix_cli.storage import Storage, read_record, write_record

KIND = "measurements"
VERSION = 2
# Judged drafts after which a run knows more than the profile that it started from.
ENOUGH_ROUNDS = 32


@dataclass(frozen=True)
class SourceProfile:
    """One way of drafting: seconds of its pass by rows, seconds to feed a token late, chance kept by position, and how
    many passes' time goes by before the first."""

    draft_s: dict[int, float]
    catch_up_s: float
    acceptance: tuple[float, ...]
    lead: float = 0.0


@dataclass(frozen=True)
class Profile:
    """Seconds of the target's pass by rows, of the rest of a round, and each source (see `Drafter.source`)."""

    target_s: dict[int, float]
    overhead_s: float
    sources: dict[str, SourceProfile]


@dataclass(frozen=True)
class ProfileKey:
    """What a profile holds for: `models` name the target and the draft, `formats` how both are computed and stored."""

    device: str
    models: tuple[str, ...]
    formats: tuple[str, ...]
    drafter: str
    threads: int

    def name(self) -> str:
        """The name of the record."""
        return "depth-" + blake2b(repr((VERSION, self)).encode(), digest_size=12).hexdigest()


def load_profile(storage: Storage, key: ProfileKey) -> Profile | None:
    """The profile kept under `key`; None where there is none that makes sense."""
    return _parsed(read_record(storage, KIND, key.name()))


def save_profile(storage: Storage, key: ProfileKey, profile: Profile) -> None:
    """Keeps a profile; a disk that does not take it is no reason to stop."""
    source = f"speed of drafter {key.drafter} for {key.models[0]}"
    write_record(storage, KIND, key.name(), source, asdict(profile))


def depth_from(profile: Profile | None) -> AutoDepth:
    """Depth control that starts from a profile, or knowing nothing."""
    if profile is None:
        return AutoDepth()
    step = CostCurve({rows: seconds + profile.overhead_s for rows, seconds in profile.target_s.items()})
    costs = Costs(
        step,
        {name: CostCurve(one.draft_s) for name, one in profile.sources.items()},
        {name: one.catch_up_s for name, one in profile.sources.items()},
        profile.overhead_s,
        {name: Lead(one.lead) for name, one in profile.sources.items()},
    )
    return AutoDepth(costs, {name: Acceptance(one.acceptance) for name, one in profile.sources.items()})


def profile_of(depth: AutoDepth) -> Profile | None:
    """What a run has learned; None while that is too little to keep."""
    costs = depth.costs
    target = {rows: seconds - (costs.overhead_s or 0.0) for rows, seconds in costs.step.points().items()}
    sources = {
        name: SourceProfile(
            points, costs.catch_up_s(name, 1), depth.acceptance[name].by_position(), costs.leads[name].passes
        )
        for name, curve in costs.draft.items()
        if (points := curve.points()) and name in depth.acceptance and name in costs.leads
    }
    if depth.num_rounds < ENOUGH_ROUNDS or not sources or not target or min(target.values()) <= 0.0:
        return None
    return Profile(target, costs.overhead_s or 0.0, sources)


def keep_profile(storage: Storage, key: ProfileKey, depth: Depth) -> None:
    """Saves what a run's depth control has learned, where it controls anything and has learned enough."""
    profile = profile_of(depth) if isinstance(depth, AutoDepth) else None
    if profile is not None:
        save_profile(storage, key, profile)


def _parsed(record: Any) -> Profile | None:
    """The record as a profile; None for anything that is not one."""
    try:
        sources = {
            str(name): SourceProfile(
                _curve(one["draft_s"]),
                _number(one["catch_up_s"], 0.0),
                tuple(min(1.0, _number(share, 0.0)) for share in one["acceptance"]),
                _number(one["lead"], 0.0),
            )
            for name, one in record["sources"].items()
        }
        return Profile(_curve(record["target_s"]), _number(record["overhead_s"], 0.0), sources)
    except (TypeError, KeyError, ValueError, AttributeError):
        return None


def _curve(points: dict[str, Any]) -> dict[int, float]:
    """JSON writes numbers of rows as texts."""
    curve = {int(rows): _number(seconds, 1e-9) for rows, seconds in points.items()}
    if not curve or min(curve) < 1:
        raise ValueError("a curve needs points")
    return curve


def _number(value: Any, least: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value < 1e6:
        raise ValueError(f"not a number of at least {least}: {value!r}")
    return float(value)
