"""Every check passes on a sound pair, and fails when the thing that it guards is broken."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from helix_cli.app import app
from helix_cli.backend import host
from helix_cli.cache.paged import PagedKVCache
from helix_cli.cache.pool import BlockPool
from helix_cli.cache.table import BlockTable
from helix_cli.checks import CHECKS, GROUPS, counting, environment, server
from helix_cli.checks.check import Result
from helix_cli.checks.effort import EFFORTS, Effort
from helix_cli.checks.mutants import MUTANTS
from helix_cli.checks.numerics import Difference
from helix_cli.checks.runner import run_one
from helix_cli.checks.subject import TOLERANCES, Completed, K, Subject
from helix_cli.commands.settings import Choices
from helix_cli.config import Config, load_config
from helix_cli.core import FinishReason, Row, Verdict
from helix_cli.draft import DRAFTERS
from helix_cli.draft.model import ModelDrafter
from helix_cli.engine.engine import Engine
from helix_cli.engine.request_queue import RequestQueue
from helix_cli.engine.scheduler import Scheduler
from helix_cli.model.runner import ModelRunner
from helix_cli.prompt import Prompt
from helix_cli.sampling import Noise, first_argmax
from helix_cli.session import Session
from helix_cli.text import TextStream
from helix_cli.tokenizer import Tokenizer
from helix_cli.verify import RULES
from helix_cli.verify.greedy import GreedyRule
from tests.test_session import save_pair, settings

SMALL = Effort("test", 2, 10, 250, ("model", "ngram"), 2, (1, 2, 3, 5, 8), (0, 3), 180, True)


def in_process(arguments: Sequence[str], stdin: bytes) -> Completed:
    """`helix` in this process, where it can be broken."""
    done = CliRunner().invoke(app, list(arguments), input=stdin, prog_name="helix")
    return Completed(done.exit_code, done.stdout_bytes, done.stderr)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    pair = save_pair(tmp_path_factory.mktemp("pair"))
    return load_config(
        None, settings(pair, "draft.kind=model", f"draft.path={pair[1]}", "draft.weights=float32", "cache.blocks=128")
    )


@pytest.fixture(scope="module")
def sound(config: Config) -> Subject:
    """What is shared by the tests that break nothing."""
    return Subject(config, SMALL, 0, in_process)


@pytest.fixture
def subject(config: Config, sound: Subject) -> Subject:
    """A fresh one over the same loaded models."""
    fresh = Subject(config, SMALL, 0, in_process)
    fresh.session = sound.session
    return fresh


# Groups of the checks that say nothing about a tiny pair: nothing is rounded, nothing is exact, there is no server.
SILENT = {"numerics.quantised", "numerics.exact", "server.present"}


@pytest.mark.parametrize("id", CHECKS)
def test_a_sound_pair_passes(id: str, sound: Subject) -> None:
    record = run_one(CHECKS[id], sound)
    assert record.result is (Result.SKIPPED if id in SILENT else Result.PASS), record.reason
    assert record.reason and json.dumps(record.evidence, allow_nan=False)


def test_noise_knows_of_every_way_to_cut_a_text_and_excuses_no_fault(subject: Subject) -> None:
    def measured(blocks: float, chunks: float) -> float:
        made = {"blocks": Difference(blocks, 2.0, 9, ()), "chunks": Difference(chunks, 2.0, 9, ())}
        subject.memory.clear()
        subject.memory.update(made)
        return subject.noise()

    assert measured(1e-5, 1e-4) == 1e-4 and measured(1e-4, 1e-5) == 1e-4
    assert measured(0.0, float("inf")) == 2.0 * TOLERANCES["float32"]


@pytest.mark.parametrize("id", ["greedy.depths", "greedy.penalty", "greedy.model.greedy"])
def test_texts_without_a_draft_prove_nothing(id: str, subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ModelDrafter, "propose", lambda self, wanted: {})
    record = run_one(CHECKS[id], subject)
    assert record.result is Result.SKIPPED and record.reason == "Drafter model found nothing to propose."


@dataclass
class Breaking:
    """What a break may change: the program, the subject, and files in a folder."""

    patch: pytest.MonkeyPatch
    subject: Subject
    folder: Path

    def copy(self, path: Path | None) -> Path:
        """A checkpoint that can be damaged."""
        assert path is not None
        return Path(shutil.copytree(path, self.folder / "copy"))

    def bend(self, when: Callable[[Sequence[Row]], bool]) -> None:
        """Turns the logits of some passes upside down."""
        forward = ModelRunner.forward

        def bent(runner: ModelRunner, rows: Sequence[Row]) -> torch.Tensor:
            logits = forward(runner, rows)
            return -logits if when(rows) else logits

        self.patch.setattr(ModelRunner, "forward", bent)

    def judge(self, rule: str, verdict: Callable[[Any, Any, Verdict], Verdict]) -> None:
        """Changes what a rule says of every draft that is not empty: `verdict(scores, draft, what it says)`."""
        kind: Any = type(RULES[rule])
        judge = kind.judge

        def changed(self: Any, scores: Any, draft: Any, noise: Any, position: int) -> Verdict:
            said = judge(self, scores, draft, noise, position)
            return verdict(scores, draft, said) if draft.length else said

        self.patch.setattr(kind, "judge", changed)

    def disturb(self, amount: float) -> None:
        """Loads something else than the checkpoint."""
        target: Any = self.subject.target
        self.subject.target = replace(target, embedding=target.embedding + amount)


Break = Callable[[Breaking], None]


def next_word(scores: Any, draft: Any, said: Verdict) -> Verdict:
    """The token after the right one."""
    return Verdict(said.num_accepted, (said.next_token + 1) % scores.shape[-1])


def accept_all(scores: Any, draft: Any, said: Verdict) -> Verdict:
    """Whatever was drafted."""
    return Verdict(draft.length, int(first_argmax(scores)[-1]))


def accept_none(scores: Any, draft: Any, said: Verdict) -> Verdict:
    """Nothing that was drafted."""
    return Verdict(0, int(first_argmax(scores)[0]))


def set_attribute(name: str, value: Any) -> Break:
    """Puts something else in the place of a function or constant."""
    return lambda breaking: breaking.patch.setattr(name, value)


def loads_anything(b: Breaking) -> None:
    b.patch.setattr("helix_cli.commands.generate.run_one", lambda *_: False)
    b.patch.setattr("helix_cli.commands.generate.run_batch", lambda *_, **__: False)


def also(*breaks: Break) -> Break:
    """Several at once."""

    def all_of(b: Breaking) -> None:
        for one in breaks:
            one(b)

    return all_of


any_settings: Break = also(loads_anything, lambda b: b.patch.setattr(Choices, "load", lambda *_: Config()))


def damaged(b: Breaking, path: Path | None, change: Callable[[dict[str, torch.Tensor]], None]) -> Path:
    """A checkpoint with changed tensors."""
    folder = b.copy(path)
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")
    return folder


def not_finite_target(b: Breaking) -> None:
    b.subject.target_path = damaged(
        b, b.subject.target_path, lambda tensors: tensors.update({"model.norm.weight": torch.full((64,), torch.nan)})
    )


def incomplete_draft(b: Breaking) -> None:
    def shorten(tensors: dict[str, torch.Tensor]) -> None:
        del tensors["model.norm.weight"]

    b.subject.draft_path = damaged(b, b.subject.draft_path, shorten)


def other_tokenizer(b: Breaking) -> None:
    folder = b.copy(b.subject.draft_path)
    file = folder / "tokenizer.json"
    content = json.loads(file.read_text())
    words = content["model"]["vocab"]
    first, second = list(words)[10:12]
    words[first], words[second] = words[second], words[first]
    file.write_text(json.dumps(content))
    b.subject.draft_path = folder


def little_memory(b: Breaking) -> None:
    b.subject.backend = replace(b.subject.backend, free_memory=lambda: 1000)


def unknown_end(b: Breaking) -> None:
    b.subject.eos_ids = frozenset({10**6})


def long_prompt(b: Breaking) -> None:
    b.subject.own_prompts = ("words and words " * 200,)


def nan_logits(b: Breaking) -> None:
    b.disturb(torch.nan)


def not_exact(b: Breaking) -> None:
    b.subject.exact = True
    b.bend(lambda rows: rows[0].length == K + 1)


def wrong_prefix(b: Breaking) -> None:
    match = PagedKVCache.match_prefix

    def one_block_twice(cache: PagedKVCache, tokens: Sequence[int]) -> BlockTable:
        table = match(cache, tokens)
        return BlockTable([*table.blocks[1:2], *table.blocks[1:]], table.hashes, table.num_computed)

    b.patch.setattr(PagedKVCache, "match_prefix", one_block_twice)


def coarse_weights(b: Breaking) -> None:
    b.subject.formats = {"target": "int8"}
    b.disturb(3.0)


def wrong_rule(rule: str) -> Break:
    """The token after the right one follows every draft."""
    return lambda b: b.judge(rule, next_word)


def never_likeliest(b: Breaking) -> None:
    judge = GreedyRule.judge

    def changed(self: GreedyRule, scores: Any, draft: Any, noise: Any, position: int) -> Verdict:
        return next_word(scores, draft, judge(self, scores, draft, noise, position))

    b.patch.setattr(GreedyRule, "judge", changed)


def one_law(drafter: str, rule: str) -> Break:
    """Every draft is accepted; only one drafter and one rule are counted."""

    def accept(b: Breaking) -> None:
        b.subject.effort = replace(SMALL, counted_drafters=(drafter,))
        b.patch.setattr(counting, "RANDOM_RULES", (rule,))
        b.judge(rule, accept_all)

    return accept


def sound_mutant(name: str) -> Break:
    """A test that finds nothing would not notice either."""

    def replaced(b: Breaking) -> None:
        b.patch.setitem(MUTANTS, name, RULES["token"])

    return replaced


def no_stop(sequence: Any, token: int, eos_ids: frozenset[int], limit: int) -> FinishReason | None:
    """Only the limit ends a text."""
    return FinishReason.LENGTH if len(sequence.tokens) >= limit else None


def length_first(sequence: Any, token: int, eos_ids: frozenset[int], limit: int) -> FinishReason | None:
    """The limit beats an EOS."""
    return (
        FinishReason.STOP
        if token in eos_ids and len(sequence.tokens) < limit
        else no_stop(sequence, token, eos_ids, limit)
    )


def further(b: Breaking) -> None:
    limit = Scheduler.limit
    b.patch.setattr(Scheduler, "limit", lambda self, one: limit(self, one) + 1)


def without_context(b: Breaking) -> None:
    b.patch.setattr(Scheduler, "limit", lambda self, one: one.prompt_len + one.params.max_tokens)


def lost_block(b: Breaking) -> None:
    release = BlockPool.release
    b.patch.setattr(BlockPool, "release", lambda pool, ids: release(pool, ids[:-1]))


def forgetful(b: Breaking) -> None:
    preempt = Scheduler._preempt

    def changed(self: Scheduler, sequence: Any) -> Any:
        sequence.tokens[-1] = (sequence.tokens[-1] + 1) % 16
        return preempt(self, sequence)

    b.patch.setattr(Scheduler, "_preempt", changed)


def hash_of_place(previous: bytes, tokens: Sequence[int]) -> bytes:
    """A name that does not depend on the tokens."""
    return hashlib.blake2b(previous, digest_size=16).digest()


def stale_slot(b: Breaking) -> None:
    commit = Scheduler._commit_row

    def spoiled(self: Scheduler, sequence: Any, row: Row, verdict: Verdict) -> Any:
        committed = commit(self, sequence, row, verdict)
        if row.draft is not None:
            slot = row.table.slot(row.table.num_computed - 1, self.cache.block_size)
            self.cache.layers[-1][:, :, slot] += 5.0
        return committed

    b.patch.setattr(Scheduler, "_commit_row", spoiled)


def no_ranks(b: Breaking) -> None:
    push = RequestQueue.push

    def equal(queue: RequestQueue, sequence: Any) -> None:
        sequence.priority = 0
        push(queue, sequence)

    b.patch.setattr(RequestQueue, "push", equal)


BREAKS: dict[str, Break] = {
    "environment.python": set_attribute("helix_cli.packages.platform.python_version", lambda: "3.8.1"),
    "environment.packages": set_attribute("helix_cli.packages.metadata.version", lambda name: "0.0.1"),
    "environment.assertions": set_attribute("helix_cli.checks.environment._claim", lambda statement: None),
    "environment.device": set_attribute("torch.mm", lambda left, right: left @ right + 1),
    "environment.products": lambda b: b.patch.setattr(
        environment, "float_product", lambda weight, *_: lambda rows: (rows.float() @ weight.float().t()) * 1.2
    ),
    "environment.memory": little_memory,
    "environment.threads": lambda b: b.patch.setattr(host, "usable_cores", lambda: 0),
    "environment.noise": set_attribute("helix_cli.sampling._splitmix", lambda key, index: index),
    "environment.storage": set_attribute("helix_cli.checks.environment.read_record", lambda *_: None),
    "files.config": lambda b: b.patch.setattr(Config, "effective", lambda self: {}),
    "files.target": not_finite_target,
    "files.draft": incomplete_draft,
    "files.loaded": lambda b: b.disturb(0.1),
    "files.tokenizer": lambda b: b.patch.setattr(Tokenizer, "decode", lambda *_, **__: "x"),
    "files.streaming": lambda b: b.patch.setattr(TextStream, "finish", lambda self: "more"),
    "files.vocabulary": also(
        other_tokenizer,
        set_attribute(
            "helix_cli.tokenizer.pairing._by_spelling", lambda target, draft: {id: id for id in range(3, 300)}
        ),
    ),
    "files.context": long_prompt,
    "files.template": lambda b: b.patch.setattr(Tokenizer, "render_chat", lambda *_: ""),
    "files.ends": unknown_end,
    "input.empty": also(
        loads_anything, set_attribute("helix_cli.commands.generate.read_prompt", lambda *_: Prompt(0, text="x"))
    ),
    "input.too_long": loads_anything,
    "input.not_text": also(loads_anything, set_attribute("helix_cli.commands.prompts.decoded", lambda *_: "x")),
    "input.bad_line": loads_anything,
    "input.bad_key": loads_anything,
    "input.results_there": loads_anything,
    "input.no_model": loads_anything,
    "input.pickled": loads_anything,
    "input.not_finite": loads_anything,
    "input.unknown_setting": any_settings,
    "input.out_of_range": any_settings,
    "input.contradiction": any_settings,
    "input.without_effect": also(
        loads_anything, set_attribute("helix_cli.commands.generate.check_together", lambda given: None)
    ),
    "numerics.reference": lambda b: b.disturb(0.1),
    "numerics.finite": nan_logits,
    "numerics.blocks": lambda b: b.bend(lambda rows: rows[0].length == K + 1),
    "numerics.exact": not_exact,
    "numerics.chunks": lambda b: b.bend(lambda rows: rows[0].length == 7),
    "numerics.batch": lambda b: b.bend(lambda rows: len(rows) > 1),
    "numerics.prefix": wrong_prefix,
    "numerics.quantised": coarse_weights,
    "greedy.plain": never_likeliest,
    **{f"greedy.{drafter}.{rule}": wrong_rule(rule) for drafter in DRAFTERS if drafter != "none" for rule in RULES},
    "greedy.depths": lambda b: b.judge("greedy", next_word),
    "greedy.penalty": lambda b: b.judge("greedy", next_word),
    "sampled.enumeration.token": set_attribute("helix_cli.verify.token.replacement", lambda p, draft, index: p[index]),
    "sampled.enumeration.block": set_attribute("helix_cli.verify.block.keep", lambda survival, mass: 1.0),
    "sampled.real.token": set_attribute("helix_cli.verify.token.replacement", lambda p, draft, index: p[index]),
    "sampled.real.block": set_attribute("helix_cli.verify.block.keep", lambda survival, mass: 1.0),
    "sampled.vocabulary": set_attribute("helix_cli.verify.token.replacement", lambda p, draft, index: p[index]),
    **{id: one_law(*id.split(".")[2:]) for id in CHECKS if id.startswith("sampled.law.")},
    **{id: (lambda b: b.judge("coupled", next_word)) for id in CHECKS if id.startswith("sampled.coupled.")},
    "sampled.rounds": lambda b: b.judge("block", accept_all),
    **{f"sampled.mutant.{name}": sound_mutant(name) for name in MUTANTS},
    "stops.eos": set_attribute("helix_cli.engine.stopping._finish_reason", no_stop),
    "stops.stop_string": set_attribute("helix_cli.engine.stopping._finish_reason", no_stop),
    "stops.max_tokens": further,
    "stops.context": without_context,
    "stops.precedence": set_attribute("helix_cli.engine.stopping._finish_reason", length_first),
    "stops.clamp": further,
    "cache.workload": lost_block,
    "cache.leak": lambda b: b.patch.setattr(ModelDrafter, "forget", lambda *_: None),
    "cache.shuffled": lambda b: b.bend(lambda rows: not rows[0].table.contiguous),
    "cache.preemption": forgetful,
    "cache.sharing": set_attribute("helix_cli.cache.table.chain_hash", hash_of_place),
    "cache.rollback": stale_slot,
    "behaviour.oracle": lambda b: b.judge("greedy", accept_none),
    "behaviour.wrong": lambda b: b.judge("greedy", accept_all),
    "behaviour.seed": lambda b: b.patch.setattr(Noise, "uniform", lambda *_: random.random()),
    "behaviour.neighbours": lambda b: b.bend(lambda rows: len(rows) > 1),
    "behaviour.interruption": lambda b: b.patch.setattr(Session, "interrupt", lambda self: None),
    "behaviour.resume": set_attribute("helix_cli.commands.batch.unanswered", lambda prompts, *_: list(prompts)),
    "behaviour.broken_draft": set_attribute("helix_cli.draft.model.is_finite", lambda logits: True),
    "behaviour.full_draft_pool": lambda b: b.patch.setattr(PagedKVCache, "can_grow", lambda *_: True),
    "behaviour.abort": lambda b: b.patch.setattr(Engine, "abort", lambda *_: None),
    "behaviour.priority": no_ranks,
    "server.present": lambda b: b.patch.setattr(server, "find_spec", lambda name: object()),
}
"""How to break what each check guards. A check that is not here fails the suite."""


@pytest.mark.parametrize("id", CHECKS)
def test_it_fails_when_what_it_guards_is_broken(
    id: str, subject: Subject, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert id in BREAKS, f"{id} has no test that breaks what it guards"
    BREAKS[id](Breaking(monkeypatch, subject, tmp_path))
    record = run_one(CHECKS[id], subject)
    assert record.result is Result.FAIL, f"{record.result}: {record.reason}"


def test_ids_are_stable_and_sorted_by_group() -> None:
    assert len(CHECKS) >= 47
    assert all(id == check.id and id.startswith(f"{check.group}.") for id, check in CHECKS.items())
    wanted = ["environment", "files", "input", "numerics", "greedy", "sampled", "stops", "cache", "behaviour", "server"]
    assert list(GROUPS) == wanted
    assert [check.group for check in CHECKS.values()] == sorted(
        (check.group for check in CHECKS.values()), key=wanted.index
    )
    assert set(BREAKS) == set(CHECKS)


def test_every_effort_does_more_than_the_one_before() -> None:
    quick, default, full = (EFFORTS[name] for name in ("quick", "default", "full"))
    for less, more in ((quick, default), (default, full)):
        assert less.num_samples < more.num_samples and less.num_tokens < more.num_tokens
        assert set(less.offsets) <= set(more.offsets)
