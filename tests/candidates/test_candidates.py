"""What is found on a machine, and what speaks against each as a draft; nothing on the way raises."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from helix_cli.backend import Backend, open_backend
from helix_cli.candidates.candidate import Candidate, Facts, examine, read_facts
from helix_cli.candidates.measure import Speed, config_for, measure, num_runs
from helix_cli.candidates.search import Found, find_checkpoints
from helix_cli.config import Config
from helix_cli.errors import HelixError, InputError
from helix_cli.session import open_session
from tests.tiny import tiny_checkpoint, tiny_tokenizer
from tests.tokenizer.samples import sentence_piece


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models, good and bad ones."""
    root = tmp_path_factory.mktemp("models")
    target = tiny_tokenizer(tiny_checkpoint(root / "target"))
    tiny_tokenizer(tiny_checkpoint(root / "family" / "small", num_hidden_layers=1))
    sentence_piece(tiny_checkpoint(root / "other", num_hidden_layers=1, vocab_size=500))
    tiny_tokenizer(tiny_checkpoint(root / "large", num_hidden_layers=5))
    tiny_checkpoint(root / "speechless", num_hidden_layers=1)
    for name in ("torn", "pointer", "weightless", "garbled", "listed", "nested"):
        shutil.copytree(root / "family" / "small", root / name)
    weights = root / "torn" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    (root / "pointer" / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")
    (root / "weightless" / "model.safetensors").unlink()
    (root / "garbled" / "config.json").write_text("{ not json")
    (root / "listed" / "tokenizer.json").write_text("[]")
    (root / "nested" / "config.json").write_text(json.dumps({"model_type": "mamba"}))
    (root / "empty").mkdir()
    (root / ".hidden").mkdir()
    shutil.copytree(target, root / ".hidden" / "model")
    return root


@pytest.fixture(scope="module")
def backend() -> Backend:
    return open_backend("cpu", 1)


@pytest.fixture(scope="module")
def target(machine: Path, backend: Backend) -> Facts:
    return read_facts(machine / "target", backend)


@pytest.fixture(autouse=True)
def no_hub_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A hub cache of the test's own, empty."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.utils._cache_manager.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def candidates(machine: Path, target: Facts, backend: Backend) -> dict[str, Candidate]:
    """By the name of the folder."""
    found = [examine(one, target, backend) for one in find_checkpoints([machine])]
    return {Path(one.path).name: one for one in found}


REFUSED = {
    "target": "the target itself",
    "large": "no smaller than the target",
    "speechless": "no tokenizer",
    "torn": "truncated or corrupt",
    "pointer": "truncated or corrupt",
    "weightless": "no safetensors",
    "garbled": "config.json",
    "listed": "tokenizer.json is damaged",
    "nested": "Mamba",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_draft_says_why(name: str, machine: Path, target: Facts, backend: Backend) -> None:
    import re

    refusal = candidates(machine, target, backend)[name].refusal
    assert refusal is not None and re.search(REFUSED[name], refusal), refusal


def test_what_can_draft_is_described_from_its_headers(machine: Path, target: Facts, backend: Backend) -> None:
    found = candidates(machine, target, backend)
    assert {name for name, one in found.items() if one.refusal is None} == {"small", "other"}
    assert set(found) == {"small", "other", *REFUSED}
    small, other = found["small"], found["other"]
    assert small.num_bytes == 4 * (small.num_parameters or 0)
    assert small.size_ratio == (small.num_parameters or 0) / target.num_parameters < 1
    # One layer, two heads of 16 for keys and values each, four bytes.
    assert small.kv_bytes_per_token == 2 * 2 * 16 * 4 and small.context == 256
    assert (small.vocabulary, small.num_shared, small.coverage) == ("same", 320, 1.0)
    assert other.vocabulary == "shared" and 0.2 < (other.coverage or 0) <= 1.0 and "of 320 tokens" in other.words
    assert json.dumps([one.to_dict() for one in found.values()], allow_nan=False)


def test_the_same_size_the_same_folder_and_too_little_in_common_are_refused(
    machine: Path, target: Facts, backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(machine / "target", tmp_path / "twin")
    (tmp_path / "link").symlink_to(machine / "target")
    monkeypatch.setattr("helix_cli.vocabulary_choice.LEAST_COVERAGE", 1.01)
    for path, words in (
        (tmp_path / "twin", "no smaller than the target"),
        (tmp_path / "link", "the target itself"),
        (machine / "other", "drafting needs 101 %"),
    ):
        refusal = examine(Found("x", path), target, backend).refusal
        assert refusal is not None and words in refusal


def test_what_nobody_foresaw_is_a_refusal(
    machine: Path, target: Facts, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("helix_cli.candidates.candidate.read_shape", lambda path: 1 // 0)
    refusal = examine(Found("x", machine / "other"), target, backend).refusal
    assert refusal is not None and "ZeroDivisionError" in refusal


def test_a_target_that_cannot_be_loaded_is_an_error(machine: Path, backend: Backend) -> None:
    for name in ("torn", "garbled", "speechless", "empty"):
        with pytest.raises(HelixError) as caught:
            read_facts(machine / name, backend)
        assert caught.value.hint


def test_a_folder_is_found_once_and_not_too_deep(machine: Path, tmp_path: Path) -> None:
    deep = tmp_path / "1" / "2" / "3"
    shutil.copytree(machine / "other", deep / "4")
    shutil.copytree(machine / "other", deep / "x" / "5")
    assert [one.path.name for one in find_checkpoints([tmp_path, tmp_path / "1"])] == ["4", "5"]
    assert [one.path.name for one in find_checkpoints([tmp_path])] == ["4"]
    with pytest.raises(InputError, match="no folder"):
        find_checkpoints([tmp_path / "missing"])


def test_the_hubs_cache_is_searched(machine: Path, no_hub_cache: Path) -> None:
    repository = no_hub_cache / "models--org--name"
    for revision in ("a" * 40, "b" * 40):
        shutil.copytree(machine / "other", repository / "snapshots" / revision)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)
    (no_hub_cache / "models--org--broken").mkdir()
    found = {one.name: one for one in find_checkpoints([])}
    assert found["org/name"].path == repository / "snapshots" / ("a" * 40) and not found["org/name"].problem
    [broken] = [one for name, one in found.items() if name != "org/name"]
    assert broken.problem


def test_measuring_takes_turns_and_counts(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def two_deep(target: str, draft: str | None) -> Config:
        """Depth control may find at once that such a draft does not pay, and then nothing is drafted."""
        config = config_for(target, draft)
        return config.model_copy(update={"draft": config.draft.model_copy(update={"k": 2})})

    monkeypatch.setattr("helix_cli.candidates.measure.config_for", two_deep)
    target = str(machine / "target")
    heard: list[str] = []
    session = open_session(config_for(target, None))
    speed = measure(session, target, str(machine / "other"), heard.append)
    assert len(heard) == num_runs(1) == 8
    assert isinstance(speed, Speed) and speed.way == "text"
    assert speed.tokens_per_second and speed.plain_tokens_per_second and speed.speed_over_plain
    assert speed.acceptance_rate is not None and 0.0 <= speed.acceptance_rate <= 1.0
    session.check()
