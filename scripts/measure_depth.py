"""Measure depth control on hardware: a good draft, one that is always wrong, and a text that changes under it.

    python -m scripts.measure_depth --target PAIR/target --draft PAIR/draft --set model.weights=int8 --k 2 4 6

Arms are plain decoding, fixed depths and `draft.k: auto`, over one loaded pair, greedy, in turns prompt by prompt. The
draft is the pair's own ("good"), the same with every proposed token replaced ("wrong"), or with those replaced that
fall into every second stretch of `--stretch` tokens ("changing"): what is accepted is then made up, and the time that
it takes is not. A replaced token is the next id, so that it costs what a real one costs. Depth control starts from
nothing and learns over the prompts of one kind of draft, as it does within a process. Prints a Markdown table; exits
with 1 if a text differs from the plain one.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from helix_cli.bench.arms import HelixArm
from helix_cli.bench.figures import depths, equal_texts, text_speed
from helix_cli.bench.intervals import log_speeds, paired, ratio_interval
from helix_cli.bench.machine import condition
from helix_cli.bench.measure import Measured, measure, never, planned_runs
from helix_cli.bench.opening import builder
from helix_cli.bench.plan import measured_settings
from helix_cli.bench.schema import Run
from helix_cli.bench.workloads import CATEGORIES, Workload
from helix_cli.config import load_config
from helix_cli.core import Draft, Wanted
from helix_cli.core import Sequence as Text
from helix_cli.draft.auto_depth import AutoDepth
from helix_cli.draft.depth import FixedDepth
from helix_cli.draft.drafter import Drafter
from helix_cli.draft.none import NoDrafter
from helix_cli.machine import hardware
from helix_cli.session import Session, open_session
from helix_cli.ui.measuring import MeasureProgress

DAMAGES = ("good", "wrong", "changing")
PLAIN, AUTO = "plain", "K = auto"


@dataclass(frozen=True)
class Damaged:
    """A drafter some of whose tokens are replaced: all ("wrong"), or those in every second stretch ("changing")."""

    inner: Drafter
    kind: str
    stretch: int
    vocab_size: int

    def source(self, sequence: Text) -> str:
        return self.inner.source(sequence)

    def propose(self, wanted: list[Wanted]) -> dict[int, Draft]:
        by_id = {one.sequence.id: one.sequence for one in wanted}
        return {number: self._damage(by_id[number], draft) for number, draft in self.inner.propose(wanted).items()}

    def observe(self, sequence: Text, draft: Draft, num_accepted: int) -> None:
        self.inner.observe(sequence, draft, num_accepted)

    def forget(self, sequence_id: int) -> None:
        self.inner.forget(sequence_id)

    def _damage(self, sequence: Text, draft: Draft) -> Draft:
        first = len(sequence.tokens) - sequence.prompt_len
        places = torch.arange(first, first + draft.length) // self.stretch
        hit = torch.ones_like(places) if self.kind == "wrong" else places % 2
        return replace(draft, tokens=(draft.tokens + hit) % self.vocab_size)


def arms_of(session: Session, own: Drafter, kind: str, options: argparse.Namespace) -> list[HelixArm]:
    """Plain decoding, every fixed depth, and depth control that knows nothing yet; `own` is the pair's drafter."""
    size = session.engine.runner.decoder.architecture.vocab_size
    drafter = own if kind == "good" else Damaged(own, kind, options.stretch, size)
    plain = HelixArm(PLAIN, session, NoDrafter(), FixedDepth(0))
    fixed = [HelixArm(f"K = {k}", session, drafter, FixedDepth(k)) for k in options.k]
    return [plain, *fixed, HelixArm(AUTO, session, drafter, AutoDepth())]


def workload_of(session: Session, options: argparse.Namespace) -> Workload:
    """The bundled prompts, the kinds in turns."""
    jobs = builder(session).mixed(CATEGORIES, options.tokens)[: options.prompts]
    return Workload("prompts", "task", tuple(jobs))


def rows_of(measured: Measured, arms: Sequence[HelixArm]) -> list[dict[str, Any]]:
    """A row of figures for each arm."""
    runs = {arm.name: measured.runs[arm.name, "prompts"] for arm in arms}
    best = max((arm.name for arm in arms if arm.name not in (PLAIN, AUTO)), key=lambda name: _mean(runs[name]))
    return [_row(arm.name, runs, best) for arm in arms]


