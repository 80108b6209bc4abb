"""Two tokenizers are compared by what their ids mean, then by how they split text."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helix_cli.tokenizer import TokenDifference, Tokenizer, first_difference
from tests.tokenizer.samples import byte_level, declare, sentence_piece

Content = dict[str, Any]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """The tokenizer that the others are compared with."""
    return Tokenizer(byte_level(tmp_path_factory.mktemp("original")))


def changed(original: Tokenizer, folder: Path, change: Callable[[Content], None]) -> Tokenizer:
    """A copy of `original` with `change` made to its tokenizer.json."""
    content = json.loads((original.path / "tokenizer.json").read_text())
    change(content)
    (folder / "tokenizer.json").write_text(json.dumps(content))
    return Tokenizer(folder)


def swap(content: Content) -> None:
    """Exchange two entries."""
    vocabulary = content["model"]["vocab"]
    vocabulary["Ġt"], vocabulary["he"] = vocabulary["he"], vocabulary["Ġt"]


def test_the_same(original: Tokenizer, tmp_path: Path) -> None:
    assert first_difference(original, original) is None
    assert first_difference(original, changed(original, tmp_path, lambda content: None)) is None


def test_things_that_leave_ids_and_splitting_alone(original: Tokenizer, tmp_path: Path) -> None:
    def change(content: Content) -> None:
        content["post_processor"] = {
            "type": "TemplateProcessing",
            "single": [
                {"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
            ],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<|endoftext|>": {"id": "<|endoftext|>", "ids": [400], "tokens": ["<|endoftext|>"]}},
        }

    assert first_difference(original, changed(original, tmp_path, change)) is None


def test_another_meaning_of_an_id(original: Tokenizer, tmp_path: Path) -> None:
    other = changed(original, tmp_path, swap)
    id = min(original.vocabulary()["Ġt"], original.vocabulary()["he"])
    found = first_difference(original, other)
    assert found == TokenDifference("vocabulary", id, original.token(id), other.token(id))
    assert str(found) == f"token {id} is {original.token(id)!r} in one and {other.token(id)!r} in the other"


def test_a_missing_added_token(original: Tokenizer, tmp_path: Path) -> None:
    other = changed(original, tmp_path, lambda content: content["added_tokens"].pop())
    found = first_difference(original, other)
    assert found == TokenDifference("vocabulary", original.vocabulary()["<think>"], "<think>", None)
    assert "missing in the other" in str(found)
    assert first_difference(other, original) == TokenDifference("vocabulary", found.id, None, "<think>")


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("merges", lambda content: content["model"]["merges"].reverse()),
        ("model", lambda content: content["model"].update(ignore_merges=True)),
        ("normalizer", lambda content: content.update(normalizer={"type": "NFC"})),
        ("pre_tokenizer", lambda content: content["pre_tokenizer"]["pretokenizers"].pop(0)),
    ],
)
def test_the_same_entries_but_another_way_to_split(
    original: Tokenizer, tmp_path: Path, part: str, change: Callable[[Content], None]
) -> None:
    found = first_difference(original, changed(original, tmp_path, change))
    assert found == TokenDifference(part)
    assert part in str(found)


def test_loaded_by_transformers_or_not_is_no_difference(tmp_path: Path) -> None:
    direct = declare(sentence_piece(tmp_path / "direct"), "llama", tokenizer_class="LlamaTokenizer")
    wrapped = declare(sentence_piece(tmp_path / "wrapped"), "llama", tokenizer_class="LlamaTokenizer", init_inputs=[])
    assert first_difference(Tokenizer(direct), Tokenizer(wrapped)) is None
