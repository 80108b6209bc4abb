"""Group numerics: what the decoder computes, however its tokens are cut into passes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from helix_cli.assembly import CALIBRATION
from helix_cli.cache.table import BlockTable
from helix_cli.checks.check import Check, Outcome, Result, Skip, judged
from helix_cli.checks.subject import BLOCK_SIZE, TOLERANCES, K, Subject
from helix_cli.checks.workbench import Scorer, cache_for, scores
from helix_cli.core import Row
from helix_cli.model.implementation import read_shape
from helix_cli.model.language_model import LanguageModel
from helix_cli.model.opening import ModelChoice, ModelOpener
from helix_cli.model.runner import ModelRunner
from helix_cli.storage import Storage

CHUNK = 7
WORSE_PERPLEXITY, LEAST_AGREEMENT = 1.1, 0.8
"""Limits for eight-bit weights: the perplexity against unquantised ones, and the share of equal likeliest tokens."""
WINDOW = 256


@dataclass(frozen=True)
class Difference:
    """Two ways to compute the same logits: the largest difference, and where the likeliest token is another."""

    largest: float
    deviation: float
    """The standard deviation of the logits."""
    num_positions: int
    margins: tuple[float, ...]
    """How far apart the two tokens are in the first way, for each position where the likeliest one changes."""

    @classmethod
    def between(cls, first: Sequence[Tensor], second: Sequence[Tensor]) -> Difference:
        """Of logits [n, V] of several texts."""
        one, other = (torch.cat(list(texts)).cpu().float() for texts in (first, second))
        tops, others = one.argmax(-1), other.argmax(-1)
        flips = (tops != others).nonzero().flatten()
        margins = one[flips, tops[flips]] - one[flips, others[flips]]
        # A NaN anywhere must not compare as small.
        largest = float((one - other).abs().nan_to_num(nan=float("inf")).max())
        return cls(largest, float(one.std()), len(one), tuple(margins.tolist()))

    def outcome(self, subject: Subject, exact: bool = False) -> Outcome:
        """Fail where rounding does not explain it, a tie where it changes the likeliest token, and pass."""
        limit = 0.0 if exact else TOLERANCES[subject.number_format] * self.deviation
        reason = f"largest difference {self.largest:.2g} (limit {limit:.2g}) over {self.num_positions} positions"
        if self.margins:
            reason += f"; the likeliest token changes {len(self.margins)} times, margins up to {max(self.margins):.2g}"
        evidence = {
            "largest": self.largest if self.largest < float("inf") else None,
            "limit": limit,
            "logits_deviation": self.deviation,
            "positions": self.num_positions,
            "flips": len(self.margins),
            "margins": list(self.margins),
        }
        if not self.largest <= limit:
            return Outcome(Result.FAIL, reason, evidence)
        return Outcome(Result.TIE if self.margins else Result.PASS, reason, evidence)


def _texts(subject: Subject) -> list[tuple[list[int], int]]:
    """Each prompt with its greedy text, and where the text begins."""
    return [([*prompt, *text], len(prompt)) for prompt, text in zip(subject.prompts, subject.plain, strict=True)]


def block_difference(subject: Subject) -> Difference:
    """One-row steps against blocks of K + 1 rows, over the greedy texts; nothing is drafted."""
    pairs = [
        [scores(subject.target, tokens, first, piece) for piece in (1, K + 1)] for tokens, first in _texts(subject)
    ]
    return Difference.between([one for one, _ in pairs], [other for _, other in pairs])


def blocks(subject: Subject) -> Outcome:
    """The no-draft control."""
    difference: Difference = subject.remember("blocks", lambda: block_difference(subject))
    return difference.outcome(subject)


def exact(subject: Subject) -> Outcome:
    """Exact mode: bit for bit."""
    if not subject.exact:
        raise Skip(f"Exact mode is off: {subject.session.info.exact_reason}.")
    return block_difference(subject).outcome(subject, exact=True)


def chunk_difference(subject: Subject) -> Difference:
    """A long text in one pass against small chunks of it."""
    tokens = subject.long_text
    return Difference.between(*([scores(subject.target, tokens, 0, piece)] for piece in (len(tokens), CHUNK)))


def chunks(subject: Subject) -> Outcome:
    """However a prompt is cut."""
    difference: Difference = subject.remember("chunks", lambda: chunk_difference(subject))
    return difference.outcome(subject)


def batch(subject: Subject) -> Outcome:
    """The first token of every prompt: alone, and with all others in one pass."""
    alone = [scores(subject.target, prompt, len(prompt) - 1, 1) for prompt in subject.prompts]
    blocks = [-(-len(prompt) // BLOCK_SIZE) for prompt in subject.prompts]
    cache = cache_for(subject.target, sum(blocks), BLOCK_SIZE, prefix_reuse=False)
    runner, rows = ModelRunner(subject.target, cache), []
    for prompt in subject.prompts:
        table = BlockTable()
        cache.grow(table, len(prompt))
        if len(prompt) > 1:
            runner.forward([Row(table, list(prompt[:-1]), num_logits=0)])
            table.num_computed = len(prompt) - 1
        rows.append(Row(table, [prompt[-1]], num_logits=1))
    return Difference.between(alone, [runner.forward(rows)]).outcome(subject, exact=subject.exact)


def prefix(subject: Subject) -> Outcome:
    """A text whose beginning is found in the pool against the same text computed anew."""
    tokens = subject.long_text
    cache = cache_for(subject.target, 2 * (len(tokens) // BLOCK_SIZE + 2), BLOCK_SIZE)
    runner, table = ModelRunner(subject.target, cache), BlockTable()
    cache.grow(table, len(tokens))
    runner.forward([Row(table, tokens, num_logits=0)])
    cache.advance(table, tokens, len(tokens))
    found = cache.match_prefix(tokens)
    reused = found.num_computed
    if reused == 0:
        return judged(False, f"no block of a text of {len(tokens)} tokens was found again")
    cache.grow(found, len(tokens))
    hit = runner.forward([Row(found, tokens[reused:], num_logits=len(tokens) - reused)])
    # The same rows over K/V that are computed anew.
    miss = scores(subject.target, tokens, reused, len(tokens) - reused)
    outcome = Difference.between([miss], [hit]).outcome(subject, exact=subject.exact)
    return Outcome(outcome.result, f"{reused} tokens found; {outcome.reason}", outcome.evidence | {"reused": reused})


def finite(subject: Subject) -> Outcome:
    """Every logit of a long text."""
    logits = scores(subject.target, subject.long_text, 0, len(subject.long_text))
    wrong = int((~logits.cpu().isfinite()).sum())
    return judged(wrong == 0, f"{wrong} of {logits.numel()} logits are not finite", wrong=wrong)


def reference(subject: Subject) -> Outcome:
    """The model as it runs against transformers' forward pass of the same checkpoint."""
    weights = subject.formats["target"]
    if weights == "int8":
        raise Skip("The weights are rounded to eight bits; numerics.quantised says what that changes.")
    files = sum(file.stat().st_size for file in subject.target_path.glob("*.safetensors"))
    need = files * (subject.target.dtype.itemsize / subject.target.architecture.dtype.itemsize) * 1.3
    free = subject.backend.free_memory()
    if free is not None and need > free:
        raise Skip(f"A second copy needs {need / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are free.")
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging as told

    factory: Any = AutoModelForCausalLM
    logging: Any = told
    logging.disable_progress_bar()
    try:
        model = factory.from_pretrained(subject.target_path, dtype=subject.target.dtype, attn_implementation="eager")
    finally:
        logging.enable_progress_bar()
    pairs = []
    with torch.no_grad():
        for tokens, _ in _texts(subject):
            wanted = model.eval()(torch.tensor([tokens])).logits[0].float()
            pairs.append((wanted, scores(subject.target, tokens, 0, len(tokens)).cpu()))
    difference = Difference.between([one for one, _ in pairs], [other for _, other in pairs])
    return difference.outcome(subject)


