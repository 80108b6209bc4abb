"""`helix plan`: what a config takes of the device's memory, and what fits, before anything is loaded."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Final

import typer

from helix_cli.commands.loading import garbage_ignored
from helix_cli.commands.settings import OPTIONS, Choices, with_settings
from helix_cli.ui.console import Screen, notice
from helix_cli.ui.measuring import show_lines, show_table
from helix_cli.ui.progress import working
from helix_cli.ui.tables import counted, percent

if TYPE_CHECKING:
    from helix_cli.outlook import Outlook

DOES_NOT_FIT: Final = 1
WITH_EFFECT: Final = frozenset(
    {"--model", "--draft", "--dtype", "--weights", "--draft-weights", "--device", "--drafter", "--k"}
)
"""The shared options that memory depends on."""


def _plan(
    choices: Choices,
    as_json: Annotated[
        bool, typer.Option("--json", help="Write everything as one JSON object, sizes in bytes.")
    ] = False,
) -> None:
    """Say what models take of the memory, and which contexts and batches fit, before anything is loaded.

    Only config files and headers are read; of a model on the hub, only its config is fetched. The exit code is 0 where
    the models fit and 1 where they do not; then it says what would.
    """
    config = choices.load(notice)
    with working("Looking"), garbage_ignored():
        from helix_cli.outlook import look_ahead

        outlook = look_ahead(config)
    if as_json:
        Screen.detect().write(json.dumps(outlook.to_dict()) + "\n")
    else:
        _show(outlook)
    if outlook.refusal is not None:
        raise typer.Exit(DOES_NOT_FIT)


plan = with_settings(_plan, without=OPTIONS.keys() - WITH_EFFECT)


def _show(outlook: Outlook) -> None:
    models, cases = model_table(outlook), case_table(outlook)
    show_table("Models (* as they would be loaded)", *models)
    show_table("Keys and values of texts at one time", *cases)
    show_lines(lines(outlook))


def model_table(outlook: Outlook) -> tuple[list[str], list[list[str]]]:
    """Columns and rows: what each model takes in every format, the chosen one marked."""
    from helix_cli.planning.refusal import amount

    formats = list(outlook.plan.models[0].formats)
    rows = []
    for model, name, parameters in zip(outlook.plan.models, outlook.names, outlook.parameters, strict=True):
        own = {one: f"{amount(size.kept)}{' *' * (one == model.weights)}" for one, size in model.formats.items()}
        sizes = [own.get(one, "-") for one in formats]
        count = _count(parameters) if own else "shared"
        rows.append([model.role, name, count, *sizes, f"{model.kv_bytes_per_token / 2**10:.1f} KiB"])
    return ["model", "name", "parameters", *formats, "K/V a token"], rows


def _count(parameters: int) -> str:
    """8,030 M, 1.6 M, or for a toy 260,800."""
    millions = parameters / 1e6
    return f"{parameters:,}" if millions < 1 else f"{millions:,.{1 if millions < 10 else 0}f} M"


def case_table(outlook: Outlook) -> tuple[list[str], list[list[str]]]:
    """Columns and rows: bytes of keys and values by context and number of texts, and whether they fit."""
    from helix_cli.planning.refusal import amount

    cases = outlook.cases
    batches = sorted({case.texts for case in cases})
    cells = {
        (case.context, case.texts): f"{amount(case.cache_bytes)} {'fits' if case.fits else 'no'}" for case in cases
    }
    contexts = sorted({case.context for case in cases})
    rows = [[f"{context:,}", *(cells[context, texts] for texts in batches)] for context in contexts]
    return ["context", *(counted(texts, "text") for texts in batches)], rows


def lines(outlook: Outlook) -> list[str]:
    """The verdict, the memory, what one step needs, and what the draft adds."""
    from helix_cli.planning.refusal import amount

    plan = outlook.plan
    told = "does not say how much memory is free" if plan.free is None else f"{amount(plan.free)} free"
    whole = f" of {amount(outlook.total)}" if outlook.total is not None else ""
    step = plan.step
    found = [
        verdict(outlook),
        f"Device: {outlook.device}: {told}{whole}.",
        f"A step of {step.tokens} tokens and {step.rows} rows of logits: {amount(plan.logits)} of logits, "
        f"{amount(plan.activations)} of activations.",
    ]
    if len(plan.models) > 1:
        target, draft = plan.models
        share = draft.kv_bytes_per_token / target.kv_bytes_per_token
        found.append(
            f"The draft adds {amount(draft.size.kept)} of weights and {percent(share)} to the keys and values."
            if draft.size.kept
            else f"The draft adds no weights and {percent(share)} to the keys and values."
        )
    return [*found, *outlook.notes]


def verdict(outlook: Outlook) -> str:
    """One line: whether it fits, with which context, or what would fit."""
    from helix_cli.planning.refusal import amount, better_context

    plan, context = outlook.plan, outlook.plan.models[0].widths.context
    if outlook.refusal is not None:
        return f"It does not fit: {outlook.refusal.message} {outlook.refusal.hint}"
    most = max((case.texts for case in outlook.cases if case.context == context and case.fits), default=0)
    begin = f"It fits: {amount(plan.weights)} of weights, and a cache of {plan.num_tokens:,} tokens"
    if most:
        return f"{begin}, enough for {counted(most, 'text')} of the model's {context:,}."
    return f"{begin}, enough for a text of {outlook.longest:,} of the model's {context:,}. {better_context(plan)}"
