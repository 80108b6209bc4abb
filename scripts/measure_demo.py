"""Measure the embedded pair: Helix plain and with its draft, and transformers' `generate` on the same checkpoint.

    python -m scripts.measure_demo --rounds 3 --json figures.json

The arms take turns prompt by prompt, so that a machine whose speed drifts favours none. All are greedy, in float32, run
to the same length whatever the model says, and count alike: (n - 1) tokens over the time from the first to the last.
Prints a Markdown table; exits with 1 if a text of Helix with a draft differs from its plain text.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from rich.console import Console
from rich.progress import track

from helix_cli import __version__
from helix_cli.assembly import DEMO_PAIR
from helix_cli.config import load_config
from helix_cli.core import FinishedEvent
from helix_cli.prompt import Prompt
from helix_cli.session import Session, open_session

PROMPTS = (
    "def quicksort(items):\n",
    "class Queue:\n    def __init__(self):\n",
    "import os\nimport sys\n\ndef main():\n",
    'def parse_header(line):\n    """Split a header into its name and value.',
    '    def close(self):\n        """Close the',
    "def read_file(path, encoding='utf-8'):\n",
    "<|user|>What does textwrap.dedent do?<|end|><|assistant|>",
    "<|user|>What does shutil.which do?<|end|><|assistant|>",
    "<|user|>What does os.path.join do?<|end|><|assistant|>",
    "<|user|>What arguments does random.shuffle take?<|end|><|assistant|>",
)


@dataclass
class Arm:
    """One way of generating: `run` gives a text's token ids, its speed in tokens/s and its time to first token."""

    name: str
    run: Callable[[str], tuple[list[int], float, float]]
    speeds: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    texts: dict[str, list[int]] = field(default_factory=dict)


class Clock(transformers.generation.streamers.BaseStreamer):
    """Takes the time of transformers' first and last token."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def put(self, value: Any) -> None:
        """Called with the prompt first, then with each token or run of tokens."""
        self.times.append(time.perf_counter())

    def end(self) -> None:
        """Nothing to do at the end."""


def helix_arm(name: str, overrides: list[str], length: int) -> Arm:
    """Helix with some settings."""
    fixed = ["model.dtype=float32", "sampling.temperature=0", "sampling.repetition_penalty=1"]
    settings = [*fixed, f"sampling.max_tokens={length}", "sampling.ignore_eos=true", "cache.prefix_reuse=false"]
    session = open_session(load_config(None, [*settings, *overrides]))
    return Arm(name, lambda prompt: run_helix(session, prompt))


def run_helix(session: Session, prompt: str) -> tuple[list[int], float, float]:
    """One text through a session."""
    [last] = [event for event in session.stream([Prompt(0, prompt)]) if isinstance(event, FinishedEvent)]
    assert last.stats.tokens_per_second is not None and last.stats.ttft_s is not None
    return list(last.token_ids), last.stats.tokens_per_second, last.stats.ttft_s


def transformers_arm(name: str, length: int, assisted: bool) -> Arm:
    """transformers' own generate; with `assisted` the same draft proposes."""
    load: Any = transformers.AutoModelForCausalLM.from_pretrained
    tokenizer = transformers.AutoTokenizer.from_pretrained(DEMO_PAIR / "target")
    model = load(DEMO_PAIR / "target", dtype=torch.float32).eval()
    extra = {"assistant_model": load(DEMO_PAIR / "draft", dtype=torch.float32).eval()} if assisted else {}

    def run(prompt: str) -> tuple[list[int], float, float]:
        ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
        clock = Clock()
        begun = time.perf_counter()
        with torch.no_grad():
            out = model.generate(
                ids, do_sample=False, repetition_penalty=1.0, min_new_tokens=length, max_new_tokens=length,
                streamer=None if assisted else clock, pad_token_id=0, **extra,
            )  # fmt: skip
        ended = time.perf_counter()
        tokens = out[0, ids.shape[1] :].tolist()
        # Assisted generation takes no streamer: its speed is over the whole call, which includes a short prefill.
        first = clock.times[1] if clock.times else begun
        return tokens, (len(tokens) - 1) / (ended - first), first - begun

    return Arm(name, run)


def measure(arms: list[Arm], rounds: int) -> None:
    """Runs every prompt through every arm, `rounds` times after one warm-up."""
    for arm in arms:
        arm.run(PROMPTS[0])
    console = Console(stderr=True)
    for _ in track(range(rounds), "Measuring", console=console, disable=not console.is_terminal):
        for prompt in PROMPTS:
            for arm in arms:
                tokens, speed, first = arm.run(prompt)
                arm.speeds.append(speed)
                arm.first.append(first)
                arm.texts[prompt] = tokens


def table(arms: list[Arm]) -> str:
    """Median speed, its range, and the median ratio to the first arm, prompt by prompt."""
    lines = ["| | tokens/s, median (range) | against the first row |", "|---|---|---|"]
    for arm in arms:
        ratio = statistics.median(mine / base for mine, base in zip(arm.speeds, arms[0].speeds, strict=True))
        spread = f"{min(arm.speeds):.0f} to {max(arm.speeds):.0f}"
        lines.append(f"| {arm.name} | {statistics.median(arm.speeds):.1f} ({spread}) | {ratio:.2f} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, print, and say whether speculation changed a text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=128, help="tokens of each text")
    parser.add_argument("--k", type=int, nargs="*", default=[4], help="draft depths to measure")
    parser.add_argument("--json", type=Path, help="where the raw figures go")
    arguments = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    plain = helix_arm("Helix, plain", ["draft.kind=none"], arguments.tokens)
    drafted = [
        helix_arm(f"Helix, draft model, K = {k}", [f"draft.k={k}", "draft.dtype=float32"], arguments.tokens)
        for k in arguments.k
    ]
    peers = [
        transformers_arm("transformers generate", arguments.tokens, False),
        transformers_arm("transformers assisted generation", arguments.tokens, True),
    ]
    arms = [plain, *drafted, *peers]
    measure(arms, arguments.rounds)
    versions = f"helix {__version__}, torch {torch.__version__}, transformers {transformers.__version__}"
    print(f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, {versions}, float32, ")
    print(f"{len(PROMPTS)} prompts x {arguments.rounds} rounds x {arguments.tokens} tokens, greedy\n")
    print(table(arms))
    if arguments.json:
        raw = {arm.name: {"tokens_per_second": arm.speeds, "ttft_s": arm.first} for arm in arms}
        arguments.json.write_text(json.dumps(raw, indent=1) + "\n")
    different = [prompt for prompt in PROMPTS for arm in drafted if arm.texts[prompt] != plain.texts[prompt]]
    print(f"\nTexts with a draft that differ from the plain text: {len(different)} of {len(PROMPTS) * len(drafted)}")
    sys.exit(bool(different))


if __name__ == "__main__":
    main()