def quantised(subject: Subject) -> Outcome:
    """Eight-bit weights against the checkpoint's own: perplexity of a page of text, and equal likeliest tokens."""
    rounded = {"target": subject.target, "draft": subject.draft}
    roles = [role for role, weights in subject.formats.items() if weights == "int8" and rounded[role] is not None]
    if not roles:
        listed = ", ".join(f"{role} {weights}" for role, weights in subject.formats.items())
        raise Skip(f"No model has eight-bit weights ({listed}).")
    evidence, reasons, holds = {}, [], True
    for role in roles:
        path = subject.target_path if role == "target" else subject.draft_path
        assert path is not None
        found = rounded[role]
        assert found is not None
        opener = ModelOpener(subject.backend, Storage(), lambda path: [])
        shape = read_shape(path, subject.config.model.implementation if role == "target" else "auto")
        own, _ = opener.open(path, shape, ModelChoice("auto", "float32", is_draft=role == "draft"))
        figures = _compare(subject, own, found)
        evidence[role] = figures
        ratio, agreement = figures["perplexity_ratio"], figures["agreement"]
        holds = holds and ratio <= WORSE_PERPLEXITY and agreement >= LEAST_AGREEMENT
        reasons.append(f"{role}: perplexity x {ratio:.3f}, the likeliest token is equal at {agreement:.1%}")
    return judged(holds, "; ".join(reasons), **evidence)


def _compare(subject: Subject, own: LanguageModel, rounded: LanguageModel) -> dict[str, float]:
    text = CALIBRATION.read_text(encoding="utf-8")
    tokens = subject.tokenizer.encode(text)[: min(WINDOW, own.architecture.context - 1)]
    labels = torch.tensor(tokens[1:])
    logits = [Scorer(decoder, tokens).feed(len(tokens)).cpu()[:-1] for decoder in (own, rounded)]
    losses = [float(functional.cross_entropy(one, labels)) for one in logits]
    agreement = float((logits[0].argmax(-1) == logits[1].argmax(-1)).float().mean())
    return {
        "positions": float(len(labels)),
        "perplexity": float(torch.tensor(losses[0]).exp()),
        "perplexity_int8": float(torch.tensor(losses[1]).exp()),
        "perplexity_ratio": float(torch.tensor(losses[1] - losses[0]).exp()),
        "agreement": agreement,
    }


CHECKS = (
    Check("numerics.reference", "The decoder computes what transformers computes from this checkpoint.", reference),
    Check("numerics.finite", "Every logit is a finite number.", finite),
    Check("numerics.blocks", "A block of K + 1 rows computes what single steps compute.", blocks),
    Check("numerics.exact", "In exact mode it computes the very same bits.", exact),
    Check("numerics.chunks", "A prompt in chunks is the prompt at once.", chunks),
    Check("numerics.batch", "A row is the same alone and beside others.", batch),
    Check("numerics.prefix", "A beginning found in the cache is as good as one computed anew.", prefix),
    Check("numerics.quantised", "Eight-bit weights stay close to the checkpoint's own.", quantised),
)
