"""A tokenizer of any size, made without a text to learn from: letters, then every pair, triple and so on of them.

It has the form of Llama 2's: byte-pair merges over SentencePiece spelling, and bytes for everything else. That form
needs no pre-tokenizer, which some engines know only by the hash of a published one. The two files say the same:
tokenizer.json for `tokenizers`, tokenizer.model for engines that read SentencePiece.
"""

from __future__ import annotations

import json
import string
import struct
from collections.abc import Iterator
from itertools import count, islice, product
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

UNKNOWN, BEGIN, END = "<unk>", "<s>", "</s>"
SPACE = "▁"
BYTES = [f"<0x{value:02X}>" for value in range(256)]
CHARACTERS = [SPACE, *(chr(code) for code in range(33, 127))]
FIRST_WORD_PIECE = 3 + len(BYTES)
"""Ids from here on are printable; those before it are special tokens and bytes."""
# Kinds of entries in a SentencePiece model.
NORMAL, UNKNOWN_KIND, CONTROL, BYTE = 1, 2, 3, 6


def vocabulary(size: int) -> list[str]:
    """Return the entries in the order of their ids; merges come in the same order."""
    pieces = [UNKNOWN, BEGIN, END, *BYTES, *CHARACTERS]
    return [*pieces, *islice(_groups(), size - len(pieces))]


def _groups() -> Iterator[str]:
    """Yield "▁a", ..., then "aa", ..., "▁aa", ..., "aaa" and so on, shortest first."""
    for length in count(1):
        groups = ["".join(letters) for letters in product(string.ascii_lowercase, repeat=length)]
        yield from groups if length > 1 else ()
        yield from (SPACE + group for group in groups)


def merges(pieces: list[str]) -> list[tuple[str, str]]:
    """Return every way to join two pieces into a third, the earliest result first, as SentencePiece would join them."""
    known = set(pieces[FIRST_WORD_PIECE:])
    joined = pieces[FIRST_WORD_PIECE + len(CHARACTERS) :]
    splits = ((piece[:place], piece[place:]) for piece in joined for place in range(1, len(piece)))
    return [(left, right) for left, right in splits if left in known and right in known]


def write_tokenizer(folder: Path, size: int, context: int) -> None:
    """Write tokenizer.json, tokenizer_config.json and tokenizer.model of a vocabulary of `size` entries."""
    pieces = vocabulary(size)
    _backend(pieces).save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "LlamaTokenizer",
        "unk_token": UNKNOWN,
        "bos_token": BEGIN,
        "eos_token": END,
        "add_bos_token": True,
        "add_eos_token": False,
        "legacy": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": context,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (folder / "tokenizer.model").write_bytes(sentencepiece_model(pieces))


def _backend(pieces: list[str]) -> Tokenizer:
    ids = {piece: place for place, piece in enumerate(pieces)}
    backend = Tokenizer(models.BPE(ids, merges(pieces), unk_token=UNKNOWN, fuse_unk=True, byte_fallback=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="first", split=False)
    backend.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    backend.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A", pair=f"{BEGIN} $A {BEGIN} $B", special_tokens=[(BEGIN, ids[BEGIN])]
    )
    backend.add_special_tokens([AddedToken(token, special=True) for token in (UNKNOWN, BEGIN, END)])
    return backend


def sentencepiece_model(pieces: list[str]) -> bytes:
    """Return the pieces as a SentencePiece BPE model; an earlier piece has the higher score."""
    entries = b"".join(
        _field(1, _field(1, piece.encode()) + _number(2, -float(place)) + _integer(3, _kind(place)))
        for place, piece in enumerate(pieces)
    )
    trainer = _integer(3, 2) + _integer(4, len(pieces)) + _integer(35, 1)  # BPE, size, bytes for what is unknown
    normalizer = _field(1, b"identity") + _integer(4, 0)  # keep repeated spaces
    return entries + _field(2, trainer) + _field(3, normalizer)


def _kind(place: int) -> int:
    if place < 3:
        return UNKNOWN_KIND if place == 0 else CONTROL
    return BYTE if place < FIRST_WORD_PIECE else NORMAL


def _varint(value: int) -> bytes:
    """Return an integer as protocol buffers write it: seven bits a byte, the lowest first."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _integer(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _number(number: int, value: float) -> bytes:
    return _varint(number << 3 | 5) + struct.pack("<f", value)
