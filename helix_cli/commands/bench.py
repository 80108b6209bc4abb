"""`helix bench`: how fast plain and speculative decoding are here, and whether a later run differs."""

from __future__ import annotations

import shlex
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from helix_cli.bench.compare import change_table, compare, differences
from helix_cli.bench.page import report_page
from helix_cli.bench.plan import ARMS, FIXED_OPTIONS, Plan, bench_config, make_plan
from helix_cli.bench.reporting import build_report, read_report
from helix_cli.bench.schema import Report, Run
from helix_cli.bench.workloads import CATEGORIES
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
)
from helix_cli.commands.outputs import Outputs
from helix_cli.commands.prompts import STDIN, read_prompts
from helix_cli.commands.settings import Choices, with_settings
from helix_cli.errors import INTERRUPTED, InputError
from helix_cli.phases import Phases
from helix_cli.ui.console import notice
from helix_cli.ui.measuring import MeasureProgress, show_lines, show_table
from helix_cli.ui.progress import working

if TYPE_CHECKING:
    from helix_cli.config import Config
    from helix_cli.prompt import Prompt

FAILED: Final = 1
"""Exit code when an arm failed."""


@partial(with_settings, without=FIXED_OPTIONS)
def bench(
    context: typer.Context,
    choices: Choices,
    arms: Annotated[
        str, measuring_option("--arms", f"What to compare, taking turns: {', '.join(ARMS)}.", "NAMES")
    ] = "plain,speculative",
    shapes: Annotated[
        str,
        measuring_option(
            "--shapes",
            "Standard shapes: ppN reads N random tokens, tgN writes N tokens, tgN@dM writes them after M tokens of "
            "text; or none.",
            "NAMES",
        ),
    ] = "pp512,tg128",
    categories: Annotated[
        str,
        measuring_option(
            "--categories", f"Kinds of bundled prompts: all, none, or some of {', '.join(CATEGORIES)}.", "NAMES"
        ),
    ] = "all",
    limit: Annotated[int, measuring_option("--limit", "Prompts of each kind.", "N", min=1)] = 3,
    prompts: OwnPrompts = None,
    rounds: Annotated[
        int,
        measuring_option("--rounds", "How often everything is run.", "N", min=1),
    ] = 2,
    tokens: NewTokens = 48,
    batch: Annotated[
        str | None,
        measuring_option(
            "--batch", "Sizes of batches, such as 1,4,16: the same prompts together in groups of each.", "SIZES"
        ),
    ] = None,
    reuse_prefixes: Annotated[
        bool, measuring_option("--reuse-prefixes", "Keep computed prompts between texts and rounds, as generate does.")
    ] = False,
    json: JsonFile = None,
    csv: CsvFile = None,
    markdown: MarkdownFile = None,
    plot: PlotFile = None,
) -> None:
    """Measure how fast it is, plain and with its draft, and whether speculation pays.

    The arms take turns, text by text, so that a machine that drifts favours none. Texts are greedy unless --temperature
    says otherwise, and go on past every end-of-text token to the same length. Ctrl-C ends the run and still reports
    what is finished. `helix bench compare OLD NEW` says what changed between two reports of --json.
    """
    if context.invoked_subcommand is not None:
        _refuse_options(context)
        return
    phases = context.ensure_object(Phases)
    phases.end("import")
    plan = make_plan(arms, shapes, "none" if prompts else categories, batch, rounds=rounds, tokens=tokens, limit=limit)
    refuse_bundled_choices(context, prompts)
    outputs = Outputs(json, csv, markdown, plot)
    outputs.check(prompts)
    own = read_prompts(prompts, chat=False) if prompts else []
    config = bench_config(choices.load(notice), choices.file, choices.overrides, plan, reuse_prefixes)
    phases.end("config")
    report = run(config, plan, own_name(prompts), own, phases)
    outputs.write(report_page(report))
    if report.interrupted:
        raise typer.Exit(INTERRUPTED)
    if report.failed:
        raise typer.Exit(FAILED)


def run(config: Config, plan: Plan, own_name: str, own: list[Prompt], phases: Phases) -> Report:
    """Loads, measures and computes the report."""
    session = load_session(config, phases=phases)
    with garbage_ignored():
        from helix_cli.bench.machine import bench_condition
        from helix_cli.bench.opening import builder, open_arms
    from helix_cli.bench.figures import SPEEDS
    from helix_cli.bench.measure import measure, never, planned_runs
    from helix_cli.bench.plan import workloads_of

    workloads = workloads_of(plan, builder(session), own_name, own, session.params.seed or 0)
    kinds = {workload.name: workload.kind for workload in workloads}
    with stop_on_interrupt(session.interrupt) as interrupt:
        with working("Reading the checkpoints for their hashes"):
            arms = open_arms(plan.arms, config, session, lambda: interrupt.requested)
        speeds: dict[str, list[float]] = {}
        with MeasureProgress(planned_runs(arms, workloads, plan.rounds)) as progress:

            def watch(arm: str, workload: str, run: Run | None) -> None:
                speed = run and SPEEDS[kinds[workload]](run)
                if speed and kinds[workload] in ("shape", "task"):
                    speeds.setdefault(arm, []).append(speed)
                progress.advance(_line(speeds))
                interrupt.end_here()

            measured = measure(arms, workloads, plan.rounds, watch, never)
    peaks = [run.peak_memory for runs in measured.runs.values() for run in runs]
    with working("Probing the memory's bandwidth"):
        condition = bench_condition(session.engine.runner.decoder.device, probe=not measured.interrupted, peaks=peaks)
    command = shlex.join(["helix", *sys.argv[1:]])
    return build_report(measured, arms, workloads, command=command, rounds=plan.rounds, condition=condition)


def compare_reports(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="A report that --json wrote.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="A later one.")],
) -> None:
    """Say what changed between two reports, and whether it is outside the noise.

    A change is the mean over prompts that both reports have, with its 95 % interval. The machine itself may have been
    slower that day: the change of the gain over plain is free of that.
    """
    before, after = read_report(old), read_report(new)
    table = change_table(compare(before, after))
    show_table(table.title, table.columns, table.rows)
    show_lines(list(differences(before, after)))


SUBCOMMANDS: Final = {"compare": compare_reports}


def own_name(file: Path | None) -> str:
    """What the rows of a user's own prompts are called: the file's whole name, which no shape and no kind has."""
    return "" if file is None else "stdin" if str(file) == STDIN else file.name


def _line(speeds: dict[str, list[float]]) -> str:
    """The median speed of each arm so far."""
    from statistics import median

    return ", ".join(f"{arm} {median(values):.1f} tok/s" for arm, values in speeds.items())


def _given(context: typer.Context) -> list[str]:
    """Options that were written on the command line."""
    names = {parameter.name: parameter.opts[0] for parameter in context.command.params if parameter.name}
    sources = {name: context.get_parameter_source(name) for name in names}
    return [names[name] for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"]


def _refuse_options(context: typer.Context) -> None:
    for flag in _given(context):
        raise InputError(f"{flag} cannot take effect together with {context.invoked_subcommand}.", "Leave it out.")


def refuse_bundled_choices(context: typer.Context, prompts: Path | None) -> None:
    """Raises InputError for an option that chooses among bundled prompts beside one's own."""
    for flag in _given(context):
        if prompts is not None and flag in ("--categories", "--limit"):
            raise InputError(f"{flag} cannot take effect together with --prompts.", "Leave one of the two out.")
