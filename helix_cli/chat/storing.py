"""Conversations on disk: JSON with `messages`, written whole or not at all, in the user's data directory."""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from helix_cli.chat.conversation import Conversation, from_messages
from helix_cli.errors import InputError
from helix_cli.prompt import read_text

DIRECTORY_VARIABLE = "HELIX_DATA_DIR"
FOLDER = "chats"


def data_directory() -> Path:
    """$HELIX_DATA_DIR, or the system's place for a user's data."""
    chosen = os.environ.get(DIRECTORY_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    from platformdirs import user_data_path

    return user_data_path("helix-cli", appauthor=False)


def new_file() -> Path:
    """Where a conversation that begins now is kept; names sort by time."""
    return data_directory() / FOLDER / f"{datetime.now():%Y-%m-%d-%H%M%S}-{os.getpid()}.json"


def latest_file() -> Path:
    """The conversation that was written last. Raises InputError when there is none."""
    found = list((data_directory() / FOLDER).glob("*.json"))
    if not found:
        raise InputError("There is no conversation to continue.", "Begin one with `helix chat`.")
    return max(found, key=lambda file: (file.stat().st_mtime_ns, file.name))


def write_conversation(file: Path, conversation: Conversation, model: str) -> None:
    """Replaces `file` by the conversation; a crash leaves the old one or the new one. Raises OSError."""
    content = {"model": model, "messages": conversation.messages()}
    file.parent.mkdir(parents=True, exist_ok=True)
    # What is said in private is readable by its owner alone, which is how mkstemp makes a file.
    handle, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as stream:
            json.dump(content, stream, ensure_ascii=False, indent=1)
            stream.write("\n")
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(name, file)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise


def read_conversation(file: Path) -> Conversation:
    """The conversation in `file`: an object with `messages`, or the list alone. Raises InputError."""
    try:
        content: Any = json.loads(read_text(file))
    except (ValueError, RecursionError):
        raise InputError(f"{file} is not JSON.", "Give a file that /save or --save has written.") from None
    messages = content.get("messages") if isinstance(content, dict) else content
    if not isinstance(messages, list):
        raise InputError(f"{file} holds no messages.", 'Write {"messages": [{"role": "user", "content": "..."}]}.')
    return from_messages(messages, str(file))
