"""`helix sweep-k`: which depth is fastest here, measured and explained, and where to write it down."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from helix_cli.bench.plan import FIXED_OPTIONS, names_in
from helix_cli.bench.sweep.plan import (
    DRAFTERS,
    Setting,
    SweepPlan,
    make_settings,
    parse_depths,
    parse_drafters,
    setting_configs,
)
from helix_cli.bench.workloads import CATEGORIES
from helix_cli.commands.bench import FAILED, own_name, refuse_bundled_choices
from helix_cli.commands.interrupt import stop_on_interrupt
from helix_cli.commands.loading import garbage_ignored, load_session
from helix_cli.commands.measuring import (
    CsvFile,
    JsonFile,
    MarkdownFile,
    NewTokens,
    OwnPrompts,
    PlotFile,
    measuring_option,
    output_option,
)
from helix_cli.commands.outputs import Outputs
from helix_cli.commands.prompts import read_prompts
from helix_cli.commands.settings import Choices, with_settings
from helix_cli.errors import INTERRUPTED
from helix_cli.phases import Phases
from helix_cli.ui.console import notice
from helix_cli.ui.measuring import MeasureProgress
from helix_cli.ui.progress import working

if TYPE_CHECKING:
    from helix_cli.bench.measure import Measured
    from helix_cli.bench.schema import Run
    from helix_cli.bench.sweep.schema import Sweep
    from helix_cli.bench.workloads import Builder, Workload
    from helix_cli.config import Config

    WorkOf = Callable[[Builder], list[Workload]]


@partial(with_settings, without=FIXED_OPTIONS | {"--k", "--drafter"})
def sweep_k(
    context: typer.Context,
    choices: Choices,
    k: Annotated[
        str,
        measuring_option(
            "--k", "Depths to compare, as in 0-8 or 0,2,4; plain decoding, 0, is always among them.", "DEPTHS"
        ),
    ] = "0-8",
    drafter: Annotated[
        str | None,
        measuring_option(
            "--drafter",
            f"What proposes tokens, one or more of {', '.join(DRAFTERS)}. Left out, it is the configuration's own.",
            "NAMES",
        ),
    ] = None,
    categories: Annotated[
        str,
        measuring_option(
            "--categories", f"Kinds of bundled prompts: all, or some of {', '.join(CATEGORIES)}.", "NAMES"
        ),
    ] = "all",
    limit: Annotated[int, measuring_option("--limit", "At most so many prompts of each kind.", "N", min=1)] = 8,
    prompts: OwnPrompts = None,
    rounds: Annotated[int, measuring_option("--rounds", "How often everything is run at most.", "N", min=1)] = 1,
    tokens: NewTokens = 48,
    precision: Annotated[
        float,
        measuring_option(
            "--precision",
            "End as soon as no other setting can be faster than the best by more than this share, at 95 %; 0 runs "
            "everything.",
            "SHARE",
            min=0.0,
            max=1.0,
        ),
    ] = 0.03,
    save: Annotated[
        Path | None,
        output_option(
            "--save", "Write the best drafter and depth into this YAML file of settings, and keep its comments."
        ),
    ] = None,
    json: JsonFile = None,
    csv: CsvFile = None,
    markdown: MarkdownFile = None,
    plot: PlotFile = None,
) -> None:
    """Measure how many tokens to propose at a time, and what the best number depends on.

    Every depth of every drafter and plain decoding take turns, prompt by prompt. From the same runs come the costs of
    drafting and checking and the acceptance by position, and from those the speed-up that theory predicts, beside the
    one that was measured. Depth 0 may win, and then it says why. Ctrl-C ends the run and reports what is finished.
    """
    phases = context.ensure_object(Phases)
    phases.end("import")
    depths = parse_depths(k)
    refuse_bundled_choices(context, prompts)
    kinds = () if prompts else CATEGORIES if categories == "all" else names_in(categories, CATEGORIES, "category")
    outputs = Outputs(json, csv, markdown, plot)
    outputs.check(prompts)
    own = read_prompts(prompts, chat=False) if prompts else []
    drafters = parse_drafters(drafter, choices.load(lambda note: None))
    plan = SweepPlan(make_settings(drafters, depths), rounds, tokens, limit, precision)
    configs = setting_configs(plan, choices.file, choices.overrides, notice)
    if save is not None:
        from helix_cli.bench.sweep.saving import check_target

        check_target(save, configs[plan.settings[0]])
    phases.end("config")

    def workloads(builder: Builder) -> list[Workload]:
        if own:
            return [builder.file(own_name(prompts), own, tokens)]
        return [builder.category(name, limit, tokens) for name in kinds]

    sweep = run(configs, plan, workloads, phases)
    from helix_cli.bench.sweep.tables import sweep_page

    outputs.write(sweep_page(sweep))
    if save is not None:
        write_choice(save, sweep, configs)
    if sweep.interrupted:
        raise typer.Exit(INTERRUPTED)
    if sweep.failed:
        raise typer.Exit(FAILED)


def run(configs: Mapping[Setting, Config], plan: SweepPlan, work: WorkOf, phases: Phases) -> Sweep:
    """Loads the models once, measures, and computes the report."""
    with garbage_ignored():
        from helix_cli.bench.sweep.arms import first_config, open_settings
    session = load_session(first_config(configs), phases=phases)
    from helix_cli.bench.machine import bench_condition
    from helix_cli.bench.measure import by_job, measure, planned_runs
    from helix_cli.bench.opening import builder
    from helix_cli.bench.sweep.profile import keep_profiles
    from helix_cli.bench.sweep.report import build_sweep
    from helix_cli.bench.sweep.standing import is_enough, standing
    from helix_cli.storage import Storage

    workloads = work(builder(session))
    ended_early = False
    with stop_on_interrupt(session.interrupt) as interrupt:
        with working("Loading what else drafts, and hashing the checkpoints"):
            arms = open_settings(configs, session)
        line = "warmed up"
        with MeasureProgress(planned_runs(arms, workloads, plan.rounds)) as progress:

            def watch(arm: str, workload: str, run: Run | None) -> None:
                progress.advance(line)
                interrupt.end_here()

            def enough(measured: Measured) -> bool:
                nonlocal line, ended_early
                found = standing(measured, plan.settings, workloads)
                line = found.line if found else line
                ended_early = is_enough(measured, plan.settings, workloads, found, plan.precision)
                return ended_early

            measured = measure(arms, workloads, plan.rounds, watch, enough, by_job)
    target = session.engine.runner.decoder
    for drafter in keep_profiles(measured, arms, configs, workloads, target, Storage()):
        notice(f"What drafter {drafter} costs and gains here is kept for draft.k: auto.")
    peaks = [one.peak_memory for runs in measured.runs.values() for one in runs]
    with working("Probing the memory's bandwidth"):
        condition = bench_condition(target.device, probe=not measured.interrupted, peaks=peaks)
    command = shlex.join(["helix", *sys.argv[1:]])
    return build_sweep(measured, arms, workloads, plan, command=command, condition=condition, stopped_early=ended_early)


def write_choice(file: Path, sweep: Sweep, configs: Mapping[Setting, Config]) -> None:
    """Saves the best setting, if the run was finished and has one; says what it did."""
    from helix_cli.bench.sweep.saving import save

    if sweep.interrupted or sweep.choice is None:
        reason = "the run was interrupted" if sweep.interrupted else "nothing could be compared"
        notice(f"{file} was left as it is: {reason}.")
        return
    config = next(config for setting, config in configs.items() if setting.name == sweep.choice.arm)
    save(file, config)
    notice(f"{file} now has {sweep.choice.arm}.")
