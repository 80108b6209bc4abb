"""Encoding, decoding, and the meaning of ids in bytes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from helix_cli.errors import InputError
from helix_cli.tokenizer import Tokenizer
from helix_cli.tokenizer.codec import TransformersCodec
from tests.tokenizer.samples import TEXTS, byte_level, declare, sentence_piece


@pytest.fixture(scope="module")
def bytes_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """Byte-level."""
    return Tokenizer(byte_level(tmp_path_factory.mktemp("bytes")))


@pytest.fixture(scope="module")
def pieces_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """SentencePiece-style, with byte fallback."""
    folder = sentence_piece(tmp_path_factory.mktemp("pieces"))
    return Tokenizer(declare(folder, tokenizer_class="LlamaTokenizer", legacy=False))


def test_a_path_may_be_a_string(bytes_tokenizer: Tokenizer) -> None:
    assert Tokenizer(str(bytes_tokenizer.path)).encode("Hello") == bytes_tokenizer.encode("Hello")


@pytest.mark.parametrize("text", TEXTS)
def test_decode_undoes_encode(bytes_tokenizer: Tokenizer, text: str) -> None:
    assert bytes_tokenizer.decode(bytes_tokenizer.encode(text), skip_special_tokens=False) == text


@pytest.mark.parametrize("text", ["Hello there", "é日本語😀", "\n\nHello\n", "tab\there  two"])
def test_decode_undoes_encode_without_the_special_tokens(pieces_tokenizer: Tokenizer, text: str) -> None:
    ids = pieces_tokenizer.encode(text)
    assert pieces_tokenizer.decode(ids) == text
    assert pieces_tokenizer.decode(ids, skip_special_tokens=False) == f"<s> {text}"


def test_special_ids(bytes_tokenizer: Tokenizer, pieces_tokenizer: Tokenizer) -> None:
    vocabulary = bytes_tokenizer.vocabulary()
    special = {vocabulary[token] for token in ("<|endoftext|>", "<|im_start|>", "<|im_end|>")}
    assert bytes_tokenizer.special_ids == special
    assert pieces_tokenizer.special_ids == {0, 1, 2}
    wrapped = TransformersCodec(AutoTokenizer.from_pretrained(str(bytes_tokenizer.path)))
    assert wrapped.special_ids() == special


def test_unknown_ids_are_nothing(bytes_tokenizer: Tokenizer) -> None:
    assert bytes_tokenizer.token(10**6) is None
    assert bytes_tokenizer.token_bytes(10**6) == b""
    assert bytes_tokenizer.decode([10**6]) == ""


@settings(deadline=None)
@given(ids=st.lists(st.integers(0, 410), max_size=20))
def test_bytes_of_byte_level_tokens_add_up_to_the_text(bytes_tokenizer: Tokenizer, ids: list[int]) -> None:
    joined = b"".join(bytes_tokenizer.token_bytes(id) or b"" for id in ids)
    assert joined.decode("utf-8", "replace") == bytes_tokenizer.decode(ids, skip_special_tokens=False)


def test_bytes_of_a_vocabulary_with_byte_fallback(pieces_tokenizer: Tokenizer) -> None:
    vocabulary = pieces_tokenizer.vocabulary()
    assert pieces_tokenizer.token_bytes(vocabulary["<0xE6>"]) == b"\xe6"
    assert pieces_tokenizer.token_bytes(vocabulary["▁"]) is None


def test_a_lone_surrogate_is_an_input_error(bytes_tokenizer: Tokenizer) -> None:
    with pytest.raises(InputError, match="surrogate at character 2"):
        bytes_tokenizer.encode("ab\ud83d")


def test_both_ways_to_load_give_the_same_answers(pieces_tokenizer: Tokenizer) -> None:
    wrapped = TransformersCodec(AutoTokenizer.from_pretrained(str(pieces_tokenizer.path)))
    assert wrapped.serialised() == pieces_tokenizer.serialised()
    assert wrapped.token(300) == pieces_tokenizer.token(300)
    assert wrapped.decoder() is not None
    assert Path(pieces_tokenizer.path, "tokenizer.json").is_file()
