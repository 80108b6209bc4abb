"""The parts of scripts/reproduce, with commands that are only looked at."""

from __future__ import annotations

import importlib.util
import shlex
from collections.abc import Sequence
from pathlib import Path

import pytest

from helix_cli.app import COMMANDS, load_command
from scripts.reproduce import PARTS, Part, main, reproduce

NEEDY = Part("needy", "Needs a pair", ("-m", "x", "PAIR/target"))
PLAIN = Part("plain", "Needs nothing", ("-m", "x"))


def test_what_is_missing_is_skipped_with_a_sentence(tmp_path: Path) -> None:
    file, asked = tmp_path / "r.md", []

    def run(arguments: Sequence[str]) -> tuple[int, str]:
        asked.append(list(arguments))
        return 0, "## Speed\n\n| a |"

    assert reproduce([NEEDY, PLAIN], {}, file, run) == []
    assert asked == [["-m", "x"]]
    text = file.read_text()
    assert "## Needs a pair\n\nSkipped: this needs --pair." in text
    assert "## Needs nothing\n\n`python -m x`\n\n### Speed\n\n| a |" in text
    assert reproduce([NEEDY], {"PAIR": "/my pair"}, file, run) == [] and asked[-1] == ["-m", "x", "/my pair/target"]


def test_a_part_that_fails_is_shown_and_the_others_go_on(tmp_path: Path) -> None:
    codes = iter((3, 0))
    failed = reproduce(
        [PLAIN, Part("other", "Other", ("-m", "y"))], {}, tmp_path / "r.md", lambda a: (next(codes), "x")
    )
    assert failed == ["plain"]
    text = (tmp_path / "r.md").read_text()
    assert "Failed with exit code 3" in text and "## Other" in text


def test_ctrl_c_keeps_what_is_finished(tmp_path: Path) -> None:
    answers = iter(["done"])

    def run(arguments: Sequence[str]) -> tuple[int, str]:
        answer = next(answers, None)
        if answer is None:
            raise KeyboardInterrupt
        return 0, answer

    with pytest.raises(KeyboardInterrupt):
        reproduce([PLAIN, PLAIN], {}, tmp_path / "r.md", run)
    assert (tmp_path / "r.md").read_text().count("done") == 1


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_every_command_exists_and_knows_its_options(part: Part) -> None:
    module, *arguments = part.arguments[1:]
    flags = {one for one in arguments if one.startswith("--")}
    if module == "helix_cli":
        assert arguments[0] in COMMANDS
        known = {name for parameter in load_command(arguments[0]).params for name in parameter.opts}
    else:
        found = importlib.util.find_spec(module)
        assert found is not None and found.origin is not None
        known = {flag for flag in flags if f'"{flag}"' in _sources(Path(found.origin))}
    assert flags <= known, flags - known


@pytest.mark.parametrize("name", ["demo", "start", "kernels", "int8", "exact", "pair-memory"])
def test_the_commands_are_those_of_the_documentation(name: str) -> None:
    [part] = [one for one in PARTS if one.name == name]
    assert f"`python {shlex.join(part.arguments)}`" in Path("docs/benchmarks.md").read_text(encoding="utf-8")


def test_a_file_that_cannot_be_written_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.argv", ["reproduce", "--output", str(tmp_path / "no" / "r.md")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2


def _sources(file: Path) -> str:
    """A script with those beside it, which may hold its options."""
    return "".join(one.read_text() for one in (file, *file.parent.glob("peers_*.py")))
