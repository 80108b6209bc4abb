"""What is said of a config before anything is loaded, against the session that is then opened."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from helix_cli.config import Config, load_config
from helix_cli.errors import ConfigError, MemoryLimitError, ModelError
from helix_cli.model import weights as weights_module
from helix_cli.outlook import contexts, look_ahead
from helix_cli.session import open_session
from tests.tiny import tiny_checkpoint, tiny_tokenizer

GIB = 2**30


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A target and a draft with one tokenizer."""
    directory = tmp_path_factory.mktemp("pair")
    target = tiny_checkpoint(directory / "target")
    draft = tiny_checkpoint(directory / "draft", seed=1, num_hidden_layers=1, tie_word_embeddings=True)
    for path in (target, draft):
        tiny_tokenizer(path)
    return target, draft


def config_for(pair: tuple[Path, Path], *more: str) -> Config:
    """A config of the pair."""
    base = [f"model.path={pair[0]}", f"draft.path={pair[1]}", "backend.threads=1", "model.weights=float32"]
    return load_config(None, [*base, *more])


def free(monkeypatch: pytest.MonkeyPatch, num_bytes: int) -> None:
    """Makes the processor say that so much memory is free."""
    monkeypatch.setattr("helix_cli.backend.cpu.host.available_memory", lambda: num_bytes)


def test_a_session_has_what_was_foreseen(pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, GIB)
    config = config_for(pair)
    outlook = look_ahead(config)
    target, draft = outlook.plan.models
    session = open_session(config)
    caches = [session.engine.scheduler.cache, session.engine.drafter.cache]  # type: ignore[attr-defined]
    for model, cache in zip((target, draft), caches, strict=True):
        assert cache.block_bytes == 16 * model.kv_bytes_per_token
        assert cache.num_blocks == outlook.plan.num_blocks == 16 * 256 // 16
    assert (session.info.weights, session.info.draft_weights) == (target.weights, draft.weights)
    assert outlook.refusal is None and outlook.longest == 256 and all(case.fits for case in outlook.cases)
    assert [(case.context, case.texts) for case in outlook.cases] == [(256, 1), (256, 4), (256, 16)]
    assert json.loads(json.dumps(outlook.to_dict()))["models"][0]["kv_bytes_per_token"] == target.kv_bytes_per_token


def test_no_weight_is_read(pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*arguments: object) -> torch.Tensor:
        raise AssertionError("a weight was read")

    monkeypatch.setattr(weights_module.Weights, "read", read)
    assert look_ahead(config_for(pair)).refusal is None


def test_the_loader_refuses_with_the_same_words(pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 1_000_000)
    outlook = look_ahead(config_for(pair))
    assert outlook.refusal is not None and outlook.longest == 0 and not any(case.fits for case in outlook.cases)
    with pytest.raises(MemoryLimitError) as caught:
        open_session(config_for(pair))
    assert (caught.value.message, caught.value.hint) == (outlook.refusal.message, outlook.refusal.hint)
    assert outlook.to_dict()["refusal"] == [caught.value.message, caught.value.hint]


def test_a_cache_that_is_too_large_is_refused_before_weights_are_read(
    pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    free(monkeypatch, GIB)
    config = config_for(pair, "cache.blocks=1000000")
    refusal = look_ahead(config).refusal
    assert refusal is not None and "cache.blocks=" in refusal.hint
    monkeypatch.setattr(weights_module.Weights, "read", lambda *_: pytest.fail("a weight was read"))
    with pytest.raises(MemoryLimitError, match="A cache of 1000000 blocks"):
        open_session(config)


def test_an_early_exit_adds_keys_and_values_only(pair: tuple[Path, Path]) -> None:
    outlook = look_ahead(load_config(None, [f"model.path={pair[0]}", "draft.kind=early_exit", "draft.layers=2"]))
    target, draft = outlook.plan.models
    assert draft.size.kept == 0 and 3 * draft.kv_bytes_per_token == 2 * target.kv_bytes_per_token
    with pytest.raises(ConfigError):
        look_ahead(load_config(None, [f"model.path={pair[0]}", "draft.kind=early_exit", "draft.layers=3"]))


def test_a_config_without_weights_is_enough_and_wrong_weights_are_not(pair: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((pair[0] / "config.json").read_text())
    bare = look_ahead(load_config(None, [f"model.path={tmp_path}", "model.weights=float32"]))
    whole = look_ahead(load_config(None, [f"model.path={pair[0]}", "model.weights=float32"]))
    assert bare.plan.models == whole.plan.models
    (tmp_path / "model.safetensors").write_bytes((pair[1] / "model.safetensors").read_bytes())
    with pytest.raises(ModelError):
        look_ahead(load_config(None, [f"model.path={tmp_path}"]))


def test_contexts_go_up_in_powers_of_two() -> None:
    assert contexts(1024) == [1024] and contexts(2048) == [2048]
    assert contexts(10000) == [2048, 4096, 8192, 10000]
    assert contexts(32768) == [2048, 4096, 8192, 16384, 32768]
