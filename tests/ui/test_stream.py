"""The three ways to show a stream of text."""

from __future__ import annotations

import json
import re

import pytest

from helix_cli.core import FinishReason
from helix_cli.ui.console import Screen
from helix_cli.ui.stream import JsonRenderer, LiveRenderer, PlainRenderer, Renderer, open_renderer, summary
from tests.ui.screens import INFO, finished_event, screen, text_event

COLOURED = re.compile(r"\x1b\[(\d+)m(.*?)\x1b\[0m", re.DOTALL)


@pytest.fixture(autouse=True)
def a_real_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kind that the made-up ones pretend to be."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("NO_COLOR", raising=False)


def run(renderer: Renderer, text: str = "\x1b[1mHello\n") -> None:
    """A run of one short text, in two events."""
    renderer.started(INFO)
    renderer.text(text_event((text[:3], False)))
    renderer.text(text_event((text[3:5], True), ("", True), (text[5:], False)))
    renderer.finished(finished_event(text=text))
    renderer.close()


@pytest.mark.parametrize(
    ("terminal", "as_json", "kind"),
    [
        (True, False, LiveRenderer),
        (False, False, PlainRenderer),
        (True, True, JsonRenderer),
        (False, True, JsonRenderer),
    ],
)
def test_the_renderer_fits_the_stream(terminal: bool, as_json: bool, kind: type) -> None:
    assert type(open_renderer(as_json, False, True, screen(terminal)[0])) is kind


def test_a_pipe_gets_the_text_and_nothing_else() -> None:
    target, out, err = screen(terminal=False)
    run(open_renderer(False, False, True, target))
    assert out.content == "\x1b[1mHello\n"
    assert "speed" in err.content and "\x1b" not in err.content
    target, out, err = screen(terminal=False)
    run(open_renderer(False, False, False, target))
    assert (out.content, err.content) == ("\x1b[1mHello\n", "")


@pytest.mark.parametrize("terminal", [True, False])
def test_the_table_knows_what_runs(terminal: bool) -> None:
    target, _, err = screen(terminal)
    run(open_renderer(False, False, True, target))
    assert "threads  " in err.content


def test_the_last_line_is_ended_once() -> None:
    target, out, _ = screen(terminal=False)
    run(open_renderer(False, False, True, target), "no newline")
    assert out.content == "no newline\n"


def test_every_event_is_written_at_once() -> None:
    target, out, _ = screen(terminal=False)
    renderer = open_renderer(False, False, True, target)
    renderer.text(text_event(("a", False)))
    assert out.buffer.getvalue() == b"a"  # type: ignore[attr-defined]
    renderer.text(text_event(("", False)))
    assert out.content == "a"


def test_statistics_are_for_the_terminal_that_stderr_is() -> None:
    target, out, err = screen(terminal=False, err_terminal=True)
    run(open_renderer(False, False, True, target))
    assert out.content == "\x1b[1mHello\n"
    assert "tok/s" in err.content
    target, _, err = screen(terminal=False, err_terminal=True)
    run(open_renderer(False, False, False, target))
    assert err.content == ""


def test_a_terminal_gets_the_text_as_it_comes_and_then_the_table() -> None:
    target, out, err = screen(terminal=True)
    run(open_renderer(False, False, True, target))
    assert out.content == "␛[1mHello\n"
    assert "org/target" in err.content
    assert "tok/s" in err.content


def test_the_draft_is_coloured() -> None:
    target, out, err = screen(terminal=True)
    run(open_renderer(False, True, False, target), "abcdef")
    shown = [("35", "abc"), ("32", "de"), ("35", "f")]
    assert COLOURED.findall(out.content) == shown
    assert COLOURED.sub(r"\2", out.content) == "abcdef\n"
    assert [name for _, name in COLOURED.findall(err.content)] == ["draft", "target"]


@pytest.mark.parametrize(("terminal", "plain"), [(False, False), (True, True)])
def test_without_colours_a_notice_says_so(capsys: pytest.CaptureFixture[str], terminal: bool, plain: bool) -> None:
    target, out, err = screen(terminal, plain=plain)
    run(open_renderer(False, True, True, target), "abcdef")
    assert "not marked" in capsys.readouterr().err
    assert out.content == "abcdef\n"
    assert "\x1b" not in err.content


def test_an_interrupted_run_says_so() -> None:
    target, _, err = screen(terminal=True)
    renderer = open_renderer(False, False, True, target)
    renderer.started(INFO)
    renderer.text(text_event(("a", False)))
    renderer.finished(finished_event(FinishReason.ABORT))
    renderer.close()
    assert "interrupted" in err.content


def test_a_run_that_fails_leaves_a_whole_line() -> None:
    target, out, _ = screen(terminal=True)
    renderer = open_renderer(False, False, True, target)
    renderer.text(text_event(("half a li", False)))
    renderer.close()
    assert out.content == "half a li\n"


def strict(line: str) -> dict[str, object]:
    """A line of JSON without NaN and infinity."""

    def refuse(name: str) -> object:
        raise AssertionError(name)

    found: dict[str, object] = json.loads(line, parse_constant=refuse)
    return found


def test_json_is_one_event_a_line() -> None:
    target, out, err = screen(terminal=False)
    run(open_renderer(True, False, True, target), "a\x1b\x9bé\n")
    started, first, second, finished = map(strict, out.content.splitlines())
    assert started == {"event": "started", **INFO}
    assert first == {"event": "text", "index": 0, "text": "a\x1b\x9b", "token_ids": [10], "drafted": [False]}
    assert (second["text"], second["token_ids"], second["drafted"]) == ("é\n", [10, 11, 12], [True, True, False])
    assert (finished["event"], finished["text"], finished["token_ids"]) == ("finished", "a\x1b\x9bé\n", [1, 2, 3, 4, 5])
    assert finished["finish_reason"] == "stop"
    assert finished["stats"] == finished_event().stats.to_dict()
    assert "\x1b" not in out.content
    assert "\x9b" not in out.content
    assert err.content == ""


def test_json_is_utf8_whatever_the_locale() -> None:
    target, out, _ = screen(terminal=False)
    latin = Screen(type(out)(False, encoding="latin-1"), target.err, False, False, False)
    open_renderer(True, False, True, latin).text(text_event(("日", False)))
    assert "日".encode() in latin.out.buffer.getvalue()  # type: ignore[attr-defined]


def test_the_summary_names_what_runs() -> None:
    assert summary(INFO) == "target org/target, draft org/draft, 4 tokens ahead; A chip, 2 threads, float32"
    facts = {"way": "shared", "shared": 1500, "target": 2000, "draft": 1800, "coverage": 0.9}
    assert "draft org/draft (shared tokens; 1,500 of 2,000" in summary(INFO | {"vocabulary": facts})
    assert summary(INFO | {"vocabulary": facts | {"way": "same"}}) == summary(INFO)
    plain = INFO | {"draft": None, "drafter": "none", "k": 0}
    assert summary(plain) == "target org/target, drafter none; A chip, 2 threads, float32"
