"""Tokens to text, one at a time: no half characters, no half stop strings, no look back at the whole text."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from helix_cli.errors import InputError
from helix_cli.tokenizer import Tokenizer
from helix_cli.tokenizer.pieces import Pieces


class TextStream:
    """The text of one sequence while it is generated.

    Text is held back only as long as it may change: an incomplete UTF-8 character (at most three bytes; bytes that form
    no character are released as U+FFFD), and an end that may be the beginning of a stop string. The first stop string
    to be complete ends the text just before it; where two end at the same character, the longer one counts. So the text
    depends on the characters alone, not on how they were split into tokens.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        stop: Sequence[str] = (),
        skip: Collection[int] | None = None,
        context: Sequence[int] = (),
    ) -> None:
        """Begin an empty text.

        Args:
            tokenizer: of the model that generates.
            stop: strings that end the text.
            skip: ids that release no text; the tokenizer's special ids when None.
            context: the tokens just before the text. Without them the text is decoded as a text of its own, for which
                SentencePiece-style tokenizers drop the leading space.

        Raises:
            InputError: a stop string is empty.
        """
        self._pieces = Pieces(tokenizer, tokenizer.special_ids if skip is None else skip, context)
        self._stops = _StopStrings(stop)
        self._ready: list[str] = []
        self._taken: list[str] = []

    def push(self, token: int) -> bool:
        """Add one committed token; True when the text has come to a stop string, and from then on."""
        if not self._stops.found:
            self._ready.append(self._stops.push(self._pieces.push(token)))
        return self._stops.found

    def take(self) -> str:
        """Text that became final since the last call."""
        text = "".join(self._ready)
        self._ready.clear()
        if text:
            self._taken.append(text)
        return text

    def finish(self) -> str:
        """No token will follow: the rest of the text. An incomplete character at the end is dropped."""
        self._ready.append(self._stops.finish())
        return self.take()

    @property
    def text(self) -> str:
        """Everything taken so far."""
        return "".join(self._taken)


class _StopStrings:
    """Text in, the same text out, up to the first stop string."""

    def __init__(self, stop: Sequence[str]) -> None:
        if not all(stop):
            raise InputError("A stop string cannot be empty.", "Leave it out, or write the text to stop at.")
        self._stop = tuple(dict.fromkeys(stop))
        self._held = ""
        """Given-in text that may be the beginning of a stop string."""
        self.found = False

    def push(self, text: str) -> str:
        """What is certain to come before any stop string."""
        if not self._stop or not text:
            return text
        text = self._held + text
        match = self._first_match(text)
        if match is not None:
            self.found = True
            self._held = ""
            return text[:match]
        num_held = self._num_undecided(text)
        cut = len(text) - num_held
        self._held = text[cut:]
        return text[:cut]

    def finish(self) -> str:
        """What was held back in vain."""
        rest, self._held = self._held, ""
        return rest

    def _first_match(self, text: str) -> int | None:
        """Where the stop string that is complete first begins."""
        starts = [(start + len(stop), start) for stop in self._stop if (start := text.find(stop)) >= 0]
        return min(starts)[1] if starts else None

    def _num_undecided(self, text: str) -> int:
        """The length of the longest end of `text` that begins a stop string."""
        longest = max(map(len, self._stop)) - 1
        for length in range(min(longest, len(text)), 0, -1):
            end = text[len(text) - length :]
            if any(stop.startswith(end) for stop in self._stop):
                return length
        return 0
