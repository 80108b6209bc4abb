"""One conversation with one model: asking, taking back, and keeping within the context."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from helix_cli.chat import storing
from helix_cli.chat.context import first_to_keep, room_for_prompt
from helix_cli.chat.conversation import Conversation, Turn, conversation_messages
from helix_cli.chat.settings import Settings
from helix_cli.chat.tokens import Encoded, TokenHistory
from helix_cli.core import Event, FinishedEvent, FinishReason, TextEvent
from helix_cli.errors import HelixError, InputError
from helix_cli.prompt import Prompt

if TYPE_CHECKING:
    from helix_cli.session import Session


@dataclass
class _Answer:
    """An answer on its way, for the case that it is broken off."""

    question: str
    prompt: Encoded
    pieces: list[str] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)

    def add(self, event: TextEvent) -> None:
        """Takes what came."""
        self.pieces.extend(piece.text for piece in event.pieces)
        self.ids.extend(piece.token for piece in event.pieces if piece.token is not None)


class Chat:
    """A conversation, the session that answers and the file that keeps it; `tell` hears what a person should know."""

    def __init__(
        self,
        session: Session,
        settings: Settings,
        conversation: Conversation,
        file: Path | None,
        tell: Callable[[str], None],
    ) -> None:
        """Go on with `conversation`. Raises InputError for a system prompt that the model's template does not take."""
        self.session = session
        self.settings = settings
        self.conversation = conversation
        self.file = file
        """Where every turn is kept; None keeps nothing."""
        self.show_draft = False
        """Whether the draft's tokens are coloured."""
        self.last: FinishedEvent | None = None
        """How the last answer ended."""
        self._tell = tell
        self._attached: list[tuple[str, str]] = []
        self._history = TokenHistory(session.tokenizer)
        self._cannot_save = False
        self.set_system(conversation.system)
        if conversation.turns:
            for note in session.restore(Prompt(0, tokens=self._encoded().ids)):
                tell(note)

    @property
    def capacity(self) -> int:
        """Tokens that the conversation and its answer may have: the model's context, or the whole cache if smaller."""
        info = self.session.info
        return min(info.context, info.num_blocks * info.block_size)

    def ask(self, text: str, replace: bool = False) -> Generator[Event, None, None]:
        """The events of the answer to `text`, which then belongs to the conversation.

        With `replace` it takes the place of the last turn. An answer that is broken off stays as far as it came; one
        that never began changes nothing. Turns that no longer fit are left out first. Raises InputError for a question
        that does not fit by itself.
        """
        turns = self.conversation.turns[: -1 if replace else None]
        answer = _Answer(self._with_files(text), Encoded("", ()))
        first, answer.prompt = self._fit(turns, answer.question)
        try:
            prompt = Prompt(0, tokens=answer.prompt.ids, max_tokens=self._room_for_answer(len(answer.prompt.ids)))
            self.session.request(prompt)
        except HelixError:
            self._detach()
            raise
        self._leave_out(first, len(turns))
        event: Event | None = None
        try:
            for event in self.session.stream([prompt]):
                if isinstance(event, TextEvent):
                    answer.add(event)
                else:
                    self._finish(answer, event, turns)
                yield event
        finally:
            # A second Ctrl-C, or a reader that stopped reading.
            if not isinstance(event, FinishedEvent):
                self._keep(answer, "".join(answer.pieces), turns)
        if isinstance(event, FinishedEvent):
            self._explain_end(event)

    def attach(self, name: str, content: str) -> int:
        """Adds a file's text to the next question; returns its tokens. Raises InputError for one that never fits."""
        num_tokens = len(self.session.tokenizer.encode_rendered(content))
        if num_tokens >= self.capacity:
            raise InputError(
                f"{name} has {num_tokens:,} tokens, and the context holds {self.capacity:,} with question and answer.",
                "Take a part of it.",
            )
        self._attached.append((name, content))
        return num_tokens

    def set_system(self, system: str | None) -> None:
        """Tells the model something else first. Raises InputError where its template has no place for it."""
        turns = self.conversation.turns or [Turn("Hello", "Hello")]
        rendered = self.session.tokenizer.render_chat(conversation_messages(system, turns[:1], "Hello"))
        self.session.tokenizer.encode_rendered(rendered)  # a text that is not Unicode must not come into the history
        if system is not None and system.strip() not in rendered:
            raise InputError("The model's chat template has no place for a system prompt.", "Say it in a question.")
        self.conversation.system = system

    def restart(self, conversation: Conversation, file: Path | None) -> None:
        """Goes on with another conversation, kept in `file`."""
        before = self.conversation
        self.conversation = conversation
        try:
            self.set_system(conversation.system)
        except InputError:
            self.conversation = before
            raise
        self.file, self.last = file, None
        self._attached.clear()
        self._history = TokenHistory(self.session.tokenizer)

    def change(self, name: str, value: str) -> None:
        """Changes a setting by its name. Raises ConfigError, changing nothing, for what cannot be."""
        settings = self.settings.changed(name, value, self._tell)
        self.session.change(settings.config)
        self.settings = settings

    def num_tokens(self) -> int:
        """Tokens that the model reads before the next question: system prompt and turns."""
        return len(self._encoded().ids) if self.conversation.seen or self.conversation.system else 0

    def keep_prompt(self) -> None:
        """Leaves what was computed to later conversations, where the config asks for it."""
        if self.conversation.seen:
            for note in self.session.keep(Prompt(0, tokens=self._encoded().ids)):
                self._tell(note)

    def save(self) -> None:
        """Writes the conversation to its file, if it has one; a disk that does not take it is told once."""
        if self.file is None:
            return
        try:
            storing.write_conversation(self.file, self.conversation, self.session.info.target)
            self._cannot_save = False
        except OSError as error:
            if not self._cannot_save:
                self._tell(f"The conversation is not being saved: {error.strerror or type(error).__name__}.")
            self._cannot_save = True

    def _encoded(self) -> Encoded:
        """What the model sees of the conversation."""
        return self._history.encode(conversation_messages(self.conversation.system, self.conversation.seen))

    def _detach(self) -> None:
        """Files that made a question too long would do so again and again."""
        if self._attached:
            names = ", ".join(name for name, _ in self._attached)
            self._attached.clear()
            self._tell(f"{names} will not go with your next message.")

    def _with_files(self, text: str) -> str:
        return "\n\n".join([*(f"{name}:\n{content.strip()}" for name, content in self._attached), text])

    def _fit(self, turns: list[Turn], question: str) -> tuple[int, Encoded]:
        """The first turn that the model still sees, and the prompt from there."""
        system = self.conversation.system

        def encoded(first: int) -> Encoded:
            return self._history.encode(conversation_messages(system, turns[first:], question))

        room = room_for_prompt(self.capacity, self.session.params.max_tokens)
        first = min(self.conversation.first_seen, len(turns))
        first = first_to_keep(first, len(turns), room, lambda place: len(encoded(place).ids))
        return first, encoded(first)

    def _room_for_answer(self, num_prompt_tokens: int) -> int:
        if num_prompt_tokens >= self.capacity:
            raise InputError(
                f"The question has {num_prompt_tokens:,} tokens, and the context holds {self.capacity:,} with the "
                "answer.",
                "Shorten it.",
            )
        return min(self.session.params.max_tokens, self.capacity - num_prompt_tokens)

    def _leave_out(self, first: int, num_turns: int) -> None:
        dropped = first - min(self.conversation.first_seen, num_turns)
        if dropped > 0:
            turns = "The oldest turn no longer fits" if dropped == 1 else f"The oldest {dropped} turns no longer fit"
            self._tell(f"{turns} the context of {self.capacity:,} tokens and is left out of what the model reads.")
        self.conversation.first_seen = first

    def _finish(self, answer: _Answer, event: FinishedEvent, turns: list[Turn]) -> None:
        if event.token_ids:
            self.last = event
        answer.ids = list(event.token_ids)
        self._keep(answer, event.text, turns)

    def _keep(self, answer: _Answer, text: str, turns: list[Turn]) -> None:
        """Makes the answer part of the conversation and of its file; an answer that never began is none."""
        if not answer.ids:
            return
        self._attached.clear()
        self._history.remember(answer.prompt, text, answer.ids)
        self.conversation.turns = [*turns, Turn(answer.question, text)]
        self.save()

    def _explain_end(self, event: FinishedEvent) -> None:
        if event.finish_reason is FinishReason.ABORT and not event.token_ids:
            self._tell("Stopped before the first word; the question is not part of the conversation.")
        if event.finish_reason is FinishReason.LENGTH:
            limit = self.session.params.max_tokens
            if event.stats.num_tokens < limit:
                self._tell(f"The answer was cut where the context of {self.capacity:,} tokens ends.")
            else:
                self._tell(f"The answer was cut at {limit:,} tokens; /set max-tokens allows more.")
