"""The history as the token ids that were computed, so that the cache finds a turn again to the last full block.

A text has many tokenisations, and the one that a model generated need not be the one that the tokenizer chooses. Where
the model's template renders an earlier answer as it was said, its generated ids are used again. Where it does not (a
template may strip white space, or leave out a model's thoughts), the conversation is tokenised anew from there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from helix_cli.tokenizer import Tokenizer

_CONTEXT = 16
"""Tokens before an answer that may change how its first one is decoded."""
_MAX_CUT = 3
"""Tokens at the end of an answer that its text may lack: the bytes of a broken character, or a stop string."""


@dataclass(frozen=True)
class Encoded:
    """A conversation that is open for an answer: its text in the model's template, and its ids."""

    text: str
    ids: tuple[int, ...]


class TokenHistory:
    """The text and the ids of the conversation so far, with a mark behind each answer."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Nothing was said."""
        self._tokenizer = tokenizer
        self._text = ""
        self._ids: tuple[int, ...] = ()
        self._marks: list[tuple[int, int]] = []
        """(characters, ids) up to and including each answer."""
        specials = (tokenizer.token(one) for one in tokenizer.special_ids)
        self._special_texts = tuple(text for text in specials if text)

    def encode(self, messages: Sequence[Mapping[str, str]]) -> Encoded:
        """The conversation in the model's template; the ids of earlier answers are those that were generated.

        Raises InputError for a conversation that the template refuses.
        """
        text = self._tokenizer.render_chat(messages)
        num_characters, num_ids = self._known(text)
        return Encoded(text, (*self._ids[:num_ids], *self._tokenizer.encode_rendered(text[num_characters:])))

    def remember(self, prompt: Encoded, answer: str, answer_ids: Sequence[int]) -> None:
        """Notes what followed `prompt`: `answer` is its text, without a stop string or a broken character."""
        known = self._known(prompt.text)
        self._marks = [mark for mark in self._marks if mark <= known]
        ids = self._without_end(answer_ids)
        for num_cut in range(min(_MAX_CUT, len(ids)) + 1):
            kept = ids[: len(ids) - num_cut]
            if self._is_text_of(kept, prompt, answer):
                self._text, self._ids = prompt.text + answer, prompt.ids + kept
                self._marks.append((len(self._text), len(self._ids)))
                return

    def _known(self, text: str) -> tuple[int, int]:
        """The last mark up to which `text` is what was said, if a special token follows there.

        Tokenizers cut at special tokens before anything else, so ids on both sides of one are independent.
        """
        for num_characters, num_ids in reversed(self._marks):
            same = text.startswith(self._text[:num_characters])
            if same and text.startswith(self._special_texts, num_characters):
                return num_characters, num_ids
        return 0, 0

    def _without_end(self, ids: Sequence[int]) -> tuple[int, ...]:
        """Without the end-of-text token: the template writes its own."""
        specials = self._tokenizer.special_ids
        num_last = sum(1 for _ in takewhile(lambda one: one in specials, reversed(ids)))
        return tuple(ids[: len(ids) - num_last])

    def _is_text_of(self, ids: tuple[int, ...], prompt: Encoded, answer: str) -> bool:
        """Whether `ids` say `answer` and nothing else: no stop string, broken character or special token."""
        before = list(prompt.ids[-_CONTEXT:])
        decode = self._tokenizer.decode
        return decode([*before, *ids], skip_special_tokens=False) == decode(before, skip_special_tokens=False) + answer
