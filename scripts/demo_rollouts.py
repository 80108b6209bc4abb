"""What the target writes by itself, as material: for the draft to learn, and for the target to unlearn its loops."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from scripts import demo_questions as questions
from scripts.demo_data import Material

CODE_PROMPT = 96
WRITTEN = 128
TOGETHER = 32
REPLAYED_TIMES = 6
TEMPERATURE = 0.8
LIKELY = 64


class Written(NamedTuple):
    """Prompts with what a model wrote behind them, and the law that each written token was drawn from."""

    rows: Tensor
    """[B, prompt + T] token ids."""
    prompt: int
    likely: Tensor
    """[B, T, N]: the likeliest tokens at each place, likeliest first."""
    chances: Tensor
    """[B, T, N]: their probabilities at temperature 1."""


class Rollouts:
    """Continuations of training text by a model, written as they are asked for."""

    def __init__(self, model: Any, material: Material, seed: int) -> None:
        self.model, self.material = model, material
        self.chooser = random.Random(seed)
        self.kept: list[Written] = []

    def code_prompts(self, count: int) -> Tensor:
        """Return pieces of training code from random places."""
        tokens = self.material.code_tokens
        starts = [self.chooser.randrange(len(tokens) - CODE_PROMPT) for _ in range(count)]
        return torch.stack([torch.from_numpy(tokens[start : start + CODE_PROMPT]) for start in starts])

    def question_prompts(self, count: int) -> Tensor:
        """Return known questions of one length in tokens, in the chat template."""
        rendered = questions.conversations(self.material.known, self.chooser.randrange(1 << 30))
        first = [text[: text.index("<|assistant|>") + len("<|assistant|>")] for text in rendered]
        by_length: dict[int, list[list[int]]] = {}
        for ids in self.material.tokenizer(first, add_special_tokens=False)["input_ids"]:
            same = by_length.setdefault(len(ids), [])
            same.append(ids)
            if len(same) == count:
                return torch.tensor(same)
        return torch.tensor(max(by_length.values(), key=len))

    @torch.no_grad()
    def write(self, count: int, length: int, greedy: bool, asked: bool = False) -> Written:
        """Continue prompts by a number of tokens."""
        prompts = self.question_prompts(count) if asked else self.code_prompts(count)
        prompts = prompts.to(self.model.device)
        chosen = {"do_sample": False} if greedy else {"do_sample": True, "temperature": TEMPERATURE, "top_k": 0}
        out = self.model.generate(
            prompts,
            attention_mask=torch.ones_like(prompts),
            # A text that has ended goes on, so that all rows stay of one length.
            eos_token_id=None,
            pad_token_id=0,
            max_new_tokens=length,
            output_logits=True,
            return_dict_in_generate=True,
            **chosen,
        )
        best = [step.float().softmax(-1).topk(min(LIKELY, step.shape[-1])) for step in out.logits]
        likely, chances = (torch.stack([getattr(one, part) for one in best], 1) for part in ("indices", "values"))
        return Written(out.sequences, prompts.shape[1], likely.int(), chances)

    def replayed(self, step: int, tokens: int) -> Iterator[Written]:
        """Yield batches of about so many written tokens in all; each text comes up a few times before it is let go."""
        needed = max(1, tokens // (TOGETHER * WRITTEN))
        for _ in range(needed):
            if step % REPLAYED_TIMES == 0 or not self.kept:
                kinds = [(True, False), (False, False), (True, True), (True, False)]
                greedy, asked = kinds[len(self.kept) % len(kinds)]
                self.kept.append(self.write(TOGETHER, WRITTEN // 2 if asked else WRITTEN, greedy, asked))
            yield self.kept[self.chooser.randrange(len(self.kept))]


def repeats(rows: Tensor, size: int = 4) -> Tensor:
    """Mark the tokens [B, T] that end a run of `size` which occurred before in the same row."""
    marked = torch.zeros(rows.shape)
    for row, tokens in enumerate(rows.tolist()):
        seen: set[tuple[int, ...]] = set()
        for end in range(size, len(tokens) + 1):
            run = tuple(tokens[end - size : end])
            marked[row, end - 1] = float(run in seen)
            seen.add(run)
    return marked.to(rows.device)
