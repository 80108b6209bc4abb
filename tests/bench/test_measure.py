"""Arms that take turns, fail, refuse and are interrupted."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from helix_cli.bench.arms import Arm, NotPossible
from helix_cli.bench.figures import SPEEDS, speed_up
from helix_cli.bench.measure import WARM_TOKENS, Measured, measure, never, planned_runs
from helix_cli.bench.reporting import build_report
from helix_cli.bench.schema import Text
from helix_cli.bench.workloads import Job, Workload
from helix_cli.errors import Interrupted, ModelError
from tests.bench.made import CONDITION, MadeUpArm, plain_text

WORK = Workload("chat", "task", tuple(Job(f"chat-{at}", ((1, 2, 3),), 16) for at in range(4)))
OTHER = Workload("code", "task", (Job("code-0", ((1, 2),), 16),))


def measured_by(*arms: Arm, rounds: int = 2, work: tuple[Workload, ...] = (WORK, OTHER)) -> Measured:
    return measure(arms, work, rounds, lambda arm, workload, run: None, never)


def test_arms_take_turns_job_by_job_in_alternating_order() -> None:
    order: list[str] = []

    def noting(name: str) -> Callable[[Job], None]:
        return lambda job: order.append(f"{name} {job.id}") if job.max_tokens > WARM_TOKENS else None

    measured = measured_by(MadeUpArm("a", noting("a")), MadeUpArm("b", noting("b")))
    assert order[:6] == ["a chat-0", "b chat-0", "b chat-1", "a chat-1", "a chat-2", "b chat-2"]
    # Five jobs a round: in the second round every job's order is the other way round.
    assert order[10:12] == ["b chat-0", "a chat-0"]
    assert len(measured.runs["a", "chat"]) == len(measured.runs["b", "chat"]) == 8
    assert [run.round for run in measured.runs["a", "code"]] == [0, 1]


class DriftingArm(MadeUpArm):
    """Takes as long as the machine does now; with every text the machine becomes slower."""

    def __init__(self, name: str, machine: list[float]) -> None:
        super().__init__(name)
        self.machine = machine

    def run(self, job: Job) -> list[Text]:
        self.machine[0] *= 1.05
        return [plain_text(job.max_tokens, self.machine[0])]


def test_a_machine_that_slows_down_favours_no_arm() -> None:
    machine = [0.001]
    work = Workload("chat", "task", tuple(Job(f"{at}", ((1,),), 16) for at in range(12)))
    measured = measured_by(DriftingArm("plain", machine), DriftingArm("speculative", machine), work=(work,))
    gain = speed_up(measured.runs["speculative", "chat"], measured.runs["plain", "chat"], SPEEDS["task"])
    assert gain is not None and gain.low is not None and gain.high is not None
    assert gain.ratio == pytest.approx(1.0, abs=0.01) and gain.low < 1.0 < gain.high
    # One arm after the other, the same machine would have called the second one far slower.
    one_after_the_other = measured_by(DriftingArm("a", [0.001]), work=(work,)).runs["a", "chat"]
    first, last = (SPEEDS["task"](run) or 0.0 for run in (one_after_the_other[0], one_after_the_other[-1]))
    assert last / first < 0.5


def test_an_arm_that_fails_has_a_message_and_no_number() -> None:
    def trouble(job: Job) -> None:
        if job.id == "code-0":
            raise RuntimeError("out of\n luck")

    good, bad = MadeUpArm("plain"), MadeUpArm("speculative", trouble)
    measured = measured_by(good, bad)
    assert [(one.arm, one.workload, one.message) for one in measured.problems] == [
        ("speculative", None, "RuntimeError: out of luck")
    ]
    assert {arm for arm, _ in measured.runs} == {"plain"} and len(measured.runs["plain", "chat"]) == 8
    assert bad.asked[-1] == "code-0", "a failed arm is asked no more"
    made = build_report(measured, [good, bad], [WORK, OTHER], command="", rounds=2, condition=CONDITION)
    assert made.failed and {one.arm for one in made.rows} == {"plain"}


def test_an_arm_that_cannot_load_is_out_and_the_others_go_on() -> None:
    bad = MadeUpArm("transformers")

    def refuse() -> None:
        raise ModelError("No such model.", "Look again.")

    bad.opening = refuse
    measured = measured_by(MadeUpArm("plain"), bad)
    assert [one.message for one in measured.problems] == ["No such model."]
    assert bad.asked == [] and len(measured.runs["plain", "chat"]) == 8
    assert "transformers" not in measured.load_s


def test_a_text_of_another_length_is_a_failure() -> None:
    class Short(MadeUpArm):
        def run(self, job: Job) -> list[Text]:
            return [plain_text(5)]

    measured = measured_by(Short("plain"))
    assert measured.has_failed("plain") and "16 each were asked for" in measured.problems[0].message


def test_what_is_not_possible_is_no_failure_and_no_number() -> None:
    def refuse(job: Job) -> None:
        if job.id == "code-0":
            raise NotPossible("one at a time")

    arms = [MadeUpArm("plain"), MadeUpArm("transformers", refuse)]
    deep = Workload("tg8@d999", "shape", impossible="needs 1007 positions")
    measured = measured_by(*arms, work=(WORK, OTHER, deep))
    assert not any(one.is_failure for one in measured.problems)
    said = {(one.arm, one.workload, one.message) for one in measured.problems}
    reason = "needs 1007 positions"
    assert said == {
        ("plain", deep.name, reason),
        ("transformers", deep.name, reason),
        ("transformers", "code", "one at a time"),
    }
    made = build_report(measured, arms, [WORK, OTHER, deep], command="", rounds=2, condition=CONDITION)
    assert not made.failed and ("transformers", "chat") in {(one.arm, one.workload) for one in made.rows}
    assert deep.name not in {one.workload for one in made.rows}


@pytest.mark.parametrize("kind", [Interrupted, KeyboardInterrupt])
def test_ctrl_c_keeps_what_is_finished(kind: type[BaseException]) -> None:
    def stop(job: Job) -> None:
        if job.id == "chat-2":
            raise kind

    arms = [MadeUpArm("plain"), MadeUpArm("speculative", stop)]
    measured = measured_by(*arms)
    assert measured.interrupted and not measured.problems
    assert [run.job for run in measured.runs["plain", "chat"]] == ["chat-0", "chat-1", "chat-2"]
    assert [run.job for run in measured.runs["speculative", "chat"]] == ["chat-0", "chat-1"]
    made = build_report(measured, arms, [WORK, OTHER], command="", rounds=2, condition=CONDITION)
    gain = next(one.figures.speed_up for one in made.rows if one.arm == "speculative")
    assert gain is not None and gain.num_pairs == 2 and made.interrupted


def test_warm_up_and_load_are_apart() -> None:
    arm = MadeUpArm("plain", lambda job: time.sleep(0.02) if job.max_tokens == WARM_TOKENS else None)
    measured = measured_by(arm)
    assert arm.asked[0] == "code-0", "the shortest job warms up"
    assert measured.load_s == {"plain": 0.25} and measured.warm_up_s["plain"] >= 0.02
    assert len(measured.runs["plain", "code"]) == 2


def test_rounds_end_when_there_is_enough() -> None:
    calls: list[str] = []
    arms = [MadeUpArm("plain")]
    measured = measure(arms, [WORK], 9, lambda arm, workload, run: calls.append(arm), lambda found: len(calls) >= 8)
    assert len(measured.runs["plain", "chat"]) == 8
    assert planned_runs(arms, [WORK], 9) == 36
