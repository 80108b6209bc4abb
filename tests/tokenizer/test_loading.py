"""Ids equal AutoTokenizer's, whether or not transformers was needed to load the tokenizer."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from helix_cli.errors import ModelError
from helix_cli.tokenizer import Tokenizer
from helix_cli.tokenizer import loading as loading_module
from helix_cli.tokenizer.codec import FastCodec, TransformersCodec
from tests.tokenizer.samples import CHARACTERS, IS_CURRENT, TEXTS, added_tokens, byte_level, declare, sentence_piece

LLAMA = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
QWEN: dict[str, Any] = {"bos_token": None, "eos_token": "<|im_end|>", "pad_token": "<pad>"}
RECORD = {"content": "<s>", "lstrip": True, "normalized": False, "rstrip": False, "single_word": False}
NEW = {"content": "<new>", "lstrip": False, "normalized": True, "rstrip": True, "single_word": False, "special": False}

# (kind of tokenizer.json, model family, class in tokenizer_config.json, the rest of it)
DIRECT: list[tuple[str, str | None, str | None, dict[str, Any]]] = [
    (
        "pieces",
        "llama",
        "LlamaTokenizer",
        {**LLAMA, "legacy": False, "add_bos_token": True, "added_tokens_decoder": {}},
    ),
    ("pieces", "llama", "LlamaTokenizerFast", {**LLAMA, "legacy": True}),
    ("pieces", "llama", "LlamaTokenizer", {"legacy": None, "add_prefix_space": False}),
    ("pieces", "llama", "LlamaTokenizer", {"pad_token": "<pad>", "bos_token": {"__type": "AddedToken", **RECORD}}),
    ("pieces", "llama", "PreTrainedTokenizerFast", LLAMA),
    ("pieces", "mistral", "LlamaTokenizer", {**LLAMA, "add_bos_token": True, "add_eos_token": True}),
    ("pieces", "phi3", "LlamaTokenizer", {**LLAMA, "added_tokens_decoder": {"777": NEW}}),
    ("pieces", None, "LlamaTokenizer", LLAMA),
    ("bytes", "llama", "PreTrainedTokenizerFast", {"bos_token": "<|endoftext|>", "eos_token": "<|im_end|>"}),
    ("bytes", "llama", "LlamaTokenizerFast", {"bos_token": "<|im_start|>", "clean_up_tokenization_spaces": True}),
    ("bytes", "llama", "TokenizersBackend", {"extra_special_tokens": ["<extra>", "<|im_start|>", "<think>"]}),
    ("bytes", "llama", None, {}),
    ("bytes", "llama", "GPT2Tokenizer", {"added_tokens_decoder": {}, "add_prefix_space": False}),
    ("bytes", "llama", "GPT2TokenizerFast", {"add_prefix_space": True, "additional_special_tokens": ["<extra>"]}),
    ("bytes", "smollm3", "PreTrainedTokenizerFast", QWEN),
    (
        "bytes",
        "qwen2",
        "Qwen2Tokenizer",
        {**QWEN, "added_tokens_decoder": {}, "additional_special_tokens": ["<|im_end|>"]},
    ),
    ("bytes", "qwen2", "PreTrainedTokenizerFast", QWEN),
    ("bytes", "qwen2", None, {"extra_special_tokens": [{"__type": "AddedToken", **NEW}]}),
    ("bytes", "qwen3", "Qwen2TokenizerFast", {**QWEN, "add_prefix_space": True}),
    ("bytes", "qwen3", "PreTrainedTokenizerFast", QWEN),
    ("bytes", "qwen3", None, QWEN),
    ("bytes", "phi3", "GPT2Tokenizer", {"added_tokens_decoder": {"900": NEW}}),
    ("bytes", None, "TokenizersBackend", QWEN),
]
LEFT_TO_TRANSFORMERS: list[tuple[str, str | None, str | None, dict[str, Any]]] = [
    ("bytes", "gpt2", "GPT2Tokenizer", {}),
    ("bytes", "llama", "CodeGenTokenizer", {}),
    ("bytes", "llama", "TokenizersBackend", {"split_special_tokens": True}),
    ("bytes", "llama", "TokenizersBackend", {"image_token": "<image>"}),
    ("bytes", "llama", "GPT2Tokenizer", {"added_tokens_decoder": {"900": NEW}}),
    ("bytes", "llama", "TokenizersBackend", {"extra_special_tokens": {"image_token": "<image>"}}),
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for each kind of tokenizer.json."""
    root = tmp_path_factory.mktemp("trained")
    byte_level(root / "bytes")
    sentence_piece(root / "pieces")
    return root


def checkpoint(
    trained: Path, folder: Path, kind: str, family: str | None, name: str | None, config: dict[str, Any]
) -> Path:
    """A folder with a tokenizer.json of one kind and its configuration."""
    shutil.copy(trained / kind / "tokenizer.json", folder)
    config = dict(config)
    if "added_tokens_decoder" in config:
        config["added_tokens_decoder"] = added_tokens(folder) | config["added_tokens_decoder"]
    if name is not None:
        config["tokenizer_class"] = name
    return declare(folder, family, **config)


def assert_same(folder: Path, texts: list[str]) -> Tokenizer:
    """The tokenizer in `folder` encodes and decodes as AutoTokenizer does."""
    mine, theirs = Tokenizer(folder), AutoTokenizer.from_pretrained(str(folder))
    assert mine.vocabulary() == theirs.get_vocab()
    assert mine.special_tokens == theirs.special_tokens_map
    for text in texts:
        ids = theirs(text)["input_ids"]
        assert mine.encode(text) == ids, text
        assert mine._encode(text, add_special_tokens=False) == theirs(text, add_special_tokens=False)["input_ids"], text
        for skip in (True, False):
            assert mine.decode(ids, skip) == theirs.decode(ids, skip_special_tokens=skip), text
    return mine


