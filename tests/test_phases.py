"""The phases of the start: every moment belongs to one, and the age of a process is what the system says."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from helix_cli.phases import Phases, process_age

needs_boot_clock = pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="only Linux counts from its boot")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that shows its one entry."""
    now = [100.0]
    monkeypatch.setattr("helix_cli.phases.time.perf_counter", lambda: now[0])
    return now


def test_every_moment_belongs_to_one_phase(clock: list[float]) -> None:
    phases = Phases(age_s=2.0)
    clock[0] += 1.0
    phases.end("interpreter")
    clock[0] += 4.0
    phases.end("import")
    clock[0] += 8.0
    phases.end("weights")
    clock[0] += 16.0
    phases.end("import")
    assert phases.to_dict() == {"interpreter_s": 3.0, "import_s": 20.0, "weights_s": 8.0}
    assert phases.load_s == 8.0
    assert phases.process_to_first_token_s is None
    clock[0] += 32.0
    phases.end_start()
    assert phases.seconds["first_token"] == 32.0
    assert phases.process_to_first_token_s == 63.0 == sum(phases.seconds.values())


def test_a_second_first_token_is_none(clock: list[float]) -> None:
    phases = Phases(age_s=1.0)
    phases.end_start()
    clock[0] += 5.0
    phases.end_start()
    assert (phases.to_dict(), phases.process_to_first_token_s) == ({"first_token_s": 1.0}, 1.0)


def test_without_the_process_age_there_are_phases_and_no_total(clock: list[float]) -> None:
    phases = Phases()
    clock[0] += 0.5
    phases.end_start()
    assert (phases.to_dict(), phases.process_to_first_token_s) == ({"first_token_s": 0.5}, None)


def test_a_listener_hears_each_part_as_it_ends(clock: list[float]) -> None:
    lines: list[str] = []
    phases = Phases(tell=lines.append)
    for seconds in (0.25, 1.0):
        clock[0] += seconds
        phases.end("import")
    phases.end_start()
    phases.end_start()
    assert lines == ["import: 0.250 s", "import: 1.000 s", "first token: 0.000 s"]


def stat(start: object, name: str = "python") -> str:
    """A record of a process as Linux writes it; `start` is its twenty-second field."""
    return f"17 ({name}) S {' '.join(['7'] * 18)} {start} 7 7\n"


@needs_boot_clock
@pytest.mark.parametrize("name", ["python", "a) (b c", "S 1 2 3"])
def test_the_age_is_read_past_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr("helix_cli.phases.time.clock_gettime", lambda clock: 1000.0)
    file = tmp_path / "stat"
    file.write_text(stat(900 * os.sysconf("SC_CLK_TCK"), name))
    assert process_age(str(file)) == 100.0


@needs_boot_clock
@pytest.mark.parametrize("content", ["", "17 (python) S 7", stat("x"), stat(0), stat(10**15)])
def test_a_record_without_a_start_gives_no_age(tmp_path: Path, content: str) -> None:
    file = tmp_path / "stat"
    file.write_text(content)
    assert process_age(str(file)) is None


def test_a_system_that_does_not_tell_gives_no_age(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert process_age(str(tmp_path / "stat")) is None
    monkeypatch.delattr("helix_cli.phases.time.CLOCK_BOOTTIME", raising=False)
    assert process_age() is None


@needs_boot_clock
def test_this_process_grows_older() -> None:
    first = process_age()
    # It has lived for at least as long as it has computed; one tick of the kernel's clock is a hundredth.
    assert first is not None and first > time.process_time() / (os.cpu_count() or 1) - 0.02
    second = process_age()
    assert second is not None and second >= first
