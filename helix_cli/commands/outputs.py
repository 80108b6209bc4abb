"""Where a benchmark's report goes: to the screen, and to the files that were asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from helix_cli.bench.plot import check_plot, draw, save
from helix_cli.bench.reporting import to_csv, to_json, write_all
from helix_cli.bench.schema import Report
from helix_cli.bench.tables import describe, markdown, tables
from helix_cli.errors import InputError
from helix_cli.ui.console import Screen, notice
from helix_cli.ui.measuring import show_lines, show_table

STDOUT = "-"
TITLE = "Helix benchmark"


@dataclass(frozen=True)
class Outputs:
    """The files to write; `-` is stdout, which then holds nothing else."""

    json: Path | None
    csv: Path | None
    markdown: Path | None
    plot: Path | None

    def check(self) -> None:
        """Raises InputError for what could not be written at the end: better now than after the measurement."""
        named = [file for file in (self.json, self.csv, self.markdown, self.plot) if file is not None]
        if len({str(file) for file in named}) < len(named):
            raise InputError("Two outputs have the same name.", "Give each a file of its own.")
        for file in named:
            if str(file) == STDOUT:
                continue
            if file.is_dir() or not file.absolute().parent.is_dir():
                raise InputError(f"{file} cannot be written.", "Name a file in a folder that exists.")
        if self.plot is not None:
            check_plot(self.plot)

    def write(self, report: Report) -> None:
        """Shows the tables, unless stdout is taken, and writes every file. Raises OSError."""
        made, lines = tables(report), [report.verdict, *describe(report)]
        contents: list[tuple[Path | None, Callable[[], str | bytes]]] = [
            (self.json, lambda: to_json(report)),
            (self.csv, lambda: to_csv(report)),
            (self.markdown, lambda: markdown(TITLE, lines, made)),
            (self.plot, lambda: save(draw(report), self.plot or Path(), TITLE, lines, made)),
        ]
        to_stdout = [content for file, content in contents if str(file) == STDOUT]
        for content in to_stdout:
            Screen.detect().write(str(content()))
        if not to_stdout:
            for table in made:
                show_table(table.title, table.columns, table.rows, table.shares)
            show_lines([report.verdict, *describe(report)])
        else:
            notice(report.verdict)
        write_all([(file, content) for file, content in contents if file is not None and str(file) != STDOUT])
