"""Measure how soon the first token comes: from the start of a process to its first byte of text.

    python -m scripts.measure_start --rounds 9 [arguments of `helix generate`]

Beside it: what Python alone, `import torch` and `helix --help` take to their first byte. The arms take turns, after one
round that only warms the file cache. Prints a Markdown table, then the median of each phase of Helix's start.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

SAY = "print(1, flush=True)"
PROMPT = ("def quicksort(items):", "--max-tokens=1")
PHASE = re.compile(r"^([a-z ]+): (\d+\.\d+) s$", re.MULTILINE)
"""A line of HELIX_DEBUG."""


@dataclass
class Arm:
    """Arguments of Python, and what each run of them took."""

    arguments: Sequence[str]
    first_byte_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    """Of the whole process, its end included."""
    phases: list[dict[str, float]] = field(default_factory=list)

    def run(self) -> None:
        """One run in a process of its own. Raises CalledProcessError where it fails."""
        before, started = os.times(), time.perf_counter()
        environment = {**os.environ, "HELIX_DEBUG": "1"}
        command = [sys.executable, *self.arguments]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
            assert process.stdout is not None
            process.stdout.read(1)
            first_byte_s = time.perf_counter() - started
            _, stderr = process.communicate()
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command, stderr=stderr)
        after = os.times()
        self.first_byte_s.append(first_byte_s)
        self.cpu_s.append(after.children_user + after.children_system - before.children_user - before.children_system)
        self.phases.append(phases_in(stderr.decode()))


def phases_in(text: str) -> dict[str, float]:
    """Seconds of each phase that HELIX_DEBUG printed, parts of one added up."""
    found: dict[str, float] = {}
    for phase, seconds in PHASE.findall(text):
        found[phase] = found.get(phase, 0.0) + float(seconds)
    return found


def measure(arms: Mapping[str, Arm], rounds: int) -> None:
    """Runs every arm `rounds` times and once before that, in turns."""
    for arm in arms.values():
        Arm(arm.arguments).run()
    for _ in range(rounds):
        for arm in arms.values():
            arm.run()


def table(arms: Mapping[str, Arm], base: str) -> str:
    """A Markdown table: medians and ranges, and the median over rounds of the difference from the arm `base`."""
    lines = [f"| | first byte, s, median (range) | more than {base}, s | CPU, s |", "|---|---|---|---|"]
    for name, arm in arms.items():
        times = arm.first_byte_s
        more = [one - other for one, other in zip(times, arms[base].first_byte_s, strict=True)]
        spread = f"{statistics.median(times):.2f} ({min(times):.2f} to {max(times):.2f})"
        lines.append(f"| {name} | {spread} | {statistics.median(more):+.2f} | {statistics.median(arm.cpu_s):.2f} |")
    return "\n".join(lines)


def phase_line(arm: Arm) -> str:
    """The median of each phase, in the order in which they ended first."""
    return ", ".join(f"{name} {statistics.median(run[name] for run in arm.phases):.3f}" for name in arm.phases[0])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    options, generate = parser.parse_known_args()
    arms = {
        "python": Arm(["-c", SAY]),
        "import torch": Arm(["-c", f"import torch; {SAY}"]),
        "helix --help": Arm(["-m", "helix_cli", "--help"]),
        "helix generate": Arm(["-m", "helix_cli", "generate", *(generate or PROMPT)]),
    }
    measure(arms, options.rounds)
    print(table(arms, "import torch"))
    print(f"\nPhases of helix generate, s: {phase_line(arms['helix generate'])}")


if __name__ == "__main__":
    main()
