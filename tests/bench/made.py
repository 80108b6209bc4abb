"""Made-up runs, rows and arms with known figures, for the tests of what is computed from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from helix_cli.bench.figures import figures
from helix_cli.bench.schema import Condition, Kind, ModelFacts, Problem, Report, Row, Run, Setup, Text
from helix_cli.bench.workloads import Job

CONDITION = Condition(load_average=0.5, read_bandwidth=10e9, peak_memory=2**30)


def text(
    rounds: Sequence[tuple[int, int]],
    times: tuple[float, float, float] = (0.0, 0.1, 0.0),
    first_s: float = 0.5,
    wanted: Sequence[int] | None = None,
) -> Text:
    """A text of one first token and then rounds of (drafted, accepted), each of which takes `times`.

    What was drafted had been asked for, unless `wanted` says otherwise.
    """
    commits = [(first_s, 1)]
    for _, accepted in rounds:
        commits.append((commits[-1][0] + sum(times), accepted + 1))
    return Text(
        num_prompt_tokens=8,
        token_ids=tuple(range(sum(count for _, count in commits))),
        commits=tuple(commits),
        drafted=tuple(drafted for drafted, _ in rounds),
        accepted=tuple(accepted for _, accepted in rounds),
        wanted=tuple(drafted for drafted, _ in rounds) if wanted is None else tuple(wanted),
        rounds=(times,) * len(rounds),
        block_size=4,
        peak_blocks=5,
        peak_positions=18,
    )


def plain_text(num_tokens: int, step_s: float = 0.1) -> Text:
    """A text that was decoded plainly."""
    return text([(0, 0)] * (num_tokens - 1), (0.0, step_s, 0.0))


def run(job: str, *texts: Text, round: int = 0) -> Run:
    """The texts of one job, which took as long as the longest."""
    return Run(job=job, round=round, elapsed_s=max(one.commits[-1][0] for one in texts), texts=texts)


def setup(**changes: Any) -> Setup:
    """A setup of Helix with a draft."""
    model = ModelFacts(name="target", sha256="0" * 64, weights="float32", weight_bytes=1000)
    values: dict[str, Any] = {
        "engine": "helix",
        "target": model,
        "draft": model.model_copy(update={"name": "draft", "weight_bytes": 100}),
        "drafter": "model",
        "k": 4,
        "rule": "greedy",
        "exact": False,
        "device": "a chip",
        "dtype": "float32",
        "threads": 2,
        "seed": 0,
        "config": {"draft": {"k": 4}},
        "versions": {"helix": "1"},
        "hardware": {"system": "Linux", "python": "3.11"},
        "kv_block_bytes": 64,
        "context": 128,
    }
    return Setup(**(values | changes))


def plain_setup() -> Setup:
    """The same without a draft."""
    return setup(draft=None, drafter="none", k=0)


def row(arm: str, workload: str, runs: Sequence[Run], plain: Sequence[Run], kind: Kind = "task") -> Row:
    """A row with its figures."""
    about = plain_setup() if arm == "plain" else setup()
    found = figures(kind, runs, plain, runs, about, bandwidth=10e3)
    assert found is not None
    return Row(arm=arm, workload=workload, kind=kind, batch=1, setup=about, figures=found, runs=tuple(runs))


def report(
    speculative_s: float = 0.15, jobs: int = 3, problems: Sequence[Problem] = (), condition: Condition = CONDITION
) -> Report:
    """Plain steps of 0.1 s against rounds of three tokens that take `speculative_s`, a little different by job."""
    plain = [run(f"job {at}", plain_text(13, 0.1 + 0.001 * at)) for at in range(jobs)]
    rounds = [(4, 2)] * 4
    drafted = [run(f"job {at}", text(rounds, (0.04, speculative_s - 0.05 + 0.002 * at, 0.01))) for at in range(jobs)]
    rows = (row("plain", "chat", plain, plain), row("speculative", "chat", drafted, plain))
    return Report(
        created="2026-01-01T00:00:00+00:00",
        command="helix bench",
        rounds=1,
        interrupted=False,
        load_s={"plain": 1.0},
        warm_up_s={"plain": 0.1},
        rows=rows,
        problems=tuple(problems),
        condition=condition,
        verdict="A verdict.",
    )


class MadeUpArm:
    """An arm that answers at once; `before` runs before each job, and may raise."""

    def __init__(self, name: str, before: Callable[[Job], None] = lambda job: None) -> None:
        self.name = name
        self.asked: list[str] = []
        self.opening: Callable[[], None] = lambda: None
        self._before = before

    def open(self) -> float:
        self.opening()
        return 0.25

    def run(self, job: Job) -> list[Text]:
        self.asked.append(job.id)
        self._before(job)
        return [plain_text(job.max_tokens) for _ in job.prompts]

    def setup(self) -> Setup:
        return plain_setup() if self.name == "plain" else setup()
