"""Decoding without a model: known costs, known acceptance, simulated time; a depth policy is driven by it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from helix_cli.draft.depth import Depth, Room, Round, StepTimes

Chance = Callable[[int], float]
"""The chance that a drafted token is kept, by its place in the text."""


@dataclass(frozen=True)
class Machine:
    """Seconds: a plain pass takes 1. `growth` is v(5) - 1, so that v(n) = 1 + growth (n - 1) / 4."""

    draft_s: float = 0.1
    growth: float = 0.2
    start_s: float = 0.0
    """Of the draft, once a round, whatever it drafts."""
    overhead_s: float = 0.03
    prefill_s: float = 0.01
    """Of the draft, for each token that it has not seen."""
    noise: float = 0.05
    """Standard deviation of every time, as a share."""
    drift: Callable[[float], float] = lambda now: 1.0
    """Slowness of the whole machine at a time."""

    def pass_s(self, rows: int) -> float:
        """The target's pass over `rows` rows."""
        return 1.0 + self.growth * (rows - 1) / 4


@dataclass
class Run:
    """What one simulated run did."""

    tokens: int = 0
    seconds: float = 0.0
    depths: list[int] = field(default_factory=list)
    num_tokens: list[int] = field(default_factory=list)
    """Tokens of each sequence when its depth was chosen."""

    @property
    def speed(self) -> float:
        """Tokens a second."""
        return self.tokens / self.seconds


def simulate(
    policy: Depth,
    machine: Machine,
    chance: Chance,
    *,
    length: int = 512,
    batch: int = 1,
    prompt: int = 64,
    seed: int = 0,
) -> Run:
    """Decodes `batch` texts of `length` tokens together."""
    numbers = random.Random(seed)
    run = Run()
    # What was emitted, and how many tokens the draft has been fed, by sequence.
    texts = dict.fromkeys(range(seed * 1000, seed * 1000 + batch), 0)
    fed = dict.fromkeys(texts, 0)

    def noisy(seconds: float) -> float:
        return seconds * machine.drift(run.seconds) * max(0.5, numbers.gauss(1.0, machine.noise))

    while texts:
        rooms = [Room(one, prompt + done, length - done - 1, "model") for one, done in texts.items()]
        choices = policy.choose(rooms)
        depths = {room.sequence_id: choice.depth for room, choice in zip(rooms, choices, strict=True)}
        draft_s = max(depths.values()) * machine.draft_s + machine.start_s * any(depths.values())
        for room in rooms:
            if depths[room.sequence_id]:
                # The last committed tokens are fed with the first pass.
                draft_s += max(0, room.num_tokens - fed[room.sequence_id] - MAX_FREE) * machine.prefill_s
                fed[room.sequence_id] = room.num_tokens
        rows = len(rooms) + sum(depths.values())
        times = StepTimes(
            noisy(draft_s) if draft_s else 0.0, noisy(machine.pass_s(rows)), noisy(machine.overhead_s), rows
        )
        rounds = []
        for one, depth in depths.items():
            accepted = 0
            while accepted < depth and numbers.random() < chance(texts[one] + accepted):
                accepted += 1
            run.depths.append(depth)
            run.num_tokens.append(texts[one])
            texts[one] += accepted + 1
            run.tokens += accepted + 1
            rounds.append(Round(one, depth, depth, accepted))
        run.seconds += times.draft_s + times.target_s + times.other_s
        policy.observe(times, rounds)
        for one in [one for one, done in texts.items() if done >= length]:
            policy.forget(one)
            del texts[one]
    return run


MAX_FREE = 17
