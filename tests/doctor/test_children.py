"""Processes that answer, abort, hang and fail: the parent lives and says which."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from helix_cli.doctor.children import Answer, ask

WELL = (
    'print("a library says hello"); print(\'{"trying": "x"}\'); print(\'{"a": 1}\'); print(\'{"a": 2}\'); print("[1]")'
)
ABORTS = 'import os\nprint(\'{"present": true}\')\nprint(\'{"trying": "bfloat16"}\', flush=True)\nos.abort()'
HANGS = 'import time\nprint(\'{"trying": "the device"}\', flush=True)\ntime.sleep(60)'
FAILS = 'raise OSError("libd3d12.so: cannot open shared object file")'


@pytest.fixture
def questions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Modules that behave so, and the questions that run them."""
    sources = {"well": WELL, "aborts": ABORTS, "hangs": HANGS, "fails": FAILS}
    for name, source in sources.items():
        (tmp_path / f"child_{name}.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return {name: [f"child_{name}"] for name in sources}


def test_every_end_is_told(questions: dict[str, list[str]]) -> None:
    del questions["hangs"]
    answers = ask(questions, timeout_s=300.0)
    well = answers["well"]
    assert well.failure is None and well.get("a") == 2 and well.get("b") is None
    assert answers["aborts"].get("present") is True
    assert answers["aborts"].failure is not None and "was aborted (code -6)" in answers["aborts"].failure
    assert answers["aborts"].failure.endswith("while it tried bfloat16")
    assert answers["fails"].failure == "OSError: libd3d12.so: cannot open shared object file"


def test_one_that_hangs_costs_its_own_answer_only(questions: dict[str, list[str]]) -> None:
    started = time.monotonic()
    answers = ask({"hangs": questions["hangs"], "too": questions["hangs"]}, timeout_s=5.0)
    assert all("it gave no answer within 5 s" in str(one.failure) for one in answers.values())
    assert time.monotonic() - started < 55, "they are ended, and at the same time"


def test_a_module_that_is_not_there() -> None:
    assert "No module named" in str(ask({"none": ["no_such_module"]})["none"].failure)


def test_the_last_value_counts() -> None:
    assert Answer(({"x": 1}, {"y": 3}, {"x": 2}), None).get("x") == 2
