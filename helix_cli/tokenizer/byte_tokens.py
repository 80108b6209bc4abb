"""Which tokens are bytes. Bytes can be decoded one token at a time, exactly and without looking back."""

from __future__ import annotations

from typing import Any, Protocol

from helix_cli.tokenizer.codec import Codec


class ByteTokens(Protocol):
    """What a tokenizer's entries mean in bytes."""

    def bytes_of(self, id: int) -> bytes | None:
        """The bytes of token `id`; None when the token is text whose form depends on its neighbours."""


class ByteLevelTokens:
    """A byte-level vocabulary (GPT-2, Llama 3, Qwen): every entry spells bytes in an alphabet of 256 letters."""

    def __init__(self, codec: Codec) -> None:
        """Read entries from `codec` as they are asked for."""
        self._codec = codec
        self._letters = byte_alphabet()
        self._known: dict[int, bytes] = {}

    def bytes_of(self, id: int) -> bytes | None:
        """The entry's bytes; an added token outside the alphabet is its own UTF-8, an unknown id is nothing."""
        found = self._known.get(id)
        if found is None:
            entry = self._codec.token(id) or ""
            try:
                found = bytes(self._letters[letter] for letter in entry)
            except KeyError:
                found = entry.encode("utf-8")
            self._known[id] = found
        return found


class ByteFallbackTokens:
    """A text vocabulary with an entry "<0x00>" for each byte (Llama 2, Mistral, Phi-3)."""

    def __init__(self, codec: Codec) -> None:
        """Look the 256 entries up once."""
        entries = {f"<0x{byte:02X}>": byte for byte in range(256)}
        vocabulary = codec.vocabulary()
        self._bytes = {vocabulary[entry]: bytes([byte]) for entry, byte in entries.items() if entry in vocabulary}

    def bytes_of(self, id: int) -> bytes | None:
        """One byte, or None for an entry that is text."""
        return self._bytes.get(id)


class NoByteTokens:
    """A vocabulary of text only."""

    def bytes_of(self, id: int) -> bytes | None:
        """Always None."""
        return None


def byte_tokens_of(codec: Codec) -> ByteTokens:
    """How `codec` spells bytes, read off its decoder."""
    steps = _decoder_steps(codec.decoder())
    if steps == ["ByteLevel"]:
        return ByteLevelTokens(codec)
    if "ByteFallback" in steps:
        return ByteFallbackTokens(codec)
    return NoByteTokens()


def byte_alphabet() -> dict[str, int]:
    """GPT-2's letters for bytes: printable Latin-1 is itself, the rest follows from U+0100 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = {chr(byte): byte for byte in printable}
    letters.update({chr(0x100 + place): byte for place, byte in enumerate(others)})
    return letters


def _decoder_steps(decoder: dict[str, Any] | None) -> list[str]:
    if decoder is None:
        return []
    if decoder["type"] == "Sequence":
        return [step for part in decoder["decoders"] for step in _decoder_steps(part)]
    return [str(decoder["type"])]
