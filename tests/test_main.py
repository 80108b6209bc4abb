"""The whole program as a process of its own: what it imports, and what it says about its start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import pytest

from helix_cli.phases import LOADING, process_age
from tests.tiny import tiny_checkpoint, tiny_tokenizer

HEAVY = ("transformers", "huggingface_hub", "jinja2", "rich", "sympy", "torch._dynamo", "torch._inductor")
"""What text from a prompt and a checkpoint on disk does not need; rich is for terminals and tables."""
PHASES = ["interpreter", "import", "config", "prompt", "checkpoint", "tokenizer", "device", "weights", "cache"]


@dataclass(frozen=True)
class Run:
    """A finished `helix generate`."""

    events: list[dict[str, Any]]
    lines: list[str]
    """stderr."""
    modules: set[str]
    """Everything that was imported."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A native pair, plain text, JSON events, HELIX_DEBUG=1."""
    directory = tmp_path_factory.mktemp("start")
    models = [tiny_checkpoint(directory / role, seed=seed) for seed, role in enumerate(("target", "draft"))]
    for model in models:
        tiny_tokenizer(model)
    modules = directory / "modules"
    arguments = ["generate", "The quick", "--json", "--max-tokens=3", f"--model={models[0]}", f"--draft={models[1]}"]
    code = (
        "import atexit, pathlib, sys\n"
        f"atexit.register(lambda: pathlib.Path({str(modules)!r}).write_text('\\n'.join(sys.modules)))\n"
        f"sys.argv = ['helix', *{arguments!r}, '--set=cache.blocks=8', '--ignore-eos']\n"
        "from helix_cli.__main__ import main\nmain()"
    )
    done = python(code, HELIX_DEBUG="1")
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    return Run(events, done.stderr.splitlines(), set(modules.read_text().splitlines()))


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The result of a fresh interpreter."""
    environment = {**os.environ, **environment}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False, timeout=300
    )


def test_a_native_pair_needs_nothing_heavy(run: Run) -> None:
    assert "torch" in run.modules and "tokenizers" in run.modules
    assert not run.modules & set(HEAVY)


def test_torch_is_imported_and_nothing_more_of_it(run: Run) -> None:
    alone = set(python("import sys, torch; print(*sys.modules)").stdout.split())
    assert "torch.nn" in alone
    assert {name for name in run.modules - alone if name.split(".")[0] in ("torch", "torchgen", "functorch")} == set()


def test_each_phase_is_told_as_it_ends(run: Run) -> None:
    told = [line.partition(": ")[0] for line in run.lines if line.endswith(" s")]
    assert list(dict.fromkeys(told)) == [*PHASES, "first token"]
    assert told.count("first token") == 1


@pytest.mark.skipif(process_age() is None, reason="this system does not say when a process began")
def test_the_phases_add_up_to_the_first_token(run: Run) -> None:
    startup, stats = run.events[0]["startup"], run.events[-1]["stats"]
    assert list(startup) == [f"{phase}_s" for phase in PHASES]
    assert min(startup.values()) >= 0.0
    assert stats["load_s"] == sum(startup[f"{phase}_s"] for phase in LOADING) > 0.0
    # What is left is the first token's own phase, which holds the request from its submission on.
    first_token = stats["process_to_first_token_s"] - sum(startup.values())
    assert first_token >= stats["ttft_s"] > 0.0
    told = sum(float(line.split()[-2]) for line in run.lines if line.endswith(" s"))
    assert stats["process_to_first_token_s"] == pytest.approx(told, abs=0.001 * len(run.lines))


def test_threads_are_said(run: Run) -> None:
    assert run.events[0]["threads"] == int(os.environ["OMP_NUM_THREADS"])