@pytest.mark.parametrize(("kind", "family", "name", "config"), DIRECT)
def test_tokenizers_that_need_no_transformers(
    trained: Path, tmp_path: Path, kind: str, family: str | None, name: str | None, config: dict[str, Any]
) -> None:
    if not IS_CURRENT and kind == "bytes" and name == "LlamaTokenizerFast":
        pytest.skip("earlier versions lose the spaces of a byte-level tokenizer that is declared as Llama's")
    tokenizer = assert_same(checkpoint(trained, tmp_path, kind, family, name, config), [*TEXTS, "a <new> b"])
    assert isinstance(tokenizer._codec, FastCodec)


@pytest.mark.parametrize(("kind", "family", "name", "config"), LEFT_TO_TRANSFORMERS)
def test_tokenizers_that_are_left_to_transformers(
    trained: Path, tmp_path: Path, kind: str, family: str | None, name: str | None, config: dict[str, Any]
) -> None:
    tokenizer = assert_same(checkpoint(trained, tmp_path, kind, family, name, config), TEXTS)
    assert isinstance(tokenizer._codec, TransformersCodec)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(CHARACTERS, max_size=30))
@pytest.mark.parametrize("case", [DIRECT[0], DIRECT[12], DIRECT[15]], ids=["llama", "gpt2", "qwen2"])
def test_rebuilt_classes_on_any_text(
    trained: Path, tmp_path_factory: pytest.TempPathFactory, case: tuple[Any, ...], text: str, pair: dict[str, Any]
) -> None:
    if case[2] not in pair:
        folder = checkpoint(trained, tmp_path_factory.mktemp("case"), *case)
        pair[case[2]] = Tokenizer(folder), AutoTokenizer.from_pretrained(str(folder))
    mine, theirs = pair[case[2]]
    assert mine.encode(text) == theirs(text)["input_ids"]


@pytest.fixture(scope="module")
def pair() -> dict[str, Any]:
    """Tokenizers loaded once for all examples."""
    return {}


def test_tokens_of_older_files_are_left_to_transformers(trained: Path, tmp_path: Path) -> None:
    folder = checkpoint(trained, tmp_path, "pieces", "llama", "LlamaTokenizer", LLAMA)
    (folder / "special_tokens_map.json").write_text(json.dumps({"bos_token": RECORD, "eos_token": "</s>"}))
    assert isinstance(assert_same(folder, TEXTS)._codec, TransformersCodec)


def test_transformers_does_not_warn_of_long_texts(
    trained: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = checkpoint(trained, tmp_path, "pieces", "llama", "LlamaTokenizer", LLAMA | {"model_max_length": 4})
    (folder / "special_tokens_map.json").write_text(json.dumps({"eos_token": "</s>"}))
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    tokenizer = Tokenizer(folder)
    assert isinstance(tokenizer._codec, TransformersCodec)
    assert len(tokenizer.encode("Hello there, how are you today?")) > 4
    assert caplog.messages == []


def test_padding_and_truncation_in_the_file_do_not_touch_prompts(trained: Path, tmp_path: Path) -> None:
    folder = checkpoint(trained, tmp_path, "bytes", "llama", "TokenizersBackend", {})
    content = json.loads((folder / "tokenizer.json").read_text())
    content["truncation"] = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    content["padding"] = {
        "strategy": {"Fixed": 8},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "!",
    }
    (folder / "tokenizer.json").write_text(json.dumps(content))
    assert (
        Tokenizer(folder).encode("Hello there") == AutoTokenizer.from_pretrained(str(folder))("Hello there").input_ids
    )


def test_no_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="There is no tokenizer in"):
        Tokenizer(tmp_path)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "config.json"])
@pytest.mark.parametrize("content", ["{", "[1]", '{"model": 3}'])
def test_damaged_files(trained: Path, tmp_path: Path, name: str, content: str) -> None:
    folder = checkpoint(trained, tmp_path, "bytes", "llama", "TokenizersBackend", {})
    if name != "tokenizer.json" and content.startswith('{"'):
        return
    (folder / name).write_text(content)
    with pytest.raises(ModelError) as caught:
        Tokenizer(folder)
    assert f"{name} is damaged" in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    "config",
    [
        {"added_tokens_decoder": {"0": "<s>"}},
        {"added_tokens_decoder": ["<s>"]},
        {"chat_template": [{"name": "default"}]},
    ],
)
def test_entries_of_another_type(trained: Path, tmp_path: Path, config: dict[str, Any]) -> None:
    declare(checkpoint(trained, tmp_path, "bytes", "llama", "TokenizersBackend", {}), "llama", **config)
    with pytest.raises(ModelError, match=r"tokenizer_config.json is damaged"):
        Tokenizer(tmp_path)


def test_code_of_a_checkpoint_is_never_run(trained: Path, tmp_path: Path) -> None:
    folder = checkpoint(
        trained, tmp_path, "bytes", None, "MyTokenizer", {"auto_map": {"AutoTokenizer": ["mine.MyTokenizer", None]}}
    )
    (folder / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(ModelError, match="cannot be loaded"):
        Tokenizer(folder)
    assert not (tmp_path / "ran").exists()


def test_transformers_is_not_imported_without_need(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> None:
        raise AssertionError("transformers was asked")

    monkeypatch.setattr(loading_module, "_load_with_transformers", fail)
    Tokenizer(checkpoint(trained, tmp_path, "pieces", "llama", "LlamaTokenizer", LLAMA))
