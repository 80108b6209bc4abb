"""What a benchmark writes and reads back: the report, its rows, and the raw samples they were computed from.

docs/benchmarks.md describes the fields. A change that an older reader would misunderstand raises SCHEMA_VERSION.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict

from helix_cli.stats import Trace

SCHEMA_VERSION: Final = 1

Kind = Literal["prompt", "shape", "task", "batch"]
"""Of a workload: pp shapes read a prompt, tg shapes and tasks write one text at a time, batches several together."""


class Record(BaseModel):
    """What all parts share: nothing changes later, nothing unknown is accepted, no NaN and no infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Text(Record):
    """One generated text as raw counts; times are seconds since the text was asked for."""

    num_prompt_tokens: int
    num_reused: int = 0
    """Prompt tokens found in the cache."""
    token_ids: tuple[int, ...]
    commits: tuple[tuple[float, int], ...]
    """(time, number of tokens) of everything that came at once."""
    drafted: tuple[int, ...] = ()
    """Tokens proposed in each round after the first token; empty where the engine does not tell."""
    accepted: tuple[int, ...] = ()
    wanted: tuple[int, ...] = ()
    """Tokens asked for in each of those rounds; a drafter may have fewer to propose."""
    rounds: tuple[tuple[float, float, float], ...] = ()
    """(draft, target, other) seconds of each of those rounds."""
    block_size: int = 1
    peak_blocks: int = 0
    peak_positions: int = 0

    @classmethod
    def of(cls, trace: Trace, token_ids: tuple[int, ...]) -> Text:
        """The text that an engine has traced."""
        return cls(
            num_prompt_tokens=trace.num_prompt_tokens,
            num_reused=trace.num_reused,
            token_ids=token_ids,
            commits=tuple((time - trace.submitted, count) for time, count in trace.commit_times),
            drafted=tuple(trace.drafted),
            accepted=tuple(trace.accepted),
            wanted=tuple(trace.wanted),
            rounds=tuple(trace.round_times),
            block_size=trace.block_size,
            peak_blocks=trace.peak_blocks,
            peak_positions=trace.peak_positions,
        )

    def trace(self) -> Trace:
        """The trace again: every arm's numbers are made of it by the same definitions."""
        trace = Trace(self.num_prompt_tokens, self.block_size, submitted=0.0, num_reused=self.num_reused)
        for time, count in self.commits:
            trace.record_commit(time, count)
        for times, *counts in zip(self.rounds, self.drafted, self.accepted, self.wanted, strict=True):
            trace.record_time(*times)
            trace.record_round(*counts)
        trace.record_blocks(self.peak_blocks, self.peak_positions)
        return trace


class Run(Record):
    """The texts of one job, which were generated together."""

    job: str
    """What was asked; the same job of another arm or another report is its pair."""
    round: int
    elapsed_s: float
    """From asking to the last token of the last text."""
    peak_memory: int | None = None
    """The most bytes that were resident meanwhile, the models of all arms among them; None where nobody says."""
    texts: tuple[Text, ...]


class ModelFacts(Record):
    """A checkpoint, and how its matrices are stored."""

    name: str
    sha256: str
    weights: str
    weight_bytes: int
    """What one pass reads of them."""


class Setup(Record):
    """Everything that a second measurement of a row needs to be the same."""

    engine: str
    target: ModelFacts
    draft: ModelFacts | None
    drafter: str
    k: int | str
    rule: str
    exact: bool
    device: str
    dtype: str
    threads: int
    seed: int | None
    config: dict[str, Any]
    """The settings that apply; empty for another engine."""
    versions: dict[str, str]
    hardware: dict[str, Any]
    kv_block_bytes: int | None
    """Keys and values of one block in all models of the arm; None where the engine has no blocks."""
    context: int


class Interval(Record):
    """A ratio with its 95 % confidence interval; `low` and `high` are None where one pair is all there is."""

    ratio: float
    low: float | None
    high: float | None
    num_pairs: int


class Costs(Record):
    """What a speculative round is made of, in units of the target's time in a plain step."""

    step_s: float
    """The unit: the target's median time in a plain step of the same workload."""
    mean_k: float
    """Tokens drafted a round."""
    c: float | None
    """One draft token."""
    v: float
    """The target's pass in a round."""
    v_by_k: dict[int, float]
    """The same, by tokens drafted in the round; 0 is a round without a draft."""
    o: float
    """Everything else in a round."""
    o_plain: float
    """Everything else in a plain step."""
    tokens_per_round: float
    expected_speed_up: float
    """tokens_per_round (1 + o_plain) / (mean_k c + v + o)."""


class Depths(Record):
    """How many tokens were asked for, over all rounds of all texts."""

    least: int
    most: int
    mean: float
    off_share: float
    """The share of rounds that asked for none."""


class Split(Record):
    """Shares of the time of decoding; they sum to 1."""

    draft: float
    target: float
    other: float


class Figures(Record):
    """The numbers of a row; None where one is not defined or the engine does not tell."""

    num_texts: int
    num_tokens: int
    speed: float
    """In tokens/s: the median over runs; of batches, the tokens of all runs over their time."""
    speed_range: tuple[float, float]
    speed_up: Interval | None
    """Against the plain arm, paired by job."""
    batch_gain: Interval | None
    """Of a batch: its speed against that of the same arm's smallest batch of the same prompts, paired by round."""
    equal_texts: tuple[int, int] | None
    """How many texts have the plain arm's tokens, of how many that could be compared."""
    ttft_s: float | None
    tpot_s: float | None
    itl_p50_s: float | None
    itl_p95_s: float | None
    itl_p99_s: float | None
    acceptance_rate: float | None
    mean_acceptance_length: float | None
    acceptance_per_position: tuple[float, ...]
    depths: Depths | None
    """None where no round asked for a draft."""
    costs: Costs | None
    split: Split | None
    peak_blocks: int | None
    """Blocks that the texts of one run held together at most."""
    wasted_slots: int | None
    """Slots of those blocks that held nothing."""
    contiguous_blocks: int | None
    """Blocks that caches reserved to the context limit would have held for the same texts."""
    kv_bytes: int | None
    peak_memory: int | None
    """The largest of the runs'."""
    weight_bytes_per_round: float | None
    bandwidth_share: float | None
    """weight_bytes_per_round / time of a round / the probed bandwidth."""


class Row(Record):
    """One arm in one workload."""

    arm: str
    workload: str
    kind: Kind
    batch: int
    setup: Setup
    figures: Figures
    runs: tuple[Run, ...]


class Problem(Record):
    """What has no number, and why."""

    arm: str
    workload: str | None
    """None where the whole arm failed."""
    message: str
    is_failure: bool
    """False for what cannot be done by its nature, such as a text longer than the context."""


class Condition(Record):
    """How the machine was doing; None where it does not say or the run was cut short."""

    load_average: float | None
    read_bandwidth: float | None
    """Bytes a second that one stream over the device's memory reads."""
    peak_memory: int | None
    """Resident bytes of the process at its peak, all arms together."""


class Report(Record):
    """One benchmark."""

    schema_version: Literal[1] = SCHEMA_VERSION
    created: str
    """When, in UTC, as ISO 8601."""
    command: str
    rounds: int
    interrupted: bool
    load_s: dict[str, float]
    warm_up_s: dict[str, float]
    rows: tuple[Row, ...]
    problems: tuple[Problem, ...]
    condition: Condition
    verdict: str

    @property
    def failed(self) -> bool:
        """Whether an arm failed."""
        return any(problem.is_failure for problem in self.problems)