def _row(name: str, runs: dict[str, list[Run]], best: str) -> dict[str, Any]:
    mine = runs[name]
    texts = [text for run in mine for text in run.texts]
    drafted, accepted = (sum(sum(getattr(text, what)) for text in texts) for what in ("drafted", "accepted"))
    asked = depths([wanted for text in texts for wanted in text.wanted])
    gain, against = (_ratio(mine, runs[base]) for base in (PLAIN, best))
    return {
        "arm": name, "tokens_per_second": math.exp(_mean(mine)), "over_plain": gain, "over_best_fixed": against,
        "best_fixed": best, "acceptance": accepted / drafted if drafted else None,
        "depth_mean": asked and asked.mean, "depth_off": asked and asked.off_share,
        "equal_texts": equal_texts(mine, runs[PLAIN]),
    }  # fmt: skip


def _mean(runs: list[Run]) -> float:
    """The mean log speed."""
    logs = [value for rounds in log_speeds(runs, text_speed).values() for value in rounds.values()]
    return sum(logs) / len(logs)


def _ratio(mine: list[Run], base: list[Run]) -> tuple[float, float | None, float | None]:
    """Paired by prompt, with the 95 % interval."""
    interval = ratio_interval(paired(log_speeds(mine, text_speed), log_speeds(base, text_speed)))
    assert interval is not None, "both arms ran every prompt"
    return interval.ratio, interval.low, interval.high


def table(kind: str, rows: list[dict[str, Any]]) -> str:
    """The rows in Markdown."""
    head = f"| draft: {kind} | tokens/s | against plain | against {rows[0]['best_fixed']} | accepted | mean depth |"
    lines = [head, "|---|---|---|---|---|---|"]
    for row in rows:
        accepted = "" if row["acceptance"] is None else f"{row['acceptance']:.2f}"
        depth = "" if row["depth_mean"] is None else f"{row['depth_mean']:.1f}, off {row['depth_off']:.0%}"
        ratios = " | ".join(_shown(row[name]) for name in ("over_plain", "over_best_fixed"))
        lines.append(f"| {row['arm']} | {row['tokens_per_second']:.1f} | {ratios} | {accepted} | {depth} |")
    return "\n".join(lines) + "\n"


def _shown(ratio: tuple[float, float | None, float | None]) -> str:
    middle, low, high = ratio
    return f"{middle:.3f}" if low is None else f"{middle:.3f} ({low:.2f} to {high:.2f})"


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", help="the embedded pair's if left out")
    parser.add_argument("--draft")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="settings of the config")
    parser.add_argument("--kinds", nargs="+", choices=DAMAGES, default=list(DAMAGES))
    parser.add_argument("--k", type=int, nargs="+", default=[1, 2, 3, 4, 6], help="fixed depths")
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=512, help="new tokens of each text")
    parser.add_argument("--stretch", type=int, default=64, help="tokens between changes")
    parser.add_argument("--json", type=Path, help="where the rows go")
    return parser.parse_args()


def main() -> None:
    """Measures and prints a table for each kind of draft."""
    options = parse_arguments()
    named = [f"model.path={options.target}"] if options.target else []
    named += [f"draft.path={options.draft}"] if options.draft else []
    config = load_config(None, [*named, *options.set])
    config = load_config(None, [*named, *options.set, *measured_settings(config, options.tokens, reuse=False)])
    session = open_session(config)
    workload, found, differing = workload_of(session, options), {}, 0
    # An arm leaves its own drafter in the engine.
    own = session.engine.drafter
    for kind in options.kinds:
        arms = arms_of(session, own, kind, options)
        with MeasureProgress(planned_runs(arms, [workload], 1)) as progress:
            measured = measure(arms, [workload], 1, lambda arm, *_: progress.advance(arm), never)
        if measured.problems or measured.interrupted:
            said = "; ".join(f"{one.arm}: {one.message}" for one in measured.problems)
            sys.exit(f"measure_depth: {said or 'interrupted'}")
        found[kind] = rows_of(measured, arms)
        differing += sum(row["equal_texts"][1] - row["equal_texts"][0] for row in found[kind] if row["equal_texts"])
        print(table(kind, found[kind]), flush=True)
    if options.json:
        about = {"command": sys.argv[1:], "hardware": hardware(), "condition": condition(torch.get_num_threads())}
        options.json.write_text(json.dumps(about | {"rows": found}, indent=1))
    sys.exit(bool(differing))


if __name__ == "__main__":
    main()
