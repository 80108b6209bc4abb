"""Measure what exact mode costs: a plain step, a verification and a prompt, with it and without.

    python -m scripts.measure_exact demo --weights float32 int8
    python -m scripts.measure_exact path/to/target --weights int8 --threads 1

The two modes take turns pass by pass, so that a machine whose speed drifts favours neither, and the ratio is that of
their fastest passes. `plain` is one token after some number of computed ones, `verify` five of them, as with K = 4; a
prompt is computed in one piece. With --cpu-time the processor's time counts instead of the clock's, which on a machine
that is busy with other things is the better measure of one thread. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch

from helix_cli.assembly import CALIBRATION, DEMO_PAIR
from helix_cli.backend import Backend, open_backend
from helix_cli.cache.paged import PagedKVCache, num_blocks_for
from helix_cli.cache.table import BlockTable
from helix_cli.core import Row
from helix_cli.drafter_choice import DEMO
from helix_cli.model.architecture import read_architecture
from helix_cli.model.decoder import Decoder
from helix_cli.model.exact import is_exact
from helix_cli.model.opening import ModelChoice, ModelOpener
from helix_cli.model.runner import ModelRunner
from helix_cli.storage import Storage
from helix_cli.tokenizer import Tokenizer

BLOCK_SIZE = 16
PASSES = (("plain", 1), ("verify", 5))


def open_decoder(path: Path, weights: str, backend: Backend) -> Decoder:
    """The target of `path` with one format of weights."""
    opener = ModelOpener(backend, Storage(), lambda _: Tokenizer(path).encode(CALIBRATION.read_text(encoding="utf-8")))
    return opener.open(path, read_architecture(path), ModelChoice("auto", weights, is_draft=False))[0]


def runners(decoder: Decoder, length: int) -> dict[str, ModelRunner]:
    """A runner without and one with exact mode, over one pool with numbers in every slot."""
    num_blocks = num_blocks_for(length, BLOCK_SIZE)
    cache = PagedKVCache(decoder.kv_shapes, num_blocks, BLOCK_SIZE, decoder.dtype, decoder.device)
    for layer in cache.layers:
        layer.normal_()
    return {"off": ModelRunner(decoder, cache), "on": ModelRunner(decoder.tokenwise(1), cache)}


def fastest(
    modes: dict[str, ModelRunner], num_computed: int, rows: int, passes: int, clock: Callable[[], float]
) -> dict[str, float]:
    """Seconds of the fastest of some passes, for each mode."""
    last = next(iter(modes.values())).cache.num_blocks
    best = dict.fromkeys(modes, float("inf"))
    for _ in range(passes):
        for name, runner in modes.items():
            table = BlockTable(list(range(last)), num_computed=num_computed)
            started = clock()
            runner.forward([Row(table, [3] * rows, num_logits=min(rows, 8))])
            best[name] = min(best[name], clock() - started)
    return best


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", help="a directory with a checkpoint, or demo")
    parser.add_argument("--weights", nargs="+", default=["float32"], help="formats of the weights")
    parser.add_argument("--lengths", nargs="+", type=int, default=[64, 500, 2000], help="computed tokens before a pass")
    parser.add_argument("--prompt", type=int, default=500, help="tokens of the prompt; 0 leaves it out")
    parser.add_argument("--passes", type=int, default=15)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--cpu-time", action="store_true")
    given = parser.parse_args()
    clock = time.process_time if given.cpu_time else time.perf_counter
    backend = open_backend("cpu", given.threads)
    path = DEMO_PAIR / "target" if given.model == DEMO else Path(given.model)
    print(f"torch {torch.__version__}, {backend.description}")
    print("\n| weights | pass | exact off, ms | exact on, ms | on / off |\n|---|---|---|---|---|")
    for weights in given.weights:
        decoder = open_decoder(path, weights, backend)
        modes = runners(decoder, max(*given.lengths, given.prompt) + 8)
        cases = [(f"{name} at {n}", n, rows) for n in given.lengths for name, rows in PASSES]
        cases += [(f"prompt of {given.prompt}", 0, given.prompt)] if given.prompt else []
        for name, num_computed, rows in cases:
            found = fastest(modes, num_computed, rows, given.passes, clock)
            off, on = found["off"], found["on"]
            print(f"| {weights} | {name} | {off * 1e3:.2f} | {on * 1e3:.2f} | {on / off:.3f} |", flush=True)
        print(f"| {weights} | bits kept | {is_exact(decoder)} | {is_exact(decoder.tokenwise(1))} | |", flush=True)


if __name__ == "__main__":
    main()
