"""Where a measurement goes: to the screen, and to the files that were asked for."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from helix_cli.bench.page import Page
from helix_cli.bench.plot import check_plot, image
from helix_cli.bench.tables import markdown
from helix_cli.commands.prompts import STDIN
from helix_cli.errors import InputError
from helix_cli.ui.console import Screen, notice
from helix_cli.ui.measuring import show_lines, show_table

STDOUT = "-"


def check_files(*files: Path | None, prompts: Path | None = None) -> None:
    """Raises InputError for what could not be written at the end: better now than after the measurement.

    `prompts` is read and must not be written over.
    """
    named = [file for file in files if file is not None]
    places = [os.path.realpath(file) for file in named]
    if len(set(places)) < len(named):
        raise InputError("Two outputs have the same name.", "Give each a file of its own.")
    if prompts is not None and str(prompts) != STDIN and os.path.realpath(prompts) in places:
        raise InputError(f"{prompts} holds the prompts and would be written over.", "Name another file to write.")
    for file in named:
        if str(file) == STDOUT:
            continue
        place = file if file.exists() else file.absolute().parent
        if file.is_dir() or not (file.exists() or place.is_dir()) or not os.access(place, os.W_OK):
            raise InputError(f"{file} cannot be written.", "Name a file in a folder that exists and can be written.")


def write_files(contents: Iterable[tuple[Path, Callable[[], bytes]]]) -> OSError | None:
    """Writes every file; returns the first error after the last file: nothing may be lost because of one of them."""
    problem: OSError | None = None
    for file, content in contents:
        try:
            file.write_bytes(content())
        except OSError as error:
            problem = problem or error
    return problem


@dataclass(frozen=True)
class Outputs:
    """The files to write; `-` is stdout, which then holds nothing else."""

    json: Path | None
    csv: Path | None
    markdown: Path | None
    plot: Path | None

    def check(self, prompts: Path | None) -> None:
        """Raises InputError for what could not be written at the end, and where `prompts` would be written over."""
        check_files(self.json, self.csv, self.markdown, self.plot, prompts=prompts)
        if self.plot is not None:
            check_plot(self.plot)

    def write(self, page: Page) -> None:
        """Shows the page, unless stdout is taken, and writes every file; raises the first OSError after the last file.

        Nothing that was measured may be lost because one file cannot be written.
        """
        contents = list(self._contents(page))
        to_stdout = [content for file, content in contents if str(file) == STDOUT]
        problem = write_files((file, content) for file, content in contents if str(file) != STDOUT)
        for content in to_stdout:
            Screen.detect().write(content().decode())
        if to_stdout:
            notice(page.lines[0])
        else:
            for table in page.tables:
                show_table(table.title, table.columns, table.rows, table.shares)
            show_lines(page.lines)
        if problem is not None:
            raise problem

    def _contents(self, page: Page) -> Iterator[tuple[Path, Callable[[], bytes]]]:
        """Every file that was asked for, with what makes its content."""
        if self.json is not None:
            yield self.json, lambda: page.json().encode()
        if self.csv is not None:
            yield self.csv, lambda: page.csv().encode()
        if self.markdown is not None:
            yield self.markdown, lambda: markdown(page.title, page.lines, page.tables).encode()
        if (plot := self.plot) is not None:
            yield plot, lambda: image(page.figure(), plot, page.title, page.lines, page.tables)
