"""The best setting, its reason, and what is shown of it."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from helix_cli.bench.measure import Measured, by_job, measure
from helix_cli.bench.plot import image
from helix_cli.bench.sweep.schema import Sweep
from helix_cli.bench.sweep.standing import is_enough, standing
from helix_cli.bench.sweep.tables import explain, sweep_page, to_csv
from helix_cli.bench.workloads import Job
from tests.bench.sweep.made import WORK, SettingArm, sweep, swept

GOOD = {2: (0.15, 2), 4: (0.25, 2)}
"""At depth 2 three tokens in the time of 1.5 steps; depth 4 drafts two more for nothing."""


def test_the_best_setting_is_the_one_that_is_fastest_in_all() -> None:
    made = sweep(GOOD)
    assert made.choice is not None and (made.choice.drafter, made.choice.k) == ("model", 2)
    assert [one.workload for one in made.best] == ["all", "chat", "code"]
    assert made.verdict.startswith("Best setting: drafter model, K = 2. Speculation pays here: ")
    gain = next(one for one in made.gains if (one.workload, one.k) == ("all", 2))
    assert gain.speed_up is not None and gain.speed_up.ratio == pytest.approx(3 * 0.1 / 0.15)
    assert gain.predicted == pytest.approx(gain.speed_up.ratio, rel=0.1) and gain.expected_tokens == pytest.approx(3.0)
    assert gain.speed_up.num_pairs == 12 and made.margin == 0.0


@pytest.mark.parametrize(
    ("rounds", "reason"),
    [
        ({2: (0.35, 2), 4: (0.5, 2)}, "verification is too dear"),
        ({2: (0.16, 0), 4: (0.2, 0)}, "acceptance is too low"),
    ],
)
def test_depth_zero_may_win_and_says_why(rounds: dict[int, tuple[float, int]], reason: str) -> None:
    made = sweep(rounds)
    assert made.choice is not None and (made.choice.arm, made.choice.k) == ("plain", 0)
    assert made.verdict.startswith("Best setting: K = 0, plain decoding. Speculation does not pay here: ")
    assert reason in made.verdict and "model K=2 came closest" in made.verdict


def fail_on(name: str, message: str) -> object:
    def spoil(arms: list[SettingArm]) -> None:
        def trouble(job: Job) -> None:
            raise RuntimeError(message)

        next(arm for arm in arms if arm.name == name).before = trouble

    return spoil


def test_a_setting_that_fails_is_out_and_cannot_be_the_best() -> None:
    made = sweep(GOOD, fail_on("model K=2", "no room"))  # type: ignore[arg-type]
    assert made.failed and made.choice is not None and made.choice.k == 4
    assert "model K=2" not in {one.arm for one in made.gains}
    assert "RuntimeError: no room" in str(sweep_page(made).tables[-1].rows)


def test_without_plain_decoding_nothing_is_best() -> None:
    made = sweep(GOOD, fail_on("plain", "no room"))  # type: ignore[arg-type]
    assert made.choice is None and made.margin is None and "nothing to compare" in made.verdict
    assert all(one.speed_up is None and one.predicted is None for one in made.gains)
    sweep_page(made).figure()


def test_it_is_written_and_read_back(tmp_path: Path) -> None:
    made = sweep(GOOD)
    page = sweep_page(made)
    assert Sweep.model_validate_json(page.json()) == made
    lines = list(csv.DictReader(io.StringIO(to_csv(made))))
    assert len(lines) == 9 and {line["workload"] for line in lines} == {"all", "chat", "code"}
    best = next(line for line in lines if line["workload"] == "all" and line["k"] == "2")
    assert float(best["speed_up"]) == pytest.approx(2.0) and float(best["predicted"]) == pytest.approx(2.0, rel=0.1)
    marked = [row for row in page.tables[0].rows if row[-1] == "best"]
    assert [row[1] for row in marked] == ["model K=2"]
    assert page.tables[0].shares == pytest.approx((0.5, 1.0, 0.6))
    for ending in (".png", ".svg", ".html"):
        file = tmp_path / f"x{ending}"
        content = image(page.figure(), file, page.title, page.lines, page.tables)
        assert len(content) > 1000


def test_the_chart_shows_a_panel_for_each_kind_of_work() -> None:
    panels = [axes for axes in sweep_page(sweep(GOOD)).figure().axes if axes.get_visible()]
    assert [axes.get_title() for axes in panels] == ["all", "chat", "code"]
    assert panels[0].get_ylim() == pytest.approx((0.0, 2.6))


def test_jobs_take_turns_across_kinds_of_work() -> None:
    order: list[str] = []

    def note(arms: list[SettingArm]) -> None:
        arms[0].before = lambda job: order.append(job.id)

    swept(GOOD, note)
    assert order[1:5] == ["chat-0", "code-0", "chat-1", "code-1"]


def measured_until(least: float) -> tuple[Measured, int]:
    plan, arms, _ = swept(GOOD)

    def enough(measured: Measured) -> bool:
        found = standing(measured, plan.settings, WORK)
        return is_enough(measured, plan.settings, WORK, found, least)

    measured = measure(arms, WORK, 1, lambda arm, workload, run: None, enough, by_job)
    return measured, len(measured.runs["plain", "chat"])


def test_it_ends_when_nothing_can_be_faster() -> None:
    # Every prompt gives the same ratios here, so three of each kind say all.
    _, prompts = measured_until(0.03)
    assert prompts == 3


def test_a_close_race_runs_to_the_end() -> None:
    def noisy(arms: list[SettingArm]) -> None:
        def at(arm: SettingArm, even: float, odd: float) -> None:
            def before(job: Job) -> None:
                arm.round_s = even if int(job.id[-1]) % 2 else odd

            arm.before = before

        at(arms[1], 0.15, 0.2)
        at(arms[2], 0.2, 0.15)

    plan, _, measured = swept({2: (0.15, 2), 4: (0.15, 2)}, noisy)
    found = standing(measured, plan.settings, WORK)
    assert found is not None and found.margin is not None and found.margin > 0.1
    assert not is_enough(measured, plan.settings, WORK, found, 0.03)
    made = sweep({2: (0.15, 2), 4: (0.15, 2)}, noisy)
    assert any("Another setting may still be" in line for line in explain(made))
