"""What was said: a system prompt and turns of question and answer, and their common form as messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from helix_cli.errors import InputError
from helix_cli.prompt import is_unicode

Message = dict[str, str]
"""A `role` (system, user or assistant) and a `content`."""


@dataclass(frozen=True)
class Turn:
    """One question and what the model answered, the whole of it or as far as it came."""

    question: str
    answer: str


@dataclass
class Conversation:
    """Everything that was said; the model sees the system prompt and the turns from `first_seen` on."""

    system: str | None = None
    turns: list[Turn] = field(default_factory=list)
    first_seen: int = 0
    """The turns before this one no longer fit the context. They are kept for the reader."""

    @property
    def seen(self) -> list[Turn]:
        """The turns that the model reads; none where what is left after taking some back no longer fitted."""
        return self.turns[self.first_seen :]

    def messages(self) -> list[Message]:
        """All of it, as messages."""
        return conversation_messages(self.system, self.turns)

    def pop(self) -> Turn:
        """Takes the last turn back. Raises InputError when there is none."""
        if not self.turns:
            raise InputError("Nothing has been said yet.", "Ask something first.")
        turn = self.turns.pop()
        self.first_seen = min(self.first_seen, len(self.turns))
        return turn


def conversation_messages(system: str | None, turns: Sequence[Turn], question: str | None = None) -> list[Message]:
    """The messages of a conversation, and of a question that waits for its answer."""
    messages = [] if system is None else [{"role": "system", "content": system}]
    for turn in turns:
        messages.append({"role": "user", "content": turn.question})
        messages.append({"role": "assistant", "content": turn.answer})
    return messages if question is None else [*messages, {"role": "user", "content": question}]


def from_messages(messages: Sequence[Mapping[str, Any]], name: str) -> Conversation:
    """The conversation that messages hold; `name` says whose they are. Raises InputError for another order or form."""
    for number, message in enumerate(messages, start=1):
        if not isinstance(message, Mapping) or not all(isinstance(message.get(k), str) for k in ("role", "content")):
            raise InputError(
                f"Message {number} of {name} is not a role and a content.",
                'Write {"role": "user", "content": "..."}.',
            )
        if not is_unicode(message["content"]):
            raise InputError(f"Message {number} of {name} is not valid Unicode text.", "Save it as UTF-8.")
    conversation, rest = Conversation(), list(messages)
    if rest and rest[0]["role"] == "system":
        conversation.system = rest.pop(0)["content"]
    if [message["role"] for message in rest] != ["user", "assistant"] * (len(rest) // 2):
        raise InputError(
            f"The messages of {name} are not questions and answers in turn.",
            "After a system message, if any, the roles are user, assistant, user, assistant and so on.",
        )
    contents = [message["content"] for message in rest]
    conversation.turns = [Turn(*pair) for pair in zip(contents[::2], contents[1::2], strict=True)]
    return conversation
