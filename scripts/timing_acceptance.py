"""How many drafted tokens are accepted: estimated from agreement, and measured by Helix itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress, track
from torch import Tensor

from helix_cli.config import load_config
from helix_cli.core import FinishedEvent, TextEvent
from helix_cli.prompt import Prompt
from helix_cli.session import open_session
from scripts.demo_report import repeated_share
from scripts.timing_prompts import PROMPTS
from scripts.timing_tokenizer import FIRST_WORD_PIECE

TEXTS, START, LENGTH = 32, 8, 48
"""The texts that an estimate looks at: their number, and the tokens before and after their beginning."""
BATCH = 4
# What is computed in, and how the matrices of both models are stored.
FORMATS = {"float32": ("float32", "float32"), "bfloat16": ("bfloat16", "bfloat16"), "int8": ("float32", "int8")}

console = Console(stderr=True, soft_wrap=True)


def accepted_share(agreements: Iterable[Sequence[bool]], k: int) -> float:
    """Return accepted / drafted when texts are drafted k tokens at a time; drafts that reach past the end are left out.

    `agreements` says for each position of a greedy text of the target whether the draft would have written the same
    there. While it agrees, the draft sees the very text that the target writes, so these flags are the whole story.
    """
    drafted = accepted = 0
    for flags in agreements:
        place = 0
        while place + k <= len(flags):
            run = next((i for i in range(k) if not flags[place + i]), k)
            drafted, accepted, place = drafted + k, accepted + run, place + run + 1
    return accepted / drafted


def agreement_for(accept: float, k: int) -> float:
    """Return how often two models must agree for a rate of accepted / drafted, where agreements are independent."""
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(middle**i for i in range(1, k + 1)) < accept * k else (low, middle)
    return (low + high) / 2


def correction(wanted: float, found: float, k: int) -> float:
    """Return the factor on the disturbance that should turn one rate of acceptance into another.

    Disagreement grows about as the disturbance does; a few such steps settle. No step is larger than four.
    """
    disagreement = max(1 - agreement_for(found, k), 1e-6)
    return min(max((1 - agreement_for(wanted, k)) / disagreement, 0.25), 4.0)


@torch.no_grad()
def draft_texts(draft: Any, seed: int) -> Tensor:
    """Return greedy texts of the draft after random tokens, [TEXTS, START + LENGTH]."""
    generator = torch.Generator().manual_seed(seed)
    starts = torch.randint(FIRST_WORD_PIECE, draft.config.vocab_size, (TEXTS, START), generator=generator)
    written: Tensor = draft.generate(
        starts, attention_mask=torch.ones_like(starts), do_sample=False, min_new_tokens=LENGTH, max_new_tokens=LENGTH
    )
    return written


@torch.no_grad()
def estimate(target: Any, texts: Tensor, k: int) -> float:
    """Return the rate at which the target accepts the draft, from the draft's own greedy texts.

    That text is not the target's, but the weights are random and one text is as good as another.
    """
    agreements: list[list[bool]] = []
    batches = [texts[first : first + BATCH] for first in range(0, len(texts), BATCH)]
    for rows in track(batches, "Estimating acceptance", console=console, disable=not console.is_terminal):
        choices = target(rows[:, :-1]).logits[:, START - 1 :].argmax(-1)
        agreements += (choices == rows[:, START:]).tolist()
    return accepted_share(agreements, k)


def measure(pair: Path, name: str, k: int, tokens: int) -> dict[str, float]:
    """Let Helix write greedy texts with the pair on disk, in one of the FORMATS, and return what it counted."""
    dtype, stored = FORMATS[name]
    settings = [
        *(f"model.path={pair / 'target'}", f"model.dtype={dtype}", f"model.weights={stored}"),
        *(f"draft.path={pair / 'draft'}", f"draft.dtype={dtype}", f"draft.weights={stored}", f"draft.k={k}"),
        *("sampling.temperature=0", f"sampling.max_tokens={tokens}", "sampling.ignore_eos=true"),
        *(f"engine.max_sequences={len(PROMPTS)}", "cache.memory_share=0.2"),
    ]
    with console.status("Loading the pair"):
        session = open_session(load_config(None, settings))
    finished: list[FinishedEvent] = []
    with Progress(console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task(f"Measuring in {name}", total=len(PROMPTS) * tokens)
        for event in session.stream([Prompt(place, text) for place, text in enumerate(PROMPTS)]):
            if isinstance(event, TextEvent):
                progress.advance(bar, len(event.pieces))
            elif isinstance(event, FinishedEvent):
                finished.append(event)
    rates = [event.stats.num_accepted / event.stats.num_drafted for event in finished]
    drafted = sum(event.stats.num_drafted for event in finished)
    return {
        "acceptance": sum(event.stats.num_accepted for event in finished) / drafted,
        "lowest_of_a_prompt": min(rates),
        "highest_of_a_prompt": max(rates),
        "repeated_4_grams": sum(repeated_share(event.token_ids) for event in finished) / len(finished),
    }
