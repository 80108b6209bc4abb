"""Chats over tiny models on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from helix_cli.chat.chat import Chat
from helix_cli.chat.conversation import Conversation
from helix_cli.chat.settings import Settings
from helix_cli.commands.settings import OPTIONS
from helix_cli.core import FinishedEvent
from helix_cli.drafter_choice import WITH_A_MODEL
from helix_cli.session import open_session
from tests.tiny import tiny_checkpoint, tiny_tokenizer


def save_pair(directory: Path, **config: Any) -> tuple[Path, Path]:
    """A target and a draft with one tokenizer."""
    target = tiny_checkpoint(directory / "target", **config)
    draft = tiny_checkpoint(directory / "draft", seed=1, **({"num_hidden_layers": 1} | config))
    for path in (target, draft):
        tiny_tokenizer(path)
    return target, draft


def open_chat(
    pair: tuple[Path, Path],
    *overrides: str,
    drafter: str = "model",
    conversation: Conversation | None = None,
    file: Path | None = None,
) -> tuple[Chat, list[str]]:
    """A chat over the pair, and what it tells; blocks of 4 tokens, answers of 12, sampled."""
    names = {flag[2:]: key for flag, (key, _) in OPTIONS.items()}
    base = [f"model.path={pair[0]}", f"draft.kind={drafter}"]
    base += [f"draft.path={pair[1]}"] if drafter in WITH_A_MODEL else []
    base += ["backend.threads=1", "cache.block_size=4", "sampling.max_tokens=12", "sampling.temperature=1.0"]
    chosen = {override.partition("=")[0]: override for override in (*base, "sampling.seed=3", *overrides)}
    told: list[str] = []
    settings = Settings(None, tuple(chosen.values()), names, told.append)
    session = open_session(settings.config)
    return Chat(session, settings, conversation or Conversation(), file, told.append), told


def ask(chat: Chat, question: str, replace: bool = False) -> FinishedEvent:
    """The end of the answer; nothing may be left in the engine."""
    *_, last = chat.ask(question, replace)
    assert isinstance(last, FinishedEvent)
    chat.session.check()
    check = getattr(chat.session.engine.drafter, "check", None)
    if check is not None:
        check()
    return last
