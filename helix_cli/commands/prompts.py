"""Reads prompts: from an argument, a file and stdin together, or many from a file of JSON lines."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn, TypeGuard

from helix_cli.errors import InputError
from helix_cli.prompt import Prompt, decoded, is_unicode, read_text

STDIN = "-"
LINE_KEYS = ("prompt", "messages", "id", "max_tokens", "priority")
ROLES = ("system", "user", "assistant")


def read_prompt(argument: str | None, file: Path | None, chat: bool) -> Prompt:
    """One prompt: what the file, the argument and piped stdin hold, in this order, a line each.

    The file comes first, so that another question about it shares its beginning (see cache/kept.py).

    A line end at the very end of a file or of stdin is the editor's or the shell's and not part of the prompt. With
    `chat` the text is a user's message. Raises InputError.
    """
    parts = [] if file is None else [_without_line_end(read_text(file))]
    if argument is not None and argument != STDIN:
        parts.append(argument)
    if argument == STDIN or _is_piped():
        parts.append(_without_line_end(_read_stdin()))
    text = "\n".join(part for part in parts if part)
    if not text.strip():
        raise InputError("There is no prompt.", 'Write one after the command, for example "def quicksort(items):".')
    if not is_unicode(text):
        raise InputError("The prompt is not valid Unicode text.", "Give it as UTF-8, on stdin or in a file.")
    return Prompt(0, *_asked(text, chat))


def read_prompts(file: Path, chat: bool) -> list[Prompt]:
    """The prompts of a file of JSON lines (`-` is stdin), in order. Raises InputError that names the first bad line."""
    text = _read_stdin() if str(file) == STDIN else read_text(file)
    name = "stdin" if str(file) == STDIN else str(file)
    prompts: list[Prompt] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            prompts.append(_read_line(line, len(prompts), chat, f"Line {number} of {name}"))
    if not prompts:
        raise InputError(f"There is no prompt in {name}.", 'Write lines such as {"prompt": "Once upon a time"}.')
    return prompts


def _read_line(line: str, index: int, chat: bool, where: str) -> Prompt:
    content = _object(line, where)
    if ("prompt" in content) == ("messages" in content):
        _refuse(where, "needs either prompt or messages", 'Write {"prompt": "..."} or {"messages": [...]}.')
    if chat and "messages" in content:
        _refuse(where, "already holds messages, so --chat cannot take effect", "Leave --chat out, or give a prompt.")
    asked = _question(content["prompt"], chat, where) if "prompt" in content else _messages(content["messages"], where)
    return Prompt(
        index,
        *asked,
        content.get("id"),
        _whole_number(content, "max_tokens", where, at_least=1),
        _whole_number(content, "priority", where) or 0,
    )


Question = tuple[str | None, tuple[Mapping[str, str], ...] | None]
"""The text and the messages of a prompt, one of which is None."""


def _asked(text: str, chat: bool) -> Question:
    return (None, ({"role": "user", "content": text},)) if chat else (text, None)


def _question(text: Any, chat: bool, where: str) -> Question:
    if not _is_text(text) or not text.strip():
        _refuse(where, "has a prompt that is not a text or is empty", 'Write a text, as in {"prompt": "..."}.')
    return _asked(text, chat)


def _object(line: str, where: str) -> dict[str, Any]:
    """The JSON object of a line, with no key that would be ignored."""
    hint = 'Write one object a line, as {"prompt": "..."}.'
    try:
        content = json.loads(line, parse_constant=_no_constant)
        # A number beyond all floats is read as infinity, which the result could not repeat.
        json.dumps(content, allow_nan=False)
    except json.JSONDecodeError as error:
        _refuse(where, f"is not JSON: {error.msg} at column {error.colno}", hint)
    except (ValueError, RecursionError):
        _refuse(where, "is not JSON", hint)
    if not isinstance(content, dict):
        _refuse(where, "is not an object", hint)
    for key in content:
        if key not in LINE_KEYS:
            close = get_close_matches(key, LINE_KEYS, n=1)
            known = f"Did you mean {close[0]}?" if close else f"A line may hold {', '.join(LINE_KEYS)}."
            _refuse(where, f"has an unknown key {json.dumps(key)}", known)
    return content


def _no_constant(name: str) -> NoReturn:
    """NaN and Infinity are not JSON, and the result that repeats them would not be either."""
    raise ValueError(name)


def _messages(content: Any, where: str) -> Question:
    hint = 'Write {"messages": [{"role": "user", "content": "..."}]}.'
    if not isinstance(content, list) or not content:
        _refuse(where, "has messages that are not a list of messages", hint)
    for message in content:
        if not isinstance(message, dict) or set(message) != {"role", "content"}:
            _refuse(where, "has a message that is not a role and a content", hint)
        if message["role"] not in ROLES:
            role = json.dumps(message["role"])
            _refuse(where, f"has a message with an unknown role {role}", f"The roles are {', '.join(ROLES)}.")
        if not _is_text(message["content"]):
            _refuse(where, "has a message whose content is not a text", hint)
    return None, tuple(content)


def _is_text(value: Any) -> TypeGuard[str]:
    return isinstance(value, str) and is_unicode(value)


def _whole_number(content: Mapping[str, Any], key: str, where: str, at_least: int | None = None) -> int | None:
    value = content.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or (at_least is not None and value < at_least):
        limit = "" if at_least is None else f" of at least {at_least}"
        _refuse(where, f"has {key} {json.dumps(value)}", f"{key} is a whole number{limit}.")
    return value


def _refuse(where: str, what: str, hint: str) -> NoReturn:
    raise InputError(f"{where} {what}.", hint)


def _is_piped() -> bool:
    return sys.stdin is not None and not sys.stdin.closed and not sys.stdin.isatty()


def _read_stdin() -> str:
    """All of stdin; a closed one is empty."""
    return "" if sys.stdin is None else decoded(sys.stdin.buffer.read(), "stdin")


def _without_line_end(text: str) -> str:
    return text.removesuffix("\n")
