"""Group cache: blocks are shared, given back, rolled back and found again without a trace in the text."""

from __future__ import annotations

import gc
import mmap
import random
from functools import partial
from pathlib import Path
from typing import Any

from helix_cli.checks.check import Check, Outcome, judged
from helix_cli.checks.checkpoints import TINY_EOS, TINY_VOCABULARY, tiny_pair
from helix_cli.checks.numerics import Difference
from helix_cli.checks.subject import K, Subject
from helix_cli.checks.workbench import Scripted, Workbench, build, scores
from helix_cli.core import FinishReason, Request, SamplingParams, Sequence
from helix_cli.verify.choose import choose_rule

MOST_STEPS = 300
TIGHT, CROWDED, ROOMY = 18, 100, 200
"""Blocks: room for one long text, for a dozen, and for all."""
MOST_GROWTH = 32 << 20
"""Bytes that the allocator may keep in the second half of many requests; a leak of a block for each takes more."""
DRAFTERS = ("model", "ngram", "early_exit")
AT_ONCE = 40


def _tiny(drafter: str, num_blocks: int = ROOMY, **settings: Any) -> Workbench:
    target, draft = tiny_pair()
    return build(target, drafter, K, eos_ids=TINY_EOS, draft=draft, num_blocks=num_blocks, **settings)


def _request(dice: random.Random, shared: tuple[int, ...]) -> Request:
    """A random prompt, often with a beginning that others have too."""
    start = shared if dice.random() < 0.5 else ()
    prompt = (*start, *(dice.randrange(3, TINY_VOCABULARY) for _ in range(dice.randint(1, 20))))
    params = SamplingParams(
        max_tokens=dice.randint(1, 24), temperature=dice.choice((0.0, 1.5)), seed=dice.randrange(10**6)
    )
    return Request(prompt, params, priority=dice.randint(0, 2))


