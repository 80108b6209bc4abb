"""How fast a target is with each of several drafts, beside plain decoding of the same prompts in turns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from helix_cli.bench.opening import builder
from helix_cli.bench.workloads import CATEGORIES
from helix_cli.config import Config, load_config
from helix_cli.core import Request
from helix_cli.draft.depth import Depth, FixedDepth
from helix_cli.draft.drafter import Drafter
from helix_cli.draft.none import NoDrafter
from helix_cli.errors import InputError
from helix_cli.session import Session
from helix_cli.stats import Trace, ratio

NUM_PROMPTS = 4
NUM_TOKENS = 64
WARM_TOKENS = 8


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
    drafter = ["draft.kind=none"] if draft is None else [f"draft.path={_quoted(draft)}"]
    return load_config(None, [f"model.path={_quoted(target)}", "sampling.temperature=0", *drafter])


def _quoted(name: str) -> str:
    # Overrides are YAML, where some folder names would be numbers.
    return "'" + name.replace("'", "''") + "'"


def num_runs(num_drafts: int) -> int:
    """How often `tell` is called, if enough prompts fit."""
    return 2 * NUM_PROMPTS * num_drafts


def measure(session: Session, target: str, draft: str, tell: Callable[[str], None]) -> Speed:
    """Runs bundled prompts plainly and with `draft` in turns; `session` has the target. Raises a HelixError."""
    session.change(config_for(target, draft))
    engine = session.engine
    arms: list[tuple[Drafter, Depth]] = [
        (NoDrafter(), FixedDepth(0)),
        (engine.drafter, engine.scheduler.depth),
    ]
    prompts = _prompts(session)
    traces: list[list[Trace]] = [[], []]
    for drafter, depth in arms:
        _run(session, drafter, depth, prompts[0], WARM_TOKENS)
    for place, prompt in enumerate(prompts):
        for number in (0, 1) if place % 2 == 0 else (1, 0):
            traces[number].append(_run(session, *arms[number], prompt, NUM_TOKENS))
            tell(draft)
    plain, speculative = (_speed(one) for one in traces)
    drafted = sum(sum(one.drafted) for one in traces[1])
    way = session.info.vocabulary
    return Speed(
        tokens_per_second=speculative,
        plain_tokens_per_second=plain,
        acceptance_rate=ratio(sum(sum(one.accepted) for one in traces[1]), drafted),
        speed_over_plain=ratio(speculative, plain) if speculative and plain else None,
        way="same" if way is None else str(way["way"]),
    )


def _prompts(session: Session) -> list[tuple[int, ...]]:
    """The first bundled prompts of several kinds that leave room for their answers. Raises InputError for none."""
    texts = [job.prompts[0] for job in builder(session).mixed(CATEGORIES, NUM_TOKENS)]
    fitting = [one for one in texts if len(one) + NUM_TOKENS <= session.info.context]
    if not fitting:
        raise InputError(
            f"No bundled prompt fits a context of {session.info.context} tokens.",
            "Measure prompts of your own with `helix bench --prompts FILE`.",
        )
    return fitting[:NUM_PROMPTS]


def _run(session: Session, drafter: Drafter, depth: Depth, prompt: Sequence[int], num_tokens: int) -> Trace:
    session.engine.drafter, session.engine.scheduler.depth = drafter, depth
    params = replace(session.params, max_tokens=num_tokens, ignore_eos=True, stop=())
    return session.run([Request(tuple(prompt), params)])[0].trace


def _speed(traces: Sequence[Trace]) -> float | None:
    """Tokens after the first by the seconds that they took."""
    timed = [one for one in traces if one.first_token is not None and one.last_token is not None]
    seconds = sum((one.last_token or 0.0) - (one.first_token or 0.0) for one in timed)
    return ratio(sum(sum(count for _, count in one.commit_times) - 1 for one in timed), seconds)
