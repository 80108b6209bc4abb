"""What `compare_peers` found: the numbers of each arm, the Markdown table and the JSON. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from scripts.peer_protocol import Run
from scripts.peers_arms import Arm

GIB = 2**30
COLUMNS = (
    "engine", "weights", "draft", "tokens/s, median (range)", "against its plain", "ms a round", "tokens a round",
    "texts equal to its plain", "first token, ms", "first token of the long prompt, ms", "peak memory, GiB",
)  # fmt: skip


@dataclass
class Result:
    """Everything that one arm did. With a `problem` it has no numbers, whatever it did before."""

    arm: Arm
    runs: dict[tuple[int, int], Run] = field(default_factory=dict)
    """By round and prompt."""
    long_first_s: list[float] = field(default_factory=list)
    """Time to first token of the long prompt, once a round."""
    load_s: list[float] = field(default_factory=list)
    peak_bytes: int | None = None
    versions: dict[str, str] = field(default_factory=dict)
    problem: str = ""

    @property
    def failed(self) -> bool:
        """Whether something went wrong; a peer that nobody named is absent, which is no failure."""
        return bool(self.problem) and not self.problem.startswith("not installed")


def speed(run: Run) -> float:
    """Tokens a second: those after the first to come, over the time from the first to the last."""
    return (len(run.tokens) - run.num_first) / run.decode_s


def tokens_per_round(run: Run) -> float:
    """Tokens of one pass of the target, after the first token."""
    return (len(run.tokens) - run.num_first) / run.rounds


def numbers(result: Result, results: Sequence[Result]) -> dict[str, Any]:
    """An arm's medians and ranges over its texts; ratios and equal texts are taken text by text."""
    runs = result.runs
    plain = next((other for other in results if other.arm.plain == result.arm.plain and other.arm.k == 0), result)
    pairs = [] if plain.problem else [(run, plain.runs[key]) for key, run in runs.items() if key in plain.runs]
    speeds = [speed(run) for run in runs.values()]
    return {
        "tokens_per_second": statistics.median(speeds),
        "tokens_per_second_range": [min(speeds), max(speeds)],
        "against_plain": statistics.median(speed(run) / speed(base) for run, base in pairs) if pairs else None,
        "round_ms": statistics.median(1e3 * run.decode_s / run.rounds for run in runs.values()),
        "tokens_per_round": statistics.median(tokens_per_round(run) for run in runs.values()),
        "equal_texts": sum(run.tokens == base.tokens for run, base in pairs),
        "compared_texts": len(pairs),
        "first_ms": 1e3 * statistics.median(run.first_s for run in runs.values()),
        "long_first_ms": 1e3 * statistics.median(result.long_first_s) if result.long_first_s else None,
        "peak_gib": None if result.peak_bytes is None else result.peak_bytes / GIB,
    }


def row(result: Result, results: Sequence[Result]) -> list[str]:
    """A line of the table; an arm without numbers says why in the place of its speed."""
    arm = result.arm
    head = [arm.engine, arm.weights, f"K = {arm.k}" if arm.k else "none"]
    problem = result.problem or ("" if result.runs else "not measured")
    if problem:
        return [*head, problem.replace("|", "/").replace("\n", " "), *["-"] * (len(COLUMNS) - 4)]
    found = numbers(result, results)
    low, high = found["tokens_per_second_range"]
    return [
        *head,
        f"{found['tokens_per_second']:.1f} ({low:.1f} to {high:.1f})",
        _shown(found["against_plain"], 2),
        f"{found['round_ms']:.1f}",
        f"{found['tokens_per_round']:.2f}",
        f"{found['equal_texts']} of {found['compared_texts']}" if arm.k and found["compared_texts"] else "-",
        f"{found['first_ms']:.0f}",
        _shown(found["long_first_ms"], 0),
        _shown(found["peak_gib"], 2),
    ]


def table(results: Sequence[Result]) -> str:
    """All arms in Markdown."""
    lines = [list(COLUMNS), ["---"] * len(COLUMNS), *(row(result, results) for result in results)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def page(about: Mapping[str, Any], results: Sequence[Result]) -> str:
    """The table under what it was measured with; `about` is `compare_peers`' description of the run."""
    machine, lengths = about["hardware"], about["prompt_tokens"]
    versions = {name: text for result in results if not result.problem for name, text in result.versions.items()}
    instructions = ", ".join(machine["instructions"]) or "no instructions known"
    bandwidth = spread([state["read_bandwidth_gb_s"] for state in about["conditions"]])
    load = spread([state["load_average"] for state in about["conditions"] if state["load_average"] is not None])
    head = [
        f"{machine['processor']} ({instructions}), {about['threads']} threads on {machine['cores']} cores, "
        f"{machine['memory_gib']} GiB, {machine['system']}.",
        f"Read bandwidth {bandwidth} GB/s, load average {load}, each taken once a round.",
        f"{len(lengths)} prompts of {min(lengths)} to {max(lengths)} tokens and one of {about['long_prompt_tokens']}; "
        f"{about['tokens']} new tokens, greedy; {len(about['conditions'])} of {about['rounds']} rounds, in turns.",
        f"Versions: {', '.join(f'{name} {text}' for name, text in sorted(versions.items())) or 'none ran'}.",
    ]
    return "\n".join([*head, "", table(results), ""])


def record(results: Sequence[Result]) -> list[dict[str, Any]]:
    """All arms as JSON values: what was found, and every run it was found from. An arm with a problem has neither."""
    lines = []
    for result in results:
        arm = {"engine": result.arm.engine, "weights": result.arm.weights, "k": result.arm.k}
        if result.problem or not result.runs:
            lines.append(arm | {"problem": result.problem or "not measured"})
            continue
        runs = [{"round": at, "prompt": prompt, **asdict(run)} for (at, prompt), run in result.runs.items()]
        measured = {"long_first_s": result.long_first_s, "load_s": result.load_s, "versions": result.versions}
        lines.append(arm | numbers(result, results) | measured | {"runs": runs})
    return lines


def spread(values: Sequence[float]) -> str:
    """The range of some values."""
    return f"{min(values):.1f} to {max(values):.1f}" if values else "unknown"


def _shown(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
