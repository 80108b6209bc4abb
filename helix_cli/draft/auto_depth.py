"""The depth that emits the most tokens per second, from costs and outcomes. Pure: no clock, no randomness, no tensors.

A step that drafts k_i tokens for sequence i emits the sum of E_i = 1 + the chances that its first 1, 2, .. k_i drafted
tokens are all kept, and takes the draft's passes and one of the target over all the 1 + k_i rows. The ratio of the two
is maximised; with one sequence it is E / (K c + v(K) + o). All of it is learned from the engine's own steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from helix_cli.draft.acceptance import Acceptance, Belief
from helix_cli.draft.costs import Costs
from helix_cli.draft.depth import Choice, Room, Round, StepTimes

MAX_DEPTH = 16
# What is asked for while a draft's pass has not been timed.
FIRST_DEPTH = 4
# What drafting must promise over plain decoding: chance alone makes it look a little better now and then.
LEAST_GAIN = 1.02
# Depths this much slower than the best so far are not followed further: costs may jump at a row, not as much as this.
HOPELESS = 0.7
# Shares of the time that may go to finding out whether a draft would pay again, and what a plain step takes.
PROBE_SHARE, PLAIN_SHARE = 0.01, 0.005
# What a plain step is taken to lose at least, as a share of its time.
LEAST_LOSS = 0.05
# Plain steps after which a text whose drafts do not pay is looked at again: choosing costs time as well.
REST = 8


@dataclass
class _Text:
    """What is known of one sequence; `beliefs` and `tokens_then` are by source."""

    beliefs: dict[str, Belief] = field(default_factory=dict)
    tokens_then: dict[str, int] = field(default_factory=dict)
    """How many tokens the sequence had when that source was last asked, once it has proposed something.

    Before that an empty draft means a prefill under way.
    """
    credit_s: float = 0.0
    probe: int = 1
    probe_again: bool = False
    rest: int = 0  # plain steps until it is looked at again, unless another source offers itself
    resting_from: str = ""


@dataclass(frozen=True)
class _Asked:
    """What was asked for a sequence in the step under way."""

    source: str
    depth: int
    num_tokens: int
    missing: int
    """Tokens that the source has not been fed; 0 when it was asked in the step before."""
    is_probe: bool


class AutoDepth:
    """Learns costs and acceptance, and chooses by them.

    A sequence whose drafts do not pay is left plain. From time to time it is asked again, at most so often that the
    cost, were the drafts all wrong, stays below PROBE_SHARE of the time.
    """

    def __init__(self, costs: Costs | None = None, acceptance: dict[str, Acceptance] | None = None) -> None:
        self.costs = costs or Costs()
        self.acceptance = acceptance or {}
        self.num_rounds = 0
        """Rounds with a draft that were judged."""
        self._texts: dict[int, _Text] = {}
        self._asked: dict[int, _Asked] = {}
        self._asked_before: dict[int, _Asked] = {}
        self._plain_credit_s = 0.0
        # Seconds that a plain step loses against what was chosen last; None where some text was plain anyway.
        self._plain_loss_s: float | None = None

    def choose(self, rooms: Sequence[Room]) -> list[Choice]:
        self._asked_before, self._asked = self._asked, {}
        # The first step of all is plain: what a draft has to beat must be known.
        if not rooms or not self.costs.step.known or self._plain_due():
            return [Choice(0)] * len(rooms)
        for room in rooms:
            self._texts.setdefault(room.sequence_id, _Text())
        if all(self._is_resting(room) for room in rooms):
            return [Choice(0)] * len(rooms)
        depths, rate = self._best(rooms)
        depths = [
            depth if self.costs.draft_known(room.source) else max(0, min(FIRST_DEPTH, room.most))
            for room, depth in zip(rooms, depths, strict=True)
        ]
        probes = [depth == 0 and self._probe_due(room, len(rooms)) for room, depth in zip(rooms, depths, strict=True)]
        depths = [
            min(room.most, self._texts[room.sequence_id].probe) if probe else depth
            for room, depth, probe in zip(rooms, depths, probes, strict=True)
        ]
        for room, depth, probe in zip(rooms, depths, probes, strict=True):
            text = self._texts[room.sequence_id]
            if depth or not self._is_resting(room):
                text.rest, text.resting_from = 0 if depth else REST, room.source
            if depth:
                self._ask(room, depth, probe)
        plain_s = self.costs.step.seconds(len(rooms))
        self._plain_loss_s = max(LEAST_LOSS * plain_s, plain_s - len(rooms) / rate) if all(depths) else None
        return self._with_floors(rooms, depths, probes, rate)

    def observe(self, times: StepTimes, rounds: Sequence[Round]) -> None:
        seconds = times.draft_s + times.target_s + times.other_s
        if times.rows is not None:
            self.costs.observe_step(times.rows, times.target_s, times.other_s)
            self._plain_credit_s += PLAIN_SHARE * seconds
        self._observe_draft(times.draft_s, rounds)
        for one in rounds:
            asked = self._asked.get(one.sequence_id)
            text = self._texts.setdefault(one.sequence_id, _Text())
            if asked is None:
                text.credit_s += PROBE_SHARE * seconds / len(rounds)
                self._go_on_resting(text)
            else:
                self._observe_round(text, asked, one)

    def forget(self, sequence_id: int) -> None:
        self._texts.pop(sequence_id, None)
        self._asked.pop(sequence_id, None)

    def _is_resting(self, room: Room) -> bool:
        text = self._texts[room.sequence_id]
        return text.rest > 0 and text.resting_from == room.source

    def _go_on_resting(self, text: _Text) -> None:
        """A text changes while nothing of it is judged, so what is believed of it becomes what is usual."""
        was_resting, text.rest = text.rest > 0, max(0, text.rest - 1)
        if was_resting and not text.rest:
            text.beliefs = {name: self._known(name).idle(belief, REST) for name, belief in text.beliefs.items()}

    def _best(self, rooms: Sequence[Room]) -> tuple[list[int], float]:
        """The depths that emit the most tokens per second together, and that speed.

        Tokens are added one by one, the likeliest to be kept first, and the best total on the way is taken.
        """
        order = sorted(_steps(rooms, [self._outlook(room) for room in rooms]))
        rows = tokens = float(len(rooms))
        step_s, more_draft_s = self.costs.step.seconds, self.costs.more_draft_s
        best, best_length, draft_s = LEAST_GAIN * tokens / step_s(rows), 0, 0.0
        sharing: dict[tuple[str, int], float] = {}
        for length, (chance, level, place, reach) in enumerate(order, 1):
            source = rooms[place].source
            before = sharing.get((source, level), 0.0)
            sharing[source, level] = before + reach
            if level == 0 and not before:
                draft_s += self.costs.start_s(source)
            draft_s += more_draft_s(source, before, reach)
            tokens -= chance
            rows += reach
            speed = tokens / (draft_s + step_s(rows))
            if speed > best:
                best, best_length = speed, length
            elif speed < HOPELESS * best:
                break
        depths = [0] * len(rooms)
        for _, _, place, _ in order[:best_length]:
            depths[place] += 1
        return depths, best

    def _outlook(self, room: Room) -> list[tuple[float, float]]:
        """See `Acceptance.outlook`; nothing for a source that has not been timed."""
        if not self.costs.draft_known(room.source):
            return []
        belief = self._belief(self._texts[room.sequence_id], room.source)
        return self._known(room.source).outlook(belief, min(room.most, MAX_DEPTH))

    def _known(self, source: str) -> Acceptance:
        return self.acceptance.setdefault(source, Acceptance())

    def _belief(self, text: _Text, source: str) -> Belief:
        return text.beliefs.get(source) or self._known(source).first_belief()

    def _ask(self, room: Room, depth: int, is_probe: bool) -> None:
        text, before = self._texts[room.sequence_id], self._asked_before.get(room.sequence_id)
        went_on = before is not None and before.source == room.source and room.source in text.tokens_then
        missing = 0 if went_on else room.num_tokens - text.tokens_then.get(room.source, 0)
        self._asked[room.sequence_id] = _Asked(room.source, depth, room.num_tokens, missing, is_probe)

    def _with_floors(self, rooms: Sequence[Room], depths: list[int], probes: list[bool], rate: float) -> list[Choice]:
        """One more row must bring what its seconds bring elsewhere, and so must one more pass of the draft."""
        rows = len(rooms) + sum(depths)
        drafting = max(1, sum(1 for depth in depths if depth))
        row_s = max(0.0, self.costs.step.seconds(rows + 1) - self.costs.step.seconds(rows))
        choices = []
        for room, depth, probe in zip(rooms, depths, probes, strict=True):
            if not depth or probe or not self.costs.draft_known(room.source):
                choices.append(Choice(depth))
                continue
            pass_s = self.costs.draft_s(room.source, drafting) / drafting
            choices.append(Choice(depth, min(1.0, rate * row_s), min(1.0, rate * (row_s + pass_s))))
        return choices

    def _plain_due(self) -> bool:
        """Whether a plain step, which costs the tokens that it does not emit, may be timed again."""
        if self._plain_loss_s is None or self._plain_credit_s < self._plain_loss_s:
            return False
        self._plain_credit_s, self._plain_loss_s = 0.0, None
        return True

    def _probe_due(self, room: Room, num_sequences: int) -> bool:
        text = self._texts[room.sequence_id]
        depth = min(room.most, text.probe)
        if depth < 1:
            return False
        missing = room.num_tokens - text.tokens_then.get(room.source, 0)
        cost_s = self.costs.start_s(room.source) + depth * self.costs.draft_s(room.source, 1.0)
        cost_s += self.costs.catch_up_s(room.source, missing)
        cost_s += self.costs.step.seconds(num_sequences + depth) - self.costs.step.seconds(num_sequences)
        return text.probe_again or text.credit_s >= cost_s

    def _observe_draft(self, draft_s: float, rounds: Sequence[Round]) -> None:
        """Times one source's passes; a step in which two took part, or nothing came, says nothing about either."""
        sources = {asked.source for asked in self._asked.values()}
        lengths = [one.length for one in rounds if one.sequence_id in self._asked]
        passes = max(lengths, default=0)
        if len(sources) != 1 or not passes:
            return
        (source,) = sources
        missing = sum(asked.missing for asked in self._asked.values())
        if missing:
            self.costs.observe_catch_up(source, passes, missing, draft_s)
        else:
            self.costs.observe_draft(source, passes, sum(lengths) / passes, draft_s)

    def _observe_round(self, text: _Text, asked: _Asked, one: Round) -> None:
        if not one.length and asked.source not in text.tokens_then:
            return
        text.tokens_then[asked.source] = asked.num_tokens
        self.num_rounds += one.length > 0
        known = self._known(asked.source)
        # What a text left unjudged when it ended counts neither way.
        wanted = asked.depth if one.judged == one.length else one.judged
        text.beliefs[asked.source] = known.observe(self._belief(text, asked.source), wanted, one.judged, one.accepted)
        text.credit_s = 0.0
        # A probe that was right is followed by a deeper one at once, so that a predictable part is not missed for long.
        text.probe_again = asked.is_probe and one.accepted == one.judged > 0
        text.probe = min(MAX_DEPTH, 2 * text.probe) if text.probe_again else 1


def _steps(rooms: Sequence[Room], outlooks: list[list[tuple[float, float]]]) -> Iterator[tuple[float, int, int, float]]:
    """All outlooks as (minus chance, position, place of the sequence, reach), which sort by chance."""
    for place, outlook in enumerate(outlooks):
        for level, (chance, reach) in enumerate(outlook):
            yield -chance, level, place, reach
