"""Make a target and a draft of a real model's shape, without a download, to measure time with.

    python -m scripts.make_timing_pair OUT --shape tinyllama --accept 0.72 --k 4

Writes OUT/target and OUT/draft as ordinary Hugging Face checkpoints, and OUT/timing_pair.json with what was measured.
The weights are random. The draft is the target's first layers with its norm and head; the target's later layers disturb
the first one's choice of the next token just so much that a greedy text accepts the wanted share of what is drafted.

What the pair is good for: the time that an engine takes for models of this shape, at this rate of acceptance, on any
prompt. What it says nothing about: the quality of a text (it is noise), the acceptance of trained pairs, or what int8
or another number type does to a trained model, whose weights and activations have outliers that these have not.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import sys
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers
from transformers import GenerationConfig

from helix_cli import __version__
from scripts.timing_acceptance import FORMATS, console, correction, draft_texts, estimate, measure
from scripts.timing_tokenizer import write_tokenizer
from scripts.timing_weights import SHAPES, draft_of, new_target, strengthen

CLOSE, TOLERANCE = 0.01, 0.02
"""How far an estimate may be from the wanted acceptance, and how far the measured one."""
STEPS = 8
MOST_REPEATED = 0.2
MEANING = "Random weights: good for measuring time at this acceptance; the text, and any accuracy, mean nothing."


def find_strength(options: argparse.Namespace) -> float:
    """Return how strong the later layers must be for the wanted acceptance, by estimates without rounds."""
    target = build(options, 1.0)
    with console.status("Writing texts to estimate from"):
        texts = draft_texts(draft_of(target, options.draft_layers), options.seed)
    strength = 1.0
    for _ in range(STEPS):
        found = estimate(target, texts, options.k)
        console.print(f"strength {strength:.4g}: acceptance about {found:.3f}")
        if abs(found - options.accept) <= CLOSE:
            break
        factor = correction(options.accept, found, options.k)
        strengthen(target, factor)
        strength *= factor
    return strength


def build(options: argparse.Namespace, strength: float) -> Any:
    """Return the target in float32."""
    with console.status("Building the target"):
        target = new_target(SHAPES[options.shape], options.seed)
        strengthen(target, strength)
    return target


def write(options: argparse.Namespace, strength: float) -> dict[str, int]:
    """Write both checkpoints and return how many parameters each has."""
    target = build(options, strength).to(getattr(torch, options.dtype))
    parameters = {}
    with console.status("Writing the pair"):
        for name, model in (("target", target), ("draft", draft_of(target, options.draft_layers))):
            folder = options.out / name
            shutil.rmtree(folder, ignore_errors=True)
            model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
                bos_token_id=model.config.bos_token_id, eos_token_id=model.config.eos_token_id, do_sample=False
            )
            model.save_pretrained(folder, max_shard_size="500MB")
            write_tokenizer(folder, model.config.vocab_size, model.config.max_position_embeddings)
            for path in folder.iterdir():
                # Weights are written for their owner alone.
                path.chmod(0o644)
            parameters[name] = model.num_parameters()
    return parameters


def write_and_measure(options: argparse.Namespace, strength: float) -> dict[str, Any]:
    """Write the pair and return what there is to say about it."""
    parameters = write(options, strength)
    measured = {name: measure(options.out, name, options.k, options.tokens) for name in options.measure_in}
    facts = {
        "what_it_is": MEANING,
        "shape": options.shape,
        "seed": options.seed,
        "dtype": options.dtype,
        "parameters": parameters,
        "draft_layers": options.draft_layers,
        "k": options.k,
        "strength_of_later_layers": strength,
        "requested_acceptance": options.accept,
        "tokens_a_text": options.tokens,
        "measured": measured,
        "versions": {
            "helix": __version__,
            "Python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "tokenizers": tokenizers.__version__,
        },
    }
    (options.out / "timing_pair.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    for name, found in measured.items():
        console.print(
            f"{name}: acceptance {found['acceptance']:.3f} at K = {options.k} ({found['lowest_of_a_prompt']:.2f} to "
            f"{found['highest_of_a_prompt']:.2f} by prompt), repeated 4-grams {found['repeated_4_grams']:.1%}"
        )
    return facts


def main() -> None:
    """Make the pair, correct it once if it missed, and say what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="where target, draft and timing_pair.json go")
    parser.add_argument("--shape", choices=SHAPES, default="tinyllama")
    parser.add_argument("--accept", type=float, default=0.72, help="wanted accepted / drafted tokens")
    parser.add_argument("--k", type=int, default=4, help="tokens drafted at a time")
    parser.add_argument("--draft-layers", type=int, default=1, help="how many of the target's layers the draft has")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dtype", choices=("bfloat16", "float16", "float32"), default="bfloat16")
    parser.add_argument("--tokens", type=int, default=128, help="tokens of each text that is measured")
    parser.add_argument(
        "--measure-in", nargs="+", choices=FORMATS, default=["float32"], help="number formats; the first must agree"
    )
    options = parser.parse_args()
    if not 0 < options.accept < 1 or not 1 <= options.draft_layers < SHAPES[options.shape].num_hidden_layers:
        parser.error("--accept lies between 0 and 1, and a draft has fewer layers than its target")
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    strength = find_strength(options)
    facts = write_and_measure(options, strength)
    found = facts["measured"][options.measure_in[0]]
    if abs(found["acceptance"] - options.accept) > TOLERANCE:
        strength *= correction(options.accept, found["acceptance"], options.k)
        facts = write_and_measure(options, strength)
        found = facts["measured"][options.measure_in[0]]
    missed = abs(found["acceptance"] - options.accept) > TOLERANCE
    loops = found["repeated_4_grams"] > MOST_REPEATED
    if missed or loops:
        console.print("The pair misses " + " and ".join(["the wanted acceptance"] * missed + ["varied text"] * loops))
    sys.exit(missed or loops)


if __name__ == "__main__":
    main()
