"""What the start is measured with: processes in turns, phases added up, medians of differences."""

import subprocess

import pytest

from scripts.measure_start import Arm, measure, phase_line, phases_in, table


def test_parts_of_a_phase_add_up_and_other_lines_do_not_count() -> None:
    text = "import: 0.250 s\nconfig: 0.001 s\nimport: 1.000 s\nA note: of 3 s kinds\nfirst token: 0.030 s\n"
    assert phases_in(text) == {"import": 1.25, "config": 0.001, "first token": 0.03}


def test_the_arms_take_turns_after_a_warm_round(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    monkeypatch.setattr(Arm, "run", lambda arm: order.append(arm.arguments[0]))
    measure({"one": Arm(["a"]), "other": Arm(["b"])}, rounds=2)
    assert order == ["a", "b"] * 3


def test_a_run_is_a_process_with_phases() -> None:
    arm = Arm(
        ["-c", "import os, sys; assert os.environ['HELIX_DEBUG']; print(1); print('import: 2.5 s', file=sys.stderr)"]
    )
    arm.run()
    assert arm.phases == [{"import": 2.5}] and arm.first_byte_s[0] > 0.0 and arm.cpu_s[0] > 0.0


def test_a_run_that_fails_is_no_figure() -> None:
    arm = Arm(["-c", "raise SystemExit(3)"])
    with pytest.raises(subprocess.CalledProcessError):
        arm.run()
    assert arm.first_byte_s == []


def test_differences_are_taken_round_by_round() -> None:
    base = Arm([], [1.0, 2.0, 9.0], [1.0, 1.0, 1.0])
    other = Arm([], [1.5, 2.25, 9.25], [2.0, 3.0, 4.0], [{"import": 1.0}, {"import": 3.0}, {"import": 2.0}])
    assert table({"base": base, "other": other}, "base").splitlines()[2:] == [
        "| base | 2.00 (1.00 to 9.00) | +0.00 | 1.00 |",
        "| other | 2.25 (1.50 to 9.25) | +0.25 | 3.00 |",
    ]
    assert phase_line(other) == "import 2.000"
