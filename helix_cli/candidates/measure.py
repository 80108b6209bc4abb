"""How fast a target is with each of several drafts, beside plain decoding of the same prompts in turns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from helix_cli import strict_yaml
from helix_cli.bench.arms import HelixArm
from helix_cli.bench.measure import measure as take_turns
from helix_cli.bench.measure import never
from helix_cli.bench.opening import builder
from helix_cli.bench.plan import PLAIN, SPECULATIVE
from helix_cli.bench.schema import Text
from helix_cli.bench.workloads import CATEGORIES, Workload
from helix_cli.config import Config, load_config
from helix_cli.draft.depth import FixedDepth
from helix_cli.draft.none import NoDrafter
from helix_cli.errors import InputError, Interrupted, ModelError
from helix_cli.session import Session
from helix_cli.stats import ratio

NUM_PROMPTS: Final = 4
NUM_TOKENS: Final = 64
PROMPTS: Final = "prompts"


@dataclass(frozen=True)
class Speed:
    """Over all prompts together; None where nothing was drafted, or too little was written."""

    tokens_per_second: float | None
    plain_tokens_per_second: float | None
    acceptance_rate: float | None
    speed_over_plain: float | None
    way: str
    """How the draft talked to the target."""


def config_for(target: str, draft: str | None) -> Config:
    """The default settings for a pair, greedy; without a draft nothing proposes."""
    # Overrides are YAML, where some folder names would be numbers.
    drafter = "draft.kind=none" if draft is None else f"draft.path={strict_yaml.write(draft)}"
    return load_config(None, [f"model.path={strict_yaml.write(target)}", "sampling.temperature=0", drafter])


def num_runs(num_drafts: int) -> int:
    """How often `tell` is called, if enough prompts fit."""
    return 2 * NUM_PROMPTS * num_drafts


def measure(session: Session, target: str, draft: str, tell: Callable[[str], None]) -> Speed:
    """Runs bundled prompts plainly and with `draft` in turns; `session` has the target.

    Raises Interrupted, and a HelixError for a pair that does not work.
    """
    session.change(config_for(target, draft))
    engine, way = session.engine, session.info.vocabulary
    arms = [
        HelixArm(PLAIN, session, NoDrafter(), FixedDepth(0)),
        HelixArm(SPECULATIVE, session, engine.drafter, engine.scheduler.depth),
    ]
    measured = take_turns(arms, [_prompts(session)], 1, lambda *_: tell(draft), never)
    if measured.interrupted:
        raise Interrupted
    if measured.problems:
        raise ModelError(measured.problems[0].message, "Measure it alone with `helix bench` to see more.")
    plain, speculative = ([run.texts[0] for run in measured.runs[arm.name, PROMPTS]] for arm in arms)
    speed, plain_speed = _speed(speculative), _speed(plain)
    drafted, accepted = sum(sum(one.drafted) for one in speculative), sum(sum(one.accepted) for one in speculative)
    return Speed(
        tokens_per_second=speed,
        plain_tokens_per_second=plain_speed,
        acceptance_rate=ratio(accepted, drafted),
        speed_over_plain=ratio(speed, plain_speed) if speed and plain_speed else None,
        way="same" if way is None else str(way["way"]),
    )


def _prompts(session: Session) -> Workload:
    """The first bundled prompts of several kinds that leave room for their answers. Raises InputError for none."""
    jobs = builder(session).mixed(CATEGORIES, NUM_TOKENS)
    fitting = [job for job in jobs if len(job.prompts[0]) + NUM_TOKENS <= session.info.context]
    if not fitting:
        raise InputError(
            f"No bundled prompt fits a context of {session.info.context} tokens.",
            "Measure prompts of your own with `helix bench --prompts FILE`.",
        )
    return Workload(PROMPTS, "task", tuple(fitting[:NUM_PROMPTS]))


def _speed(texts: Sequence[Text]) -> float | None:
    """Tokens after the first commit over the seconds that they took, of all texts together."""
    tokens = sum(count for text in texts for _, count in text.commits[1:])
    return ratio(tokens, sum(text.commits[-1][0] - text.commits[0][0] for text in texts if text.commits))
