"""The facade that commands use: prompts in, events with text out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from helix_cli.cache.kept import KeptPrompts
from helix_cli.config import Config
from helix_cli.core import Committed, Event, FinishedEvent, FinishReason, Piece, Request, SamplingParams, TextEvent
from helix_cli.core import Sequence as EngineSequence
from helix_cli.engine.engine import Engine
from helix_cli.errors import Interrupted
from helix_cli.phases import Phases
from helix_cli.prompt import Prompt
from helix_cli.stats import summarise
from helix_cli.text import TextStream
from helix_cli.tokenizer import Tokenizer
from helix_cli.verify.choose import choose_rule
from helix_cli.verify.rule import VerifyRule


@dataclass(frozen=True)
class SessionInfo:
    """What was loaded and how it runs, for the first event of `--json` and for the statistics."""

    version: str
    target: str
    draft: str | None
    device: str
    threads: int
    dtype: str
    weights: str
    """How the target's matrices are stored."""
    draft_weights: str | None
    """The same of the model that drafts; None where none does."""
    exact: bool
    exact_reason: str
    drafter: str
    k: int | str
    """The fixed depth, or auto."""
    rule: str
    context: int
    block_size: int
    num_blocks: int
    notes: tuple[str, ...]
    load_s: float
    startup: dict[str, float]
    """Seconds of each phase of the start so far; see `Phases`."""
    config: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """A dictionary that JSON can hold."""
        return asdict(self)


class StopFlag:
    """Set from a signal handler or another thread; read between steps and between the layers of a forward pass."""

    def __init__(self) -> None:
        self.is_set = False

    def __call__(self) -> bool:
        return self.is_set


@dataclass
class _Stream:
    """One request under way: its place among the prompts and its text so far."""

    index: int
    text: TextStream
    released: list[str] = field(default_factory=list)
    fresh: list[str] = field(default_factory=list)
    """What each token of the current step released."""

    def push(self, token: int) -> bool:
        """Takes one committed token; True when the text now ends in a stop string."""
        stopped = self.text.push(token)
        self.fresh.append(self.text.take())
        return stopped


@dataclass(frozen=True)
class Wired:
    """The part of a session that can change while its target stays."""

    engine: Engine
    params: SamplingParams
    rule: str
    """As it was asked for: auto chooses for each request."""
    info: SessionInfo
    kept_prompts: KeptPrompts | None = None
    """The prompts on disk, where they are kept."""
    keep_profile: Callable[[], None] = lambda: None
    """Keeps what the runs have shown of costs and acceptance."""


