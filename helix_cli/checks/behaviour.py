"""Group behaviour: what drafts, seeds, neighbours and interruptions may do, and what they may not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from helix_cli.checks.check import Check, Outcome, Result, Skip, judged
from helix_cli.checks.checkpoints import TINY_EOS, TINY_VOCABULARY, tiny_pair
from helix_cli.checks.greedy import verdict
from helix_cli.checks.subject import K, Subject
from helix_cli.checks.workbench import Scripted, build
from helix_cli.core import FinishedEvent, FinishReason, Request, SamplingParams, TextEvent
from helix_cli.prompt import Prompt
from helix_cli.sections import SamplingSection
from helix_cli.verify.choose import choose_rule

RANDOM = SamplingParams(temperature=1.0)


def oracle(subject: Subject) -> Outcome:
    """A drafter that knows the text."""
    texts = dict(zip(subject.prompts, subject.plain, strict=True))
    bench = subject.bench(Scripted(texts))
    params = SamplingParams(max_tokens=subject.effort.num_tokens, ignore_eos=True)
    found = [one.tokens for one in bench.run([Request(prompt, params) for prompt in subject.prompts])]
    kept = f"{bench.num_accepted} of {bench.num_drafted} drafted tokens kept"
    outcome = verdict(subject, subject.plain, found, kept)
    if found == subject.plain:
        return judged(0 < bench.num_accepted == bench.num_drafted, kept, drafted=bench.num_drafted)
    return outcome


def wrong(subject: Subject) -> Outcome:
    """A drafter that always proposes another token."""
    size = subject.target.architecture.vocab_size
    texts = {
        prompt: [(token + 1) % size for token in text]
        for prompt, text in zip(subject.prompts, subject.plain, strict=True)
    }
    bench = subject.bench(Scripted(texts))
    params = SamplingParams(max_tokens=subject.effort.num_tokens, ignore_eos=True)
    found = [one.tokens for one in bench.run([Request(prompt, params) for prompt in subject.prompts])]
    kept = f"{bench.num_accepted} of {bench.num_drafted} drafted tokens kept"
    if found == subject.plain:
        return judged(bench.num_accepted == 0 < bench.num_drafted, kept, drafted=bench.num_drafted)
    return verdict(subject, subject.plain, found, kept)


def seed(subject: Subject) -> Outcome:
    """The same seed twice, and another one."""
    prompt = subject.prompts[0]
    drafter = "model" if subject.draft is not None else "early_exit"
    length = min(24, subject.effort.num_tokens)
    differing = []
    for rule in ("token", "block", "coupled"):
        several = []
        for add in (0, 0, 1):
            params = replace(RANDOM, max_tokens=length, seed=subject.seed + add, ignore_eos=True)
            several.append(subject.bench(drafter).run([Request(prompt, params)], rule)[0].tokens)
        if several[0] != several[1]:
            differing.append(f"rule {rule} gives two texts for one seed")
        if several[0] == several[2]:
            differing.append(f"rule {rule} gives one text for two seeds")
    return judged(not differing, "; ".join(differing) or "equal seeds, equal texts; another seed, another text")


def neighbours(subject: Subject) -> Outcome:
    """Each prompt alone, and all together, by the engine."""
    params = SamplingParams(max_tokens=subject.effort.num_tokens, ignore_eos=True)
    together = subject.bench("none").run([Request(prompt, params) for prompt in subject.prompts])
    return verdict(subject, subject.plain, [one.tokens for one in together], f"{len(together)} texts side by side")


def interruption(subject: Subject) -> Outcome:
    """Ctrl-C in the middle of a text, and another text afterwards, through the session that commands use."""
    session, tokenizer = subject.session, subject.tokenizer
    greedy = SamplingSection(
        temperature=0, top_k=0, top_p=1, min_p=0, repetition_penalty=1, max_tokens=12, ignore_eos=True
    )
    session.change(subject.config.model_copy(update={"sampling": greedy}))
    prompt = Prompt(0, text=tokenizer.decode(subject.prompts[0]))
    faults = []
    try:
        whole = _finished(list(session.stream([prompt])))
        cut: list[Any] = []
        for event in session.stream([prompt]):
            cut.append(event)
            if isinstance(event, TextEvent) and len(cut) == 2:
                session.interrupt()
        ended = _finished(cut)
        if ended.finish_reason is not FinishReason.ABORT:
            faults.append(f"the text ended with reason {ended.finish_reason}")
        if not ended.token_ids or whole.token_ids[: len(ended.token_ids)] != ended.token_ids:
            faults.append("the interrupted text is not the beginning of the whole one")
        if _finished(list(session.stream([prompt]))).token_ids != whole.token_ids:
            faults.append("the text after the interruption is another one")
        session.check()
    finally:
        session.change(subject.config)
    reason = "; ".join(faults) or f"stopped after {len(ended.token_ids)} of {len(whole.token_ids)} tokens, then whole"
    return judged(not faults, reason)


def _finished(events: list[Any]) -> FinishedEvent:
    last = events[-1]
    assert isinstance(last, FinishedEvent), "a stream must end with its last event"
    return last


def resume(subject: Subject) -> Outcome:
    """A file of results that was cut in the middle of a line, completed by --resume."""
    if not subject.effort.restarts:
        raise Skip("It starts the program twice; --quick leaves that out.")
    with TemporaryDirectory() as name:
        source, output = Path(name, "prompts.jsonl"), Path(name, "results.jsonl")
        source.write_text("".join(json.dumps({"prompt": f"Number {i}:"}) + "\n" for i in range(3)), encoding="utf-8")
        arguments = ["generate", "--input", str(source), "--output", str(output), *_settings(subject)]
        first = subject.helix(arguments, b"")
        whole = output.read_bytes() if output.exists() else b""
        lines = whole.splitlines(keepends=True)
        if first.code or len(lines) != 3:
            return judged(False, f"exit code {first.code} and {len(lines)} results for 3 prompts", stderr=first.err)
        output.write_bytes(lines[0] + lines[1][:40])
        second = subject.helix([*arguments, "--resume"], b"")
        again = [json.loads(line) for line in output.read_bytes().splitlines()]
    wanted = {one["index"]: one["token_ids"] for one in map(json.loads, lines)}
    found = {one["index"]: one["token_ids"] for one in again}
    kept = again[:1] == [json.loads(lines[0])]
    if second.code or len(again) != 3 or found.keys() != wanted.keys() or not kept:
        reason = f"exit code {second.code}, {len(again)} results, the first {'kept' if kept else 'changed'}"
        return judged(False, reason, stderr=second.err[-400:])
    if found != wanted:
        # Two prompts run beside each other where there were three; their last bits may differ.
        return Outcome(Result.FAIL if subject.exact else Result.TIE, "all results are there, some with other texts")
    return judged(True, "one result of three was left, and --resume brought the same texts again")


def _settings(subject: Subject) -> list[str]:
    """The models and the drafter of this run, for a new process."""
    config = subject.config
    draft = ["--draft", str(subject.draft_path)] if subject.draft_path is not None else []
    return [
        "--model",
        str(subject.target_path),
        "--drafter",
        config.draft.kind,
        *draft,
        "--max-tokens",
        "8",
        "--temperature",
        "0",
    ]


def broken_draft(subject: Subject) -> Outcome:
    """A draft model whose logits are not numbers."""
    target, draft = tiny_pair()
    broken = replace(draft, embedding=draft.embedding * float("nan"))
    request = Request(tuple(range(3, 12)), SamplingParams(max_tokens=12, ignore_eos=True))
    plain = build(target, "none", K).run([request])[0].tokens
    bench = build(target, "model", K, draft=broken)
    same = bench.run([request])[0].tokens == plain
    reason = f"{bench.num_drafted} tokens drafted, the text is {'the plain one' if same else 'another'}"
    return judged(same and bench.num_drafted == 0, reason)


def full_draft_pool(subject: Subject) -> Outcome:
    """A draft whose pool holds a few tokens only."""
    target, draft = tiny_pair()
    request = Request(tuple(range(3, 12)), SamplingParams(max_tokens=24, ignore_eos=True))
    plain = build(target, "none", K).run([request])[0].tokens
    roomy, tight = (build(target, "model", K, draft=draft, draft_blocks=blocks) for blocks in (64, 5))
    roomy.run([request])
    same = tight.run([request])[0].tokens == plain
    counted = f"{tight.num_drafted} tokens drafted instead of {roomy.num_drafted}"
    reason = f"{counted}, the text is {'the plain one' if same else 'another'}"
    return judged(same and 0 < tight.num_drafted < roomy.num_drafted, reason)


def abort(subject: Subject) -> Outcome:
    """One of three texts is aborted."""
    target, draft = tiny_pair()
    params = SamplingParams(max_tokens=24, ignore_eos=True)
    wanted = [Request((*range(3, 9), last), params) for last in range(3)]
    plain = [build(target, "none", K).run([request])[0].tokens for request in wanted]
    bench = build(target, "model", K, draft=draft)
    ids = [bench.engine.add(request, choose_rule("auto", params)) for request in wanted]
    done = {}
    for step in range(200):
        if step == 3:
            bench.engine.abort(ids[1])
        done.update({one.id: one for one in bench.engine.step().finished})
        bench.check()
        if bench.engine.idle:
            break
    faults = []
    if ids[1] not in done or done[ids[1]].finish is not FinishReason.ABORT:
        faults.append("the text did not end as aborted")
    if any(one not in done or done[one].tokens[7:] != plain[i] for i, one in enumerate(ids) if i != 1):
        faults.append("a neighbour's text changed")
    if bench.target_cache.pool.num_used:
        faults.append("its blocks are still held")
    return judged(not faults, "; ".join(faults) or "it ended, its blocks came back, its neighbours did not notice")


def priority(subject: Subject) -> Outcome:
    """Four requests, one at a time, in an order that arrival alone would not give."""
    target, _ = tiny_pair()
    bench = build(target, "none", K, eos_ids=TINY_EOS, max_sequences=1)
    params = SamplingParams(max_tokens=2, ignore_eos=True)
    prompt = tuple(range(3, TINY_VOCABULARY))
    ids = [bench.engine.add(Request(prompt, params, rank), choose_rule("auto", params)) for rank in (1, 0, 1, 0)]
    order = []
    while not bench.engine.idle:
        order += [ids.index(one.id) for one in bench.engine.step().finished]
    return judged(order == [1, 3, 0, 2], f"they ended in the order {order}", order=order)


CHECKS = (
    Check("behaviour.oracle", "A draft that knows the text is accepted whole.", oracle),
    Check("behaviour.wrong", "A draft that is always wrong is refused whole, and changes nothing.", wrong),
    Check("behaviour.seed", "A seed gives the same sampled text again.", seed),
    Check("behaviour.neighbours", "Texts that are written side by side do not change each other.", neighbours),
    Check("behaviour.interruption", "An interrupted text is a beginning, and the next one is whole.", interruption),
    Check("behaviour.resume", "A batch that was cut short goes on where it stopped.", resume),
    Check("behaviour.broken_draft", "A draft that computes nonsense costs its proposals only.", broken_draft),
    Check("behaviour.full_draft_pool", "A draft without memory costs its proposals only.", full_draft_pool),
    Check("behaviour.abort", "An aborted text ends at once and leaves its neighbours alone.", abort),
    Check("behaviour.priority", "A more urgent request runs first.", priority),
)
