"""Run one pair through Helix and through other engines, taking turns, and say how fast each was.

    scripts/setup_peers ../peers
    python -m scripts.compare_peers --target PAIR/target --draft PAIR/draft --converted PAIR/converted \\
        --peer-python ../peers/venv/bin/python --llama-cpp ../peers/llama.cpp --json figures.json --table figures.md

All engines get the same token ids, the same number of threads and of new tokens, and are greedy past every end-of-text
token. Exits with 1 if an arm failed; an engine that was not named is shown as not installed. docs/benchmarks.md says
how each engine is timed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from helix_cli.bench.machine import condition
from helix_cli.errors import HelixError
from helix_cli.machine import GIB, hardware, memory_field
from helix_cli.model.architecture import read_architecture
from helix_cli.tokenizer import Tokenizer
from scripts.peers_arms import ENGINES, Arm, Setup
from scripts.peers_convert import add_arguments, converter
from scripts.peers_process import WorkerPool
from scripts.peers_report import Result, page, record
from scripts.peers_turns import WARM_TOKENS, Questions, long_question, measure_round, read_questions

PROMPTS = Path(__file__).parent / "peers_prompts.jsonl"
SPARE = 64
"""Positions left free behind the longest text, so that no engine is at its limit."""


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--engines", nargs="+", choices=list(ENGINES), default=list(ENGINES))
    for engine, (_, formats) in ENGINES.items():
        parser.add_argument(f"--{engine}-weights", nargs="*", choices=formats, default=list(formats))
    parser.add_argument("--k", type=int, nargs="*", default=[2, 4, 6, 8], help="draft depths of Helix")
    parser.add_argument("--peer-k", type=int, nargs="*", help="draft depths of the others; as Helix's if left out")
    parser.add_argument("--tokens", type=int, default=128, help="new tokens of each text")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--turn", type=int, default=4, help="prompts that an arm runs before the next has its turn")
    parser.add_argument("--prompts", type=Path, default=PROMPTS, help='JSON lines such as {"prompt": "..."}')
    parser.add_argument("--limit", type=int, help="use only so many prompts, for a trial")
    parser.add_argument("--ttft-prompt", type=int, default=512, help="tokens of the long prompt")
    parser.add_argument(
        "--memory-gib", type=float, help="what loaded models may take together; four fifths if left out"
    )
    parser.add_argument("--json", type=Path, help="where everything goes that was measured")
    parser.add_argument("--table", type=Path, help="where the table goes, besides stdout")
    arguments = parser.parse_args(argv)
    arguments.peer_k = arguments.k if arguments.peer_k is None else arguments.peer_k
    depths = [*arguments.k, *arguments.peer_k]
    counts = [*depths, arguments.rounds, arguments.turn, arguments.threads, arguments.limit or 1, arguments.ttft_prompt]
    if min(counts) < 1:
        parser.error("depths, rounds, turns, threads, prompts and tokens are at least 1")
    if max(depths, default=0) + 2 > min(arguments.tokens, WARM_TOKENS):
        parser.error(f"a text must have room for a round: K is at most {WARM_TOKENS - 2}, --tokens at least K + 2")
    return arguments


def arms_of(setup: Setup, arguments: argparse.Namespace) -> Iterator[Arm]:
    """The arms that were asked for; what has to be converted for them is converted now."""
    for engine in arguments.engines:
        build, _ = ENGINES[engine]
        for weights in getattr(arguments, f"{engine}_weights"):
            yield from build(setup, weights)


def prepare(arguments: argparse.Namespace) -> tuple[Questions, list[Result]]:
    """What is asked, and an empty result for each arm. Raises HelixError or RuntimeError."""
    encode = Tokenizer(arguments.target).encode
    prompts = read_questions(encode, arguments.prompts, arguments.limit)
    long = long_question(encode, [prompt.text for prompt in prompts], arguments.ttft_prompt)
    needed = max(len(long.ids) + WARM_TOKENS, *(len(prompt.ids) + arguments.tokens for prompt in prompts))
    context = min(read_architecture(folder).context for folder in (arguments.target, arguments.draft))
    if needed > context:
        raise RuntimeError(f"the longest text takes {needed} positions and the pair has {context}; see --ttft-prompt")
    setup = Setup(converter(arguments), needed + SPARE, tuple(arguments.k), tuple(arguments.peer_k))
    results = [Result(arm, problem=arm.absent) for arm in arms_of(setup, arguments)]
    return Questions(prompts, long, arguments.tokens), results


def description(arguments: argparse.Namespace, questions: Questions) -> dict[str, Any]:
    """Everything that a second run needs to be the same."""
    texts = "\n".join(prompt.text for prompt in questions.prompts)
    return {
        "command": sys.argv[1:],
        "hardware": hardware(),
        "threads": arguments.threads,
        "rounds": arguments.rounds,
        "tokens": arguments.tokens,
        "prompt_tokens": [len(prompt.ids) for prompt in questions.prompts],
        "long_prompt_tokens": len(questions.long.ids),
        "prompts_sha256": hashlib.sha256(texts.encode()).hexdigest(),
        "conditions": [],
    }


def worker_pool(arguments: argparse.Namespace) -> WorkerPool:
    """Room for workers: what was asked for, or most of the memory that is free now."""
    checkpoint = sum(file.stat().st_size for file in arguments.target.glob("*.safetensors"))
    free = memory_field("MemAvailable") or 4 * GIB
    limit = 0.8 * free if arguments.memory_gib is None else arguments.memory_gib * GIB
    # A 16-bit checkpoint read as float32, and some of it twice while it is packed.
    return WorkerPool(limit, guess=3.0 * checkpoint)


def main() -> None:
    """Measures, writes after every round, and prints."""
    arguments = parse_arguments()
    try:
        questions, results = prepare(arguments)
    except (HelixError, RuntimeError) as error:
        sys.exit(f"compare_peers: {error}")
    about = description(arguments, questions)
    pool = worker_pool(arguments)
    # A run that is told to end must not leave its workers computing.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        for at in range(arguments.rounds):
            about["conditions"].append(condition(arguments.threads))
            measure_round(pool, results, questions, at, arguments.turn)
            if arguments.json:
                arguments.json.write_text(json.dumps(about | {"arms": record(results)}, indent=1, allow_nan=False))
            if arguments.table:
                arguments.table.write_text(page(about, results))
    finally:
        pool.close()
    print(page(about, results), end="")
    sys.exit(any(result.failed for result in results))


if __name__ == "__main__":
    main()
