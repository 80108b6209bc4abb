"""The options that commands which measure share: whose prompts, and where the results go."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def measuring_option(flag: str, help: str, metavar: str | None = None, **more: Any) -> Any:
    """An option of what is measured; `more` are typer's own, such as `min`."""
    return typer.Option(flag, help=help, metavar=metavar, rich_help_panel="Measuring", **more)


def output_option(flag: str, help: str) -> Any:
    """An option that names a file to write."""
    return typer.Option(flag, help=help, metavar="FILE", rich_help_panel="Output")


OwnPrompts = Annotated[
    Path | None,
    measuring_option(
        "--prompts", "Your own prompts instead of the bundled ones, as for generate --input; - is stdin.", "FILE"
    ),
]
NewTokens = Annotated[int, measuring_option("--tokens", "Tokens that each prompt is continued by.", "N", min=2)]
JsonFile = Annotated[Path | None, output_option("--json", "Write everything, raw samples too; - is stdout.")]
CsvFile = Annotated[
    Path | None, output_option("--csv", "Write a line for each arm or setting and kind of work; - is stdout.")
]
MarkdownFile = Annotated[Path | None, output_option("--markdown", "Write tables ready to paste; - is stdout.")]
PlotFile = Annotated[Path | None, output_option("--plot", "Draw charts; the ending chooses: .png, .svg or .html.")]
