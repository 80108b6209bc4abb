"""The two things that turn text into ids and back: the `tokenizers` library, or a tokenizer object of transformers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend


class Codec(Protocol):
    """Text to ids and back, and what is needed to compare two of them."""

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        """Token ids of `text`; with the model's special tokens around it (BOS) if asked."""

    def decode(self, ids: Sequence[int], skip_special_tokens: bool) -> str:
        """The text of `ids`."""

    def token(self, id: int) -> str | None:
        """The vocabulary entry, in the tokenizer's own spelling; None when there is no such id."""

    def vocabulary(self) -> dict[str, int]:
        """Every entry, added tokens included."""

    def special_ids(self) -> frozenset[int]:
        """Ids that stand for no text."""

    def decoder(self) -> dict[str, Any] | None:
        """The decoder as in tokenizer.json; None where there is no such form."""

    def serialised(self) -> str | None:
        """The whole tokenizer as the JSON text of tokenizer.json; None where there is no such form."""


class FastCodec:
    """A `tokenizers.Tokenizer`."""

    def __init__(self, backend: Backend) -> None:
        """Take `backend` over; prompts are never padded or cut, whatever the file says."""
        backend.no_padding()
        backend.no_truncation()
        self._backend = backend

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        """See `Codec`."""
        return list(self._backend.encode(text, add_special_tokens=add_special_tokens).ids)

    def decode(self, ids: Sequence[int], skip_special_tokens: bool) -> str:
        """See `Codec`."""
        return str(self._backend.decode(list(ids), skip_special_tokens=skip_special_tokens))

    def token(self, id: int) -> str | None:
        """See `Codec`."""
        found: str | None = self._backend.id_to_token(id)
        return found

    def vocabulary(self) -> dict[str, int]:
        """See `Codec`."""
        return dict(self._backend.get_vocab(with_added_tokens=True))

    def special_ids(self) -> frozenset[int]:
        """See `Codec`."""
        return frozenset(id for id, token in self._backend.get_added_tokens_decoder().items() if token.special)

    def decoder(self) -> dict[str, Any] | None:
        """See `Codec`."""
        return _decoder(self._backend)

    def serialised(self) -> str | None:
        """See `Codec`."""
        return str(self._backend.to_str())


class TransformersCodec:
    """A tokenizer object of transformers, for the models whose tokenizer is more than its tokenizer.json."""

    def __init__(self, tokenizer: Any) -> None:
        """`tokenizer` is what AutoTokenizer returned."""
        self._tokenizer = tokenizer
        self._backend = getattr(tokenizer, "backend_tokenizer", None)

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        """See `Codec`."""
        # Otherwise transformers warns of texts that are longer than the model's context, which is refused elsewhere.
        encoded = self._tokenizer(text, add_special_tokens=add_special_tokens, verbose=False)
        return list(encoded["input_ids"])

    def decode(self, ids: Sequence[int], skip_special_tokens: bool) -> str:
        """See `Codec`."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=skip_special_tokens))

    def token(self, id: int) -> str | None:
        """See `Codec`."""
        found: str | None = self._tokenizer.convert_ids_to_tokens(id)
        return found

    def vocabulary(self) -> dict[str, int]:
        """See `Codec`."""
        return dict(self._tokenizer.get_vocab())

    def special_ids(self) -> frozenset[int]:
        """See `Codec`."""
        if self._backend is not None:
            return FastCodec(self._backend).special_ids()
        return frozenset(self._tokenizer.all_special_ids)

    def decoder(self) -> dict[str, Any] | None:
        """See `Codec`."""
        return None if self._backend is None else _decoder(self._backend)

    def serialised(self) -> str | None:
        """See `Codec`."""
        return None if self._backend is None else str(self._backend.to_str())


def _decoder(backend: Backend) -> dict[str, Any] | None:
    """Ask the decoder alone: the whole tokenizer is megabytes of JSON."""
    if backend.decoder is None:
        return None
    found: dict[str, Any] = json.loads(backend.decoder.__getstate__())
    return found
