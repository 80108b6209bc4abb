"""A session that answers without a model, and a way to run `helix` with it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from helix_cli.app import app
from helix_cli.config import Config
from helix_cli.core import Event, FinishedEvent, FinishReason, Piece, SamplingParams, TextEvent
from helix_cli.phases import Phases
from helix_cli.prompt import Prompt
from helix_cli.stats import RequestStats, Trace, summarise


def some_stats() -> RequestStats:
    """Plausible statistics: 3 tokens, a round that accepted 1 of 2."""
    trace = Trace(num_prompt_tokens=4, block_size=16, submitted=0.0)
    trace.record_start(0.1)
    trace.record_commit(0.2, 1)
    trace.record_round(2, 1)
    trace.record_commit(0.3, 2)
    return summarise(trace, load_s=0.5, context=128, now=0.3)


@dataclass(frozen=True)
class FakeInfo:
    """What a real session says about itself."""

    config: dict[str, Any]
    version: str = "0"
    target: str = "target"
    draft: str | None = "draft"
    device: str = "cpu"
    threads: int | None = 1
    dtype: str = "float32"
    weights: str = "float32"
    draft_weights: str | None = "float32"
    drafter: str = "model"
    k: int = 4
    rule: str = "auto"
    context: int = 1024
    block_size: int = 16
    num_blocks: int = 64
    load_s: float = 0.5
    startup: dict[str, float] = field(default_factory=lambda: {"import_s": 0.25})
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """All of it."""
        return dict(vars(self))


class FakeTokenizer:
    """A token is a character, and a turn is `<role>content`."""

    special_ids: frozenset[int] = frozenset()

    def render_chat(self, messages: Sequence[Mapping[str, str]]) -> str:
        """The conversation, open for an answer."""
        return "".join(f"<{one['role']}>{one['content']}" for one in messages) + "<assistant>"

    def encode_rendered(self, text: str) -> list[int]:
        """Code points."""
        return list(map(ord, text))

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """The characters."""
        return "".join(map(chr, ids))


@dataclass
class FakeSession:
    """Answers every prompt with its text in capitals, a word an event; `before` runs before each event."""

    config: Config
    before: Callable[[int], None] = lambda place: None
    prompts: list[Prompt] = field(default_factory=list)
    stopped: bool = False
    tokenizer: FakeTokenizer = field(default_factory=FakeTokenizer)
    seen: list[Prompt] = field(default_factory=list)
    """Every prompt so far."""

    @property
    def params(self) -> SamplingParams:
        """Those of the config, for what the tests look at."""
        return SamplingParams(max_tokens=self.config.sampling.max_tokens, seed=self.config.sampling.seed)

    def request(self, prompt: Prompt) -> None:
        """Every prompt can run."""

    def restore(self, prompt: Prompt) -> list[str]:
        """Nothing is kept on disk."""
        return []

    def keep(self, prompt: Prompt) -> list[str]:
        """Nothing is kept on disk."""
        return []

    def change(self, config: Config) -> None:
        """Another config."""
        self.config = config

    @property
    def info(self) -> FakeInfo:
        """What a real session says about itself."""
        return FakeInfo(self.config.effective())

    def interrupt(self) -> None:
        """End everything that is under way."""
        self.stopped = True

    def stream(self, prompts: Sequence[Prompt]) -> Iterator[Event]:
        """The events of all prompts, one prompt after the other."""
        self.prompts = list(prompts)
        self.seen.extend(prompts)
        self.stopped = False
        place = 0
        for prompt in prompts:
            text = ""
            for word in answer(prompt).split(" "):
                self.before(place)
                place += 1
                if self.stopped:
                    break
                piece = word if not text else f" {word}"
                text += piece
                yield TextEvent(prompt.index, (Piece(piece, len(text), drafted=bool(place % 2)),))
            reason = FinishReason.ABORT if self.stopped else FinishReason.STOP
            yield FinishedEvent(prompt.index, text, (1, 2, 3), reason, some_stats())


def answer(prompt: Prompt) -> str:
    """What the fake says."""
    if prompt.tokens is not None:
        return conversation(prompt).rpartition("<user>")[2].removesuffix("<assistant>").upper()
    asked = prompt.text if prompt.messages is None else prompt.messages[-1]["content"]
    return str(asked).upper()


def conversation(prompt: Prompt) -> str:
    """The rendered conversation of a prompt of tokens."""
    assert prompt.tokens is not None
    return FakeTokenizer().decode(prompt.tokens)


class Helix:
    """Runs the program in this process, with fake sessions; `sessions` are those it opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sessions: list[FakeSession] = []
        self.loading: Callable[[], None] = lambda: None
        self.before: Callable[[int], None] = lambda place: None
        module = ModuleType("helix_cli.session")
        module.open_session = self._open  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "helix_cli.session", module)
        monkeypatch.delenv("HELIX_DEBUG", raising=False)

    def _open(self, config: Config, prompts: Sequence[Prompt], phases: Phases) -> FakeSession:
        self.loading()
        self.sessions.append(FakeSession(config, self.before))
        return self.sessions[-1]

    def __call__(self, *arguments: str, stdin: str | bytes | None = None) -> Result:
        """The result of `helix` with these arguments; piped `stdin` is empty unless given."""
        return CliRunner().invoke(app, list(arguments), input=stdin, prog_name="helix")


def fails(result: Result, message: str, hint: str = "") -> None:
    """Asserts one sentence, one hint, exit code 2, nothing on stdout and no traceback."""
    assert result.exit_code == 2, result.output
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 2, result.stderr
    assert lines[0].startswith("Error: ") and message in lines[0]
    assert lines[1].startswith("Hint: ") and hint in lines[1]
    assert result.stdout == ""
