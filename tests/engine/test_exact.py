"""Exact mode: the logits behind every committed token have the same bits, whatever was drafted and whoever else ran.

All comparisons are of logits, bit for bit, in every number format. The prompts are such that texts cross position 512.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
import torch
from torch import Tensor

from helix_cli.backend import open_backend
from helix_cli.checks.workbench import Workbench
from helix_cli.core import Request, SamplingParams, StepPlan, Verdict
from helix_cli.draft import DRAFTERS
from helix_cli.drafter_choice import WITH_A_MODEL
from helix_cli.model.architecture import read_architecture
from helix_cli.model.decoder import Decoder
from helix_cli.model.exact import LEAST_ROWS, is_exact
from helix_cli.model.formats import why_no_int8
from helix_cli.model.opening import ModelChoice, ModelOpener
from helix_cli.storage import Storage
from tests.harness import build, disturb
from tests.tiny import tiny_checkpoint

FORMATS = {"float32": ("float32", "float32"), "bfloat16": ("bfloat16", "bfloat16"), "int8": ("float32", "int8")}
SHAPES: dict[str, dict[str, Any]] = {
    "small": {"family": "mistral", "sliding_window": 100, "hidden_size": 32, "intermediate_size": 48},
    # Heads as those of real models, so that the products inside attention are too; an odd number shares K/V.
    "wide": {"hidden_size": 192, "intermediate_size": 256, "num_attention_heads": 6, "head_dim": 64},
}
CONTEXT, BLOCKS = 640, 200
LENGTHS = (3, 40, 250, 497)
NEW = 40
CALM: dict[str, Any] = {"context": CONTEXT, "num_blocks": BLOCKS, "block_size": 16, "max_step_tokens": 512}


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@cache
def decoder(shape: str, number_format: str, role: str = "target") -> Decoder:
    """A random model in exact mode, or a draft for it that differs a little and knows nothing of exact mode."""
    path = tiny_checkpoint(
        Path(mkdtemp()), vocab_size=24, num_hidden_layers=2, max_position_embeddings=CONTEXT, **SHAPES[shape]
    )
    backend = open_backend("cpu", threads=1)
    dtype, weights = FORMATS[number_format]
    if weights == "int8" and why_no_int8(backend, torch.float32) is not None:
        pytest.skip("no eight-bit products here")
    opener = ModelOpener(backend, Storage(Path(mkdtemp())), lambda path: list(range(24)))
    loaded, _ = opener.open(path, read_architecture(path), ModelChoice(dtype, weights, is_draft=False))
    if role == "draft":
        loaded = replace(loaded, embedding=loaded.embedding.clone())
        disturb(loaded)
        return loaded
    exact = next((one for least in LEAST_ROWS if is_exact(one := loaded.tokenwise(least))), None)
    if exact is None and (number_format == "bfloat16" or not backend.packed_linear):
        pytest.skip(f"this machine's {number_format} products keep no bits")
    assert exact is not None, "packed and integer products keep theirs on every processor that was tried"
    return exact


def prompt(length: int) -> tuple[int, ...]:
    """Random tokens, of which a shorter prompt is the beginning."""
    tokens: list[int] = torch.randint(3, 24, (CONTEXT,), generator=torch.Generator().manual_seed(7)).tolist()
    return tuple(tokens[:length])


@dataclass
class Run:
    """What a run said, and the logits at every position whose next token was committed: [tokens, V] a request."""

    bench: Workbench
    tokens: list[list[int]]
    logits: list[Tensor]

    def only(self, *places: int) -> Run:
        """Some of the requests."""
        return Run(self.bench, [self.tokens[place] for place in places], [self.logits[place] for place in places])

    def equals(self, other: Run) -> bool:
        """Bit for bit."""
        pairs = zip(self.logits, other.logits, strict=True)
        return self.tokens == other.tokens and all(torch.equal(mine, theirs) for mine, theirs in pairs)


def run(target: Decoder, lengths: tuple[int, ...] = LENGTHS, drafter: str = "none", k: int = 0, **settings: Any) -> Run:
    """Greedy texts, or those of `params`, after prompts of some lengths."""
    params = SamplingParams(**({"max_tokens": NEW, "ignore_eos": True} | settings.pop("params", {})))
    bench = build(drafter, k, **(CALM | settings), target=target)
    seen: dict[tuple[int, int], Tensor] = {}
    judge = bench.engine._judge

    def record(plan: StepPlan, logits: Tensor | None) -> list[Verdict | None]:
        start = 0
        for sequence, row in zip(plan.sequences, plan.rows, strict=True):
            end = row.table.num_computed + row.length
            for place in range(row.num_logits):
                assert logits is not None
                seen[sequence.id, end - row.num_logits + place] = logits[start + place].clone()
            start += row.num_logits
        return judge(plan, logits)

    bench.engine._judge = record  # type: ignore[method-assign]
    outcomes = bench.run([Request(prompt(length), params) for length in lengths])
    logits = [
        torch.stack([seen[one.sequence.id, at] for at in range(length - 1, length - 1 + len(one.tokens))])
        for one, length in zip(outcomes, lengths, strict=True)
    ]
    return Run(bench, [one.tokens for one in outcomes], logits)


@cache
def plain(shape: str, number_format: str) -> Run:
    """The texts that all others must equal, each alone and on one thread."""
    torch.set_num_threads(1)
    alone = [run(decoder(shape, number_format), (length,)) for length in LENGTHS]
    return Run(alone[0].bench, [one.tokens[0] for one in alone], [one.logits[0] for one in alone])


CASES: list[tuple[str, str, tuple[int, ...], int]]
CASES = [("wide", drafter, (1, 4, 15), 1) for drafter in DRAFTERS if drafter != "none"]
CASES += [("small", "model", (2, 3, 5, 6, 7), 1), ("wide", "ngram", (4,), 2)]


@pytest.mark.parametrize(("shape", "drafter", "depths", "threads"), CASES)
@pytest.mark.parametrize("number_format", FORMATS)
def test_no_draft_changes_a_bit(
    shape: str, number_format: str, drafter: str, depths: tuple[int, ...], threads: int
) -> None:
    wanted = plain(shape, number_format)
    torch.set_num_threads(threads)
    draft = decoder(shape, number_format, "draft") if drafter in WITH_A_MODEL else None
    for k in depths:
        found = run(decoder(shape, number_format), drafter=drafter, k=k, draft=draft)
        assert found.equals(wanted), f"K = {k}"
        committed = [one for output in found.bench.outputs for one in output.committed]
        num_accepted = sum(one.num_accepted for one in committed)
        assert 0 < num_accepted < sum(one.num_drafted for one in committed), "drafts must be kept and refused"


@pytest.mark.parametrize("number_format", FORMATS)
@pytest.mark.parametrize("shape", SHAPES)
def test_nothing_else_changes_a_bit(shape: str, number_format: str) -> None:
    wanted, target = plain(shape, number_format), decoder(shape, number_format)
    assert run(target).equals(wanted), "others in the batch"
    assert run(target, max_step_tokens=37).equals(wanted), "small chunks of the prompts"
    # The second is preempted while it decodes, and computes its own text again as a chunk.
    tight = run(target, (LENGTHS[1], LENGTHS[3]), num_blocks=37, drafter="ngram", k=3)
    assert tight.equals(wanted.only(1, 3)), "preemption"
    assert any(output.preempted for output in tight.bench.outputs)


@pytest.mark.parametrize("number_format", FORMATS)
def test_shuffled_tables_change_no_bit(number_format: str) -> None:
    """With blocks of one token, texts that grow together interleave theirs."""
    found = run(decoder("wide", number_format), block_size=1, num_blocks=1000, drafter="ngram", k=4)
    assert found.equals(plain("wide", number_format))


@pytest.mark.parametrize("number_format", FORMATS)
def test_a_prefix_that_is_reused_has_the_bits_of_one_that_is_computed(number_format: str) -> None:
    """The second prompt continues the first text: its tokens were decoded one by one, or several in a draft."""
    target = decoder("wide", number_format)
    bench = build("ngram", 4, **CALM, target=target)
    params = SamplingParams(max_tokens=NEW, ignore_eos=True)
    first = bench.run([Request(prompt(250), params)])[0]
    longer = Request((*prompt(250), *first.tokens, 5, 6), params)
    second = bench.run([longer])[0]
    assert second.sequence.trace.num_reused > 250
    assert build("none", **CALM, target=target).run([longer])[0].tokens == second.tokens
    kept = [
        layer[:, :, cache.match_prefix(longer.prompt).blocks[-1] * 16 :][:, :, :16]
        for cache in (bench.target_cache, _computed(target, longer))
        for layer in cache.layers
    ]
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(kept[:2], kept[2:], strict=True))


def _computed(target: Decoder, request: Request) -> Any:
    """A cache in which a prompt was computed at once."""
    bench = build("none", **CALM, target=target)
    bench.run([request])
    return bench.target_cache


@pytest.mark.parametrize("number_format", FORMATS)
def test_sampled_texts_of_the_coupled_rule_do_not_change_either(number_format: str) -> None:
    sampling: dict[str, Any] = {"params": {"temperature": 0.8, "top_p": 0.9, "repetition_penalty": 1.1, "seed": 3}}
    target = decoder("wide", number_format)
    wanted = run(target, **sampling)
    for drafter in ("ngram", "early_exit"):
        assert run(target, drafter=drafter, k=4, **sampling).equals(wanted)
