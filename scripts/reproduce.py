"""Measures every table of docs/benchmarks.md on this machine, with the commands that stand there, into one file.

    scripts/reproduce --output mine.md
    scripts/reproduce --output mine.md --pair PAIR --peers ../peers

The embedded pair needs nothing. `--pair` is a folder with `target` and `draft`, such as `python -m
scripts.make_timing_pair PAIR` makes; `--peers` is where `scripts/setup_peers` has put the other engines. What needs one
that was not given is skipped with a sentence. Each part is written as soon as it is measured, so Ctrl-C loses nothing
that is finished. A part that fails is shown with its message and makes the exit code 1.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from helix_cli import __version__
from helix_cli.machine import hardware
from helix_cli.ui.console import notice

HELIX: Final = ("-m", "helix_cli")


@dataclass(frozen=True)
class Part:
    """One table or a few: `arguments` of Python, in which PAIR and PEERS stand for what the reader has."""

    name: str
    title: str
    arguments: tuple[str, ...]

    @property
    def needs(self) -> list[str]:
        """Options without which it cannot run."""
        text = " ".join(self.arguments)
        return [option for option, word in (("--pair", "PAIR"), ("--peers", "PEERS")) if word in text]

    def command(self, places: dict[str, str]) -> list[str]:
        """The arguments with the reader's own folders in them."""
        found = list(self.arguments)
        for word, place in places.items():
            found = [one.replace(word, place) for one in found]
        return found


def helix(*arguments: str) -> tuple[str, ...]:
    """A subcommand that writes its tables to stdout."""
    return (*HELIX, *arguments, "--markdown", "-")


def script(name: str, *arguments: str) -> tuple[str, ...]:
    """A measuring script, which prints its table."""
    return ("-m", f"scripts.{name}", *arguments)


PAIR_MODELS: Final = ("--model", "PAIR/target", "--draft", "PAIR/draft", "--weights", "int8")
FOUR_ARMS: Final = ("--arms", "plain,speculative,transformers,transformers-assisted")
PARTS: Final = (
    Part(
        "demo",
        "The embedded pair",
        script("measure_demo", "--rounds", "1", "--tokens", "64", "--k", "2", "3", "4", "6"),
    ),
    Part("bench", "The embedded pair, all figures", helix("bench", *FOUR_ARMS)),
    Part("depths", "Depths of the embedded pair", helix("sweep-k", "--drafter", "model,ngram,early_exit")),
    Part("batches", "Batches", helix("bench", "--shapes", "none", "--categories", "none", "--batch", "1,4,16")),
    Part("start", "Start", script("measure_start", "--rounds", "15")),
    Part("kernels", "The kernels that decide", script("measure_kernels")),
    Part("int8", "What eight bits cost", script("measure_int8")),
    Part("pair-memory", "Memory of the pair", script("measure_memory", "PAIR/target")),
    Part("pair", "The pair, all figures", helix("bench", *PAIR_MODELS, *FOUR_ARMS)),
    Part("pair-depths", "Depths of the pair", helix("sweep-k", *PAIR_MODELS, "--drafter", "model,ngram")),
    Part(
        "pair-depth-control",
        "Depth control on the pair",
        script(
            "measure_depth",
            *("--target", "PAIR/target", "--draft", "PAIR/draft", "--set", "model.weights=int8"),
            *("--k", "2", "4", "6", "--prompts", "4", "--tokens", "256"),
        ),
    ),
    Part(
        "pair-batches",
        "Batches of the pair",
        helix("bench", *PAIR_MODELS, *FOUR_ARMS, "--shapes", "none", "--categories", "none", "--batch", "1,4,16"),
    ),
    Part(
        "exact",
        "What exact mode costs",
        script(
            "measure_exact",
            "PAIR/target",
            "--weights",
            "int8",
            "float32",
            "--passes",
            "12",
            "--threads",
            "1",
            "--cpu-time",
        ),
    ),
    Part(
        "peers",
        "Against other engines",
        script(
            "compare_peers",
            *("--target", "PAIR/target", "--draft", "PAIR/draft", "--converted", "PAIR/converted"),
            *("--peer-python", "PEERS/venv/bin/python", "--llama-cpp", "PEERS/llama.cpp"),
        ),
    ),
)

Run = Callable[[Sequence[str]], tuple[int, str]]
"""Arguments of Python -> (exit code, what it wrote to stdout)."""


def run_python(arguments: Sequence[str]) -> tuple[int, str]:
    """Runs Python in the project's root; its stderr, with progress and errors, is this program's."""
    done = subprocess.run(
        [sys.executable, *arguments], cwd=Path(__file__).parent.parent, text=True, stdout=subprocess.PIPE, check=False
    )
    return done.returncode, done.stdout


def reproduce(parts: Sequence[Part], places: dict[str, str], output: Path, run: Run) -> list[str]:
    """Measures the parts in order and writes each to `output` as it comes; returns the names of those that failed."""
    failed = []
    with output.open("w", encoding="utf-8") as file:
        file.write(heading())
        for place, part in enumerate(parts, 1):
            notice(f"{place} of {len(parts)}: {part.title}")
            missing = [option for option in part.needs if option.removeprefix("--").upper() not in places]
            if missing:
                file.write(section(part, None, f"Skipped: this needs {' and '.join(missing)}."))
                continue
            command = part.command(places)
            code, text = run(command)
            if code:
                failed.append(part.name)
                text = f"Failed with exit code {code}; it said why on stderr.\n\n{text}"
            file.write(section(part, command, text))
            file.flush()
    return failed


def heading() -> str:
    """When and where."""
    shown = {name: ", ".join(one) if isinstance(one, list) else one for name, one in hardware().items()}
    facts = "".join(f"| {name} | {value} |\n" for name, value in shown.items())
    return (
        f"# Helix {__version__}, measured {datetime.now(UTC).isoformat(timespec='seconds')}\n\n"
        f"| machine | |\n|---|---|\n{facts}"
    )


def section(part: Part, command: Sequence[str] | None, text: str) -> str:
    """A part with its command; deeper headings of its own stay below its title."""
    typed = "" if command is None else f"`{shlex.join(['python', *command])}`\n\n"
    body = "\n".join(f"#{line}" if line.startswith("##") else line for line in text.strip().splitlines())
    return f"\n## {part.title}\n\n{typed}{body}\n"


def main() -> None:
    """Measure, write, and exit with 1 if a part failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="the Markdown file to write")
    parser.add_argument("--pair", type=Path, help="a folder with target and draft, which every engine can read")
    parser.add_argument("--peers", type=Path, help="where scripts/setup_peers has put the other engines")
    names = [part.name for part in PARTS]
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="measure only these parts")
    options = parser.parse_args()
    places = {name: str(place.resolve()) for name in ("pair", "peers") if (place := getattr(options, name))}
    places = {name.upper(): place for name, place in places.items()}
    chosen = [part for part in PARTS if part.name in options.only]
    if options.output.is_dir() or not options.output.absolute().parent.is_dir():
        parser.error(f"{options.output} cannot be written: name a file in a folder that exists")
    try:
        failed = reproduce(chosen, places, options.output, run_python)
    except KeyboardInterrupt:
        notice(f"Interrupted; {options.output} has what was finished.")
        sys.exit(130)
    notice(f"{options.output} is complete." if not failed else f"Failed: {', '.join(failed)}.")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
