"""What eight-bit weights cost in quality: perplexity and greedy agreement of one model, against float32.

    python -m scripts.measure_int8 [--model DIR] [--text FILE ...]

Without a model it is the embedded target; without texts, the library files that it was not trained on. Both formats
read the same windows of text; agreement is the share of positions with the same likeliest token, and the greedy text is
compared up to its first difference.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor
from torch.nn import functional

from helix_cli.assembly import CALIBRATION, DEMO_PAIR
from helix_cli.backend import open_backend
from helix_cli.cache.paged import PagedKVCache
from helix_cli.cache.table import BlockTable
from helix_cli.core import Row
from helix_cli.model.architecture import read_architecture
from helix_cli.model.decoder import Decoder
from helix_cli.model.int8 import Int8Linear
from helix_cli.model.opening import ModelChoice, ModelOpener
from helix_cli.model.runner import ModelRunner
from helix_cli.storage import Storage
from helix_cli.tokenizer import Tokenizer
from scripts.demo_data import library_files, split_files, stdlib_root

WINDOW = 512
WRITTEN, PROMPT = 64, 64
BLOCK_SIZE = 16


def new_runner(decoder: Decoder) -> tuple[ModelRunner, BlockTable]:
    """A runner over a pool for one window, with a table that owns it."""
    cache = PagedKVCache(decoder.kv_shapes, WINDOW // BLOCK_SIZE, BLOCK_SIZE, decoder.dtype, "cpu", prefix_reuse=False)
    table = BlockTable()
    cache.grow(table, WINDOW)
    return ModelRunner(decoder, cache), table


def window_logits(decoder: Decoder, window: list[int]) -> Tensor:
    """The logits [WINDOW, V] of one window of text."""
    runner, table = new_runner(decoder)
    return runner.forward([Row(table, window, num_logits=len(window))])


def greedy(decoder: Decoder, prompt: list[int]) -> list[int]:
    """The greedy continuation of a prompt."""
    runner, table = new_runner(decoder)
    fed, written = prompt, list[int]()
    while len(written) < WRITTEN:
        logits = runner.forward([Row(table, fed, num_logits=1)])
        table.num_computed += len(fed)
        fed = [int(logits[0].argmax())]
        written += fed
    return written


def compare(plain: Decoder, rounded: Decoder, tokens: list[int], num_windows: int) -> dict[str, float]:
    """Every figure, over the first windows of the text."""
    sums = {"float32": 0.0, "int8": 0.0}
    agreed = total = equal = kept = 0
    for start in range(0, min(len(tokens) - WINDOW, num_windows * WINDOW), WINDOW):
        labels = torch.tensor(tokens[start + 1 : start + WINDOW + 1])
        both = [window_logits(decoder, tokens[start : start + WINDOW]) for decoder in (plain, rounded)]
        for name, logits in zip(sums, both, strict=True):
            sums[name] += float(functional.cross_entropy(logits, labels, reduction="sum"))
        agreed += int((both[0].argmax(-1) == both[1].argmax(-1)).sum())
        total += WINDOW
        texts = [greedy(decoder, tokens[start : start + PROMPT]) for decoder in (plain, rounded)]
        same = next((i for i, pair in enumerate(zip(*texts, strict=True)) if pair[0] != pair[1]), WRITTEN)
        kept += same
        equal += same == WRITTEN
    perplexity = {name: float(torch.tensor(value / total).exp()) for name, value in sums.items()}
    windows = total // WINDOW
    return {
        "tokens": total,
        "perplexity_float32": perplexity["float32"],
        "perplexity_int8": perplexity["int8"],
        "perplexity_ratio": perplexity["int8"] / perplexity["float32"],
        "same_likeliest_token": agreed / total,
        "greedy_tokens_before_a_difference": kept / windows,
        "greedy_texts_equal": equal / windows,
    }


def main() -> None:
    """Read the command line, load the model twice, and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=DEMO_PAIR / "target", help="a checkpoint directory")
    parser.add_argument("--text", type=Path, nargs="+", help="text files to read")
    parser.add_argument("--windows", type=int, default=24, help=f"windows of {WINDOW} tokens to read")
    options = parser.parse_args()
    held_out = split_files(library_files(stdlib_root()))[1].values()
    texts = [path.read_text(encoding="utf-8") for path in options.text] if options.text else list(held_out)
    tokenizer, shape = Tokenizer(options.model), read_architecture(options.model)
    tokens = tokenizer.encode("\n".join(texts))
    with TemporaryDirectory() as kept:
        calibration = tokenizer.encode(CALIBRATION.read_text(encoding="utf-8"))
        opener = ModelOpener(open_backend("cpu"), Storage(Path(kept)), lambda path: calibration)
        plain, rounded = (
            opener.open(options.model, shape, ModelChoice("float32", weights, False))[0]
            for weights in ("float32", "int8")
        )
    wide = sum(not isinstance(one, Int8Linear) for one in rounded.products)
    found = {"matrices": len(rounded.products), "matrices_left_wide": wide}
    print(json.dumps(found | compare(plain, rounded, tokens, options.windows), indent=2))


if __name__ == "__main__":
    main()
