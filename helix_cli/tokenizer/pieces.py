"""Tokens to text, one at a time, of characters that are whole."""

from __future__ import annotations

import codecs
from collections.abc import Collection, Sequence

from helix_cli.tokenizer.tokenizer import Tokenizer

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_MAX_BYTES = 4
"""Bytes, and therefore tokens, that one UTF-8 character can need."""
_MAX_SILENT = 16
"""Tokens without text that the decoder is asked to look at together."""


class Pieces:
    """Tokens to text that will not change.

    A token that is bytes goes through an incremental UTF-8 decoder. Any other is decoded together with the tokens
    before it, and its text is what comes out beyond theirs: a decoder may treat the first token of a text specially.
    """

    def __init__(self, tokenizer: Tokenizer, skip: Collection[int] = (), context: Sequence[int] = ()) -> None:
        """Begin after the tokens `context`; the ids of `skip` have no text."""
        self._tokenizer = tokenizer
        self._skip = frozenset(skip)
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._window = [token for token in context[-_MAX_SILENT:] if token not in self._skip]
        self._num_done = len(self._window)
        """Tokens of the window whose text has been given out."""

    @property
    def is_whole(self) -> bool:
        """Whether all text has been given out: no character is incomplete."""
        return self._num_done == len(self._window) and not self._utf8.getstate()[0]

    def push(self, token: int) -> str:
        """The text that `token` completes."""
        if token in self._skip:
            return ""
        data = self._tokenizer.token_bytes(token)
        if data is not None:
            is_first = not self._window
            self._window, self._num_done = [token], 1
            return self._decode([token]) if is_first and data.isascii() else self._utf8.decode(data)
        broken = self._utf8.decode(b"", final=True)
        self._window.append(token)
        return broken + self._beyond()

    def _beyond(self) -> str:
        """The window's text beyond that of its done tokens, if it is complete."""
        done = self._window[: self._num_done]
        before, text = self._decode(done), self._decode(self._window)
        new = text[len(before) :] if text.startswith(before) else self._decode(self._window[self._num_done :])
        num_waiting = len(self._window) - self._num_done
        # Tokenizers without byte tokens may still split characters; a whole one never needs more tokens than bytes.
        incomplete = new.endswith(_REPLACEMENT) and num_waiting < _MAX_BYTES
        if incomplete or (not new and num_waiting < _MAX_SILENT):
            return ""
        self._window = self._window[self._num_done :]
        self._num_done = len(self._window)
        return new

    def _decode(self, tokens: Sequence[int]) -> str:
        return self._tokenizer.decode(tokens, skip_special_tokens=False)
