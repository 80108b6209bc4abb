"""`helix validate` takes pairs with two tokenizers, and says how they talk to each other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helix_cli.checks import CHECKS
from helix_cli.checks.check import Result
from helix_cli.checks.runner import run_one
from helix_cli.checks.subject import Subject
from helix_cli.config import load_config
from helix_cli.tokenizer import Tokenizer
from tests.checks.test_checks import SMALL, in_process
from tests.pairs import TARGET_WORDS, target_tokenizer
from tests.test_session import settings
from tests.tiny import tiny_checkpoint, tiny_tokenizer
from tests.tokenizer.samples import sentence_piece

ABOUT_DRAFTS = [
    "files.draft",
    "files.context",
    "greedy.model.greedy",
    "greedy.auto.token",
    "greedy.depths",
    "greedy.penalty",
    "sampled.real.token",
    "sampled.real.block",
    "sampled.vocabulary",
    "sampled.law.model.block",
    "sampled.coupled.model",
    "behaviour.broken_draft",
    "behaviour.full_draft_pool",
]
"""Checks that run the draft model, or read its laws."""


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """A pair whose tokenizers are of different kinds."""
    folder = tmp_path_factory.mktemp("pair")
    pair = (
        tiny_tokenizer(tiny_checkpoint(folder / "target")),
        sentence_piece(tiny_checkpoint(folder / "draft", num_hidden_layers=1, vocab_size=500)),
    )
    drafting = ("draft.kind=model", f"draft.path={pair[1]}", "draft.weights=float32", "cache.blocks=128")
    return Subject(load_config(None, settings(pair, *drafting)), SMALL, 0, in_process)


def test_the_check_names_the_way_and_the_overlap(subject: Subject) -> None:
    record = run_one(CHECKS["files.vocabulary"], subject)
    assert record.result is Result.PASS and record.reason.startswith("auto: shared, ")
    assert record.evidence["way"] == "auto" and record.evidence["shared"] > 256


@pytest.mark.parametrize("id", ABOUT_DRAFTS)
def test_what_is_proved_of_drafts_holds(id: str, subject: Subject) -> None:
    record = run_one(CHECKS[id], subject)
    assert record.result is Result.PASS, record.reason


def test_a_draft_that_shares_too_little_fails_with_the_numbers(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("helix_cli.vocabulary_choice.LEAST_COVERAGE", 0.5)
    draft = target_tokenizer(tiny_checkpoint(tmp_path, num_hidden_layers=1), TARGET_WORDS)
    other = Subject(subject.config, SMALL, 0, in_process)
    other.draft_path = draft
    record = run_one(CHECKS["files.vocabulary"], other)
    assert record.result is Result.FAIL and "drafting needs 50 %" in record.reason


def test_what_a_tokenizer_drops_in_transformers_too_is_no_fault(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tiny_tokenizer(tmp_path) / "tokenizer.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"normalizer": {"type": "Lowercase"}}))
    other = Subject(subject.config, SMALL, 0, in_process)
    other.session, other.target_path, other.tokenizer = subject.session, tmp_path, Tokenizer(tmp_path)
    record = run_one(CHECKS["files.tokenizer"], other)
    assert record.result is Result.PASS and record.evidence["changed"] > 0, record.reason
    whole = Tokenizer.decode
    monkeypatch.setattr(Tokenizer, "decode", lambda self, ids, *rest: whole(self, ids, *rest) + "x")
    assert run_one(CHECKS["files.tokenizer"], other).result is Result.FAIL