def workload(subject: Subject) -> Outcome:
    """Requests come, go, are aborted and preempted, in a pool that is too small; every step is followed by a check."""
    counts: dict[str, int] = {"steps": 0, "requests": 0, "aborted": 0, "preempted": 0, "reused": 0}
    steps = min(MOST_STEPS, subject.effort.num_requests // 3)
    for number, drafter in enumerate(DRAFTERS):
        dice = random.Random(subject.seed * 10 + number)
        shared = tuple(dice.randrange(3, TINY_VOCABULARY) for _ in range(12))
        bench = _tiny(drafter, TIGHT)
        alive: list[int] = []
        for step in range(steps + 500):
            if step < steps and dice.random() < 0.4:
                request = _request(dice, shared)
                alive.append(bench.engine.add(request, choose_rule("auto", request.params)))
                counts["requests"] += 1
            if alive and dice.random() < 0.1:
                bench.engine.abort(alive.pop(dice.randrange(len(alive))))
                counts["aborted"] += 1
            if bench.engine.idle and step >= steps:
                break
            output = bench.engine.step()
            bench.check()
            counts["steps"] += 1
            counts["preempted"] += len(output.preempted)
            counts["reused"] += sum(one.trace.num_reused for one in output.finished)
            gone = {one.id for one in output.finished}
            alive = [one for one in alive if one not in gone]
        if bench.target_cache.pool.num_used:
            return judged(False, f"{bench.target_cache.pool.num_used} blocks are still held with drafter {drafter}")
    met = counts["preempted"] and counts["reused"] and counts["aborted"]
    listed = ", ".join(f"{count} {name}" for name, count in counts.items())
    reason = f"invariants held: {listed}" if met else f"the workload met too little: {listed}"
    return judged(bool(met), reason, **counts)


def leak(subject: Subject) -> Outcome:
    """Many requests through one engine, some aborted, in a pool that is too small for all: nothing of them may stay."""
    held, before, resident = {}, _alive(), []
    counts = {"requests": 0, "aborted": 0, "preempted": 0}
    for drafter in DRAFTERS:
        bench = _tiny(drafter, CROWDED, max_sequences=AT_ONCE, max_step_tokens=8 * AT_ONCE)
        dice = random.Random(subject.seed)
        for _ in range(0, subject.effort.num_requests // len(DRAFTERS), AT_ONCE):
            finished = bench.run([_request(dice, ()) for _ in range(AT_ONCE)], after_step=partial(_abort_some, dice))
            counts["requests"] += len(finished)
            counts["aborted"] += sum(one.finish is FinishReason.ABORT for one in finished)
            counts["preempted"] += sum(len(output.preempted) for output in bench.outputs)
            del finished
            bench.outputs.clear()
            resident.append(_resident_bytes())
        own = getattr(bench.engine.drafter, "cache", None)
        indexed = len(getattr(bench.engine.drafter, "_indexes", ())) + len(getattr(bench.engine.drafter, "_held", ()))
        held[drafter] = {
            "target blocks": bench.target_cache.pool.num_used,
            "draft blocks": own.pool.num_used if own is not None else 0,
            "draft entries": indexed,
            "sequences": _alive() - before,
            "queued": len(bench.engine.scheduler.waiting) + len(bench.engine.scheduler.running),
        }
    kinds = [(drafter, what, count) for drafter, several in held.items() for what, count in several.items()]
    left = [f"{count} {what} with {drafter}" for drafter, what, count in kinds if count]
    growth = resident[-1] - resident[len(resident) // 2]
    if growth > MOST_GROWTH:
        left.append(f"{growth / 2**20:.0f} MiB more memory in the second half")
    listed = ", ".join(f"{count} {name}" for name, count in counts.items())
    reason = "; ".join(left) or f"nothing is left: {listed}; memory grew by {max(0, growth) / 2**20:.1f} MiB"
    return judged(not left, reason, **counts, held=held, growth_bytes=growth)


def _abort_some(dice: random.Random, bench: Workbench) -> None:
    running = bench.engine.scheduler.running
    if running and dice.random() < 0.05:
        bench.engine.abort(dice.choice(running).id)


def _resident_bytes() -> int:
    """Memory of this process; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * mmap.PAGESIZE
    except OSError:
        return 0


def _alive() -> int:
    """Sequences that Python keeps alive in this process."""
    gc.collect()
    return sum(type(one) is Sequence for one in gc.get_objects())


def shuffled(subject: Subject) -> Outcome:
    """A table in descending order against one ascending run."""
    tokens = subject.long_text
    one, other = (scores(subject.target, tokens, len(tokens) // 2, K + 1, shuffled=way) for way in (False, True))
    return Difference.between([one], [other]).outcome(subject, exact=subject.exact)


def preemption(subject: Subject) -> Outcome:
    """The same requests in a pool that is too small for all of them."""
    dice = random.Random(subject.seed)
    params = SamplingParams(max_tokens=24, ignore_eos=True)
    wanted = [
        Request(tuple(dice.randrange(3, TINY_VOCABULARY) for _ in range(length)), params) for length in (1, 8, 15, 22)
    ]
    calm = [one.tokens for one in _tiny("none").run(wanted)]
    bench = _tiny("model", TIGHT)
    texts = [one.tokens for one in bench.run(wanted)]
    preempted = sum(len(output.preempted) for output in bench.outputs)
    same = texts == calm
    reason = f"{preempted} preemptions, texts {'equal' if same else 'differ'}"
    return judged(same and preempted > 0, reason, preempted=preempted)


def sharing(subject: Subject) -> Outcome:
    """Prompts with one beginning: it is found again, and only by those that have it from their first token on."""
    dice = random.Random(subject.seed)
    shared = [dice.randrange(3, TINY_VOCABULARY) for _ in range(20)]
    other = [shared[0] % (TINY_VOCABULARY - 4) + 4, *shared[1:]]
    params = SamplingParams(max_tokens=8, ignore_eos=True)
    wanted = [Request((*start, *end), params) for start, end in ((shared, [5, 6]), (shared, [7]), (other, [5, 6]))]
    bench = _tiny("model", max_sequences=1)
    found = bench.run(wanted)
    reused = [one.sequence.trace.num_reused for one in found]
    alone = [_tiny("none").run([request])[0].tokens for request in wanted]
    same = [one.tokens for one in found] == alone
    reason = f"{reused} tokens were found again, texts {'equal' if same else 'differ'}"
    return judged(same and reused == [0, 20, 0], reason, reused=reused)


def rollback(subject: Subject) -> Outcome:
    """A draft that is always refused: K/V at the end against those of a run without drafts."""
    prompt, text = subject.prompts[0], subject.plain[0]
    size = subject.target.architecture.vocab_size
    wrong = [(token + 1) % size for token in text]
    params = SamplingParams(max_tokens=len(text), ignore_eos=True)
    found = []
    for drafter in ("none", Scripted({prompt: wrong})):
        bench = subject.bench(drafter)
        tokens = bench.run([Request(prompt, params)])[0].tokens
        found.append((tokens, bench.keys_and_values(len(prompt) + len(text) - 1).float()))
    difference = Difference.between(*([kv.flatten(0, -2)] for _, kv in found))
    outcome = difference.outcome(subject, exact=subject.exact)
    same_text = found[0][0] == found[1][0]
    holds = same_text and difference.largest <= outcome.evidence["limit"]
    reason = f"K/V differ by {difference.largest:.2g} (limit {outcome.evidence['limit']:.2g})"
    return judged(holds, reason if same_text else f"the text differs; {reason}", largest=outcome.evidence["largest"])


CHECKS = (
    Check("cache.workload", "Every block has its owners after every step of a random workload.", workload),
    Check("cache.leak", "Nothing stays behind of requests that have ended.", leak),
    Check("cache.shuffled", "A scattered table computes what one run of blocks computes.", shuffled),
    Check("cache.preemption", "A text that lost its blocks goes on as if it had kept them.", preemption),
    Check("cache.sharing", "A shared beginning is computed once, and shared by nobody else.", sharing),
    Check("cache.rollback", "Refused drafts leave nothing in the keys and values.", rollback),
)