class Session:
    """A loaded target, its drafter and an engine, ready to stream any number of prompts."""

    def __init__(
        self,
        wired: Wired,
        tokenizer: Tokenizer,
        stop_flag: StopFlag,
        phases: Phases,
        rewire: Callable[[Config, Wired], Wired],
    ) -> None:
        self._wired = wired
        self.tokenizer = tokenizer
        self._stop_flag = stop_flag
        self._phases = phases
        self._rewire = rewire

    @property
    def engine(self) -> Engine:
        """What runs the requests."""
        return self._wired.engine

    @property
    def params(self) -> SamplingParams:
        """How a prompt is sampled that does not say otherwise."""
        return self._wired.params

    @property
    def info(self) -> SessionInfo:
        """What runs now."""
        return self._wired.info

    def change(self, config: Config) -> None:
        """Takes the drafter, the rule and the sampling of `config`; the target stays, and what its cache holds.

        Call it when nothing streams. A draft model that is new is loaded. Raises a HelixError, changing nothing, where
        that cannot be had, and ConfigError where `config` asks for another target, cache or device.
        """
        assert self.engine.idle, "not while something streams"
        self._wired = self._rewire(config, self._wired)

    def request(self, prompt: Prompt) -> Request:
        """The tokenised prompt with its sampling; raises InputError or MemoryLimitError for one that cannot run."""
        tokens = prompt_tokens(self.tokenizer, prompt)
        params = self.params if prompt.max_tokens is None else replace(self.params, max_tokens=prompt.max_tokens)
        request = Request(tuple(tokens), params, prompt.priority)
        self.engine.validate(request)
        return request

    def stream(self, prompts: Sequence[Prompt]) -> Iterator[Event]:
        """Runs all prompts together and yields events as they come; every prompt ends with one FinishedEvent.

        All prompts are checked before the first step, so a bad one costs nothing. After `interrupt` the rest end with
        reason `abort` and the text they have.
        """
        assert self.engine.idle, "one stream at a time"
        requests = [self.request(prompt) for prompt in prompts]
        streams: dict[int, _Stream] = {}
        for prompt, request in zip(prompts, requests, strict=True):
            text = TextStream(self.tokenizer, request.params.stop, context=request.prompt)
            stream = _Stream(prompt.index, text)
            rule = choose_rule(self._wired.rule, request.params)
            streams[self.engine.add(request, rule, stream.push)] = stream
        try:
            while streams:
                yield from self._step(streams)
        finally:
            # A reader that stops early must not leave its requests in the engine.
            for sequence_id in streams:
                self.engine.abort(sequence_id)
            if streams:
                self.engine.step()
            # A Ctrl-C that came too late for this stream must not end the next one.
            self._stop_flag.is_set = False
            self._wired.keep_profile()

    def run(self, requests: Sequence[Request]) -> list[EngineSequence]:
        """Runs tokenised requests together to their ends and returns their sequences, with no text made of them.

        Raises what `Engine.validate` does before the first step, and Interrupted after `interrupt`; nothing is left
        behind then.
        """
        assert self.engine.idle, "one run at a time"
        for request in requests:
            self.engine.validate(request)
        ids = [self.engine.add(request, choose_rule(self._wired.rule, request.params)) for request in requests]
        done: dict[int, EngineSequence] = {}
        try:
            while len(done) < len(ids):
                if self._stop_flag.is_set:
                    raise Interrupted
                done.update((one.id, one) for one in self.engine.step().finished)
        finally:
            self._stop_flag.is_set = False
            if len(done) < len(ids):
                for sequence_id in ids:
                    self.engine.abort(sequence_id)
                self.engine.step()
        return [done[sequence_id] for sequence_id in ids]

    def interrupt(self) -> None:
        """Ends everything under way before the next layer or step; safe in a signal handler and from any thread."""
        self._stop_flag.is_set = True

    def keep(self, prompt: Prompt) -> list[str]:
        """Writes a prompt that has run to disk, where the config asks for it; returns what the user should hear."""
        if self._wired.kept_prompts is None:
            return []
        self._wired.kept_prompts.notes.clear()
        self._wired.kept_prompts.keep(prompt_tokens(self.tokenizer, prompt))
        return list(self._wired.kept_prompts.notes)

    def restore(self, prompt: Prompt) -> list[str]:
        """Takes a prompt from disk into the cache, as `keep` does the reverse; nothing may stream."""
        if self._wired.kept_prompts is None:
            return []
        self._wired.kept_prompts.notes.clear()
        self._wired.kept_prompts.restore(prompt_tokens(self.tokenizer, prompt))
        return list(self._wired.kept_prompts.notes)

    def check(self) -> None:
        """Asserts the engine's invariants while nothing streams."""
        self.engine.check()

    def _step(self, streams: dict[int, _Stream]) -> Iterator[Event]:
        if self._stop_flag.is_set:
            for sequence_id in streams:
                self.engine.abort(sequence_id)
            # The flag also stops forward passes; the step that aborts runs none of those sequences.
            self._stop_flag.is_set = False
        try:
            output = self.engine.step()
        except Interrupted:
            self._stop_flag.is_set = True
            return
        if output.committed:
            self._phases.end_start()
        for committed in output.committed:
            yield self._text_event(streams[committed.sequence.id], committed)
        for sequence in output.finished:
            yield from self._finish(streams.pop(sequence.id), sequence)

    def _text_event(self, stream: _Stream, committed: Committed) -> TextEvent:
        pieces = tuple(
            Piece(text, token, drafted=place < committed.num_accepted)
            for place, (token, text) in enumerate(zip(committed.tokens, stream.fresh, strict=True))
        )
        stream.released.extend(stream.fresh)
        stream.fresh.clear()
        return TextEvent(stream.index, pieces)

    def _finish(self, stream: _Stream, sequence: EngineSequence) -> Iterator[Event]:
        assert sequence.finish is not None
        rest = stream.text.finish()
        if rest:
            stream.released.append(rest)
            yield TextEvent(stream.index, (Piece(rest, None, drafted=False),))
        yield FinishedEvent(
            index=stream.index,
            text="".join(stream.released),
            token_ids=tuple(sequence.tokens[sequence.prompt_len :]),
            finish_reason=FinishReason(sequence.finish),
            stats=summarise(
                sequence.trace,
                load_s=self.info.load_s,
                context=self.info.context,
                now=time.perf_counter(),
                process_to_first_token_s=self._phases.process_to_first_token_s,
                **self._exactness(sequence.rule),
            ),
        )

    def _exactness(self, rule: VerifyRule) -> dict[str, Any]:
        """Whether one text is exact: equal logits make equal texts only where the rule's choice ignores the draft."""
        if self.info.exact and not rule.drafter_invariant:
            return {"exact": False, "exact_reason": f"rule {rule.name} keeps the law of the text, not the text"}
        return {"exact": self.info.exact, "exact_reason": self.info.exact_reason}


def open_session(config: Config, prompts: Sequence[Prompt] = (), phases: Phases | None = None) -> Session:
    """Loads what `config` names and returns a session; raises a HelixError that says what is wrong.

    `prompts` are those that will be asked: one that cannot run is refused before any weight is read. `phases` goes on
    timing the start of the program, where the caller does.
    """
    from helix_cli.assembly import assemble
    from helix_cli.rewiring import Rewiring

    phases = phases or Phases()
    loaded, wired = assemble(config, prompts, phases)
    return Session(wired, loaded.tokenizer, loaded.stop_flag, phases, Rewiring(loaded))


def prompt_tokens(tokenizer: Tokenizer, prompt: Prompt) -> list[int]:
    """The token ids of a prompt; messages go through the model's chat template."""
    if prompt.tokens is not None:
        return list(prompt.tokens)
    if prompt.messages is not None:
        return tokenizer.encode_chat([dict(message) for message in prompt.messages])
    return tokenizer.encode(prompt.text or "")
