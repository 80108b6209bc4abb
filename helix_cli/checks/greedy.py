"""Group greedy: speculative text at temperature 0, token by token against plain text."""

from __future__ import annotations

from functools import partial
from typing import Any

from helix_cli.checks.check import Check, Outcome, Result, Skip, judged
from helix_cli.checks.subject import K, Subject
from helix_cli.checks.workbench import Workbench, scores
from helix_cli.core import Request, SamplingParams
from helix_cli.draft import DRAFTERS
from helix_cli.sampling import penalise
from helix_cli.verify import RULES

PENALTY = 1.2


def same_text(subject: Subject, drafter: str, rule: str) -> Outcome:
    """All prompts together, with one drafter and one rule."""
    _require(subject, drafter)
    bench = subject.bench(drafter)
    params = SamplingParams(max_tokens=subject.effort.num_tokens, ignore_eos=True)
    texts = [one.tokens for one in bench.run([Request(prompt, params) for prompt in subject.prompts], rule)]
    return verdict(subject, subject.plain, texts, _counted(drafter, bench))


def _counted(drafter: str, *benches: Workbench) -> str:
    """What became of the drafts; raises Skip where there were none, since the texts are plain ones then."""
    drafted = sum(bench.num_drafted for bench in benches)
    if drafted == 0:
        raise Skip(f"Drafter {drafter} found nothing to propose.")
    return f"{sum(bench.num_accepted for bench in benches)} of {drafted} drafted tokens kept"


def _require(subject: Subject, drafter: str) -> None:
    if drafter not in ("none", "ngram", "early_exit") and subject.draft is None:
        raise Skip(f"Drafter {drafter} needs a draft model, and this pair has none.")
    if drafter == "early_exit" and subject.target.architecture.num_layers < 2:
        raise Skip("The target has one layer, so there is nothing to leave early.")


def verdict(
    subject: Subject, plain: list[list[int]], texts: list[list[int]], counted: str, penalty: float = 1.0
) -> Outcome:
    """Equal, or each first difference with what explains it; only rounding is an explanation."""
    differences = [
        _classify(subject, place, prompt, one, other, penalty)
        for place, (prompt, one, other) in enumerate(zip(subject.prompts, plain, texts, strict=True))
        if one != other
    ]
    kinds = [one["kind"] for one in differences]
    evidence = {"texts": len(texts), "tokens": sum(map(len, texts)), "differences": differences}
    if not differences:
        return Outcome(Result.PASS, f"{len(texts)} texts equal; {counted}", evidence)
    first = differences[0]
    where = f"prompt {first['prompt']}, token {first['token']}, margin {first['margin']:.2g}"
    reason = f"{len(differences)} of {len(texts)} texts part, first {first['kind']} at {where}; {counted}"
    return Outcome(Result.FAIL if "BUG" in kinds else Result.TIE, reason, evidence)


def _classify(
    subject: Subject, number: int, prompt: tuple[int, ...], plain: list[int], other: list[int], penalty: float
) -> dict[str, Any]:
    """What explains the first difference of two texts.

    tie: the plain path's margin is below the noise that was measured. numeric: it is above, but the same prefix scored
    in blocks, by a pass that knows nothing of drafts, chooses the other token too. BUG: neither, or exact mode.
    """
    place = next((i for i, pair in enumerate(zip(plain, other, strict=False)) if pair[0] != pair[1]), None)
    found: dict[str, Any] = {"prompt": number, "noise": subject.noise()}
    if place is None:
        return found | {"kind": "BUG", "token": min(len(plain), len(other)), "margin": float("inf")}
    prefix = [*prompt, *plain[:place]]
    logits = subject.next_logits(prefix, penalty)
    margin = float(logits[plain[place]] - logits[other[place]])
    found |= {"token": place, "plain": plain[place], "speculative": other[place], "margin": margin}
    if subject.exact:
        return found | {"kind": "BUG"}
    # Each of the two logits may be off by the noise.
    if margin <= 2 * subject.noise():
        return found | {"kind": "tie"}
    return found | {"kind": "numeric" if _blocks_agree(subject, prefix, other[place], penalty) else "BUG"}


def _blocks_agree(subject: Subject, prefix: list[int], token: int, penalty: float) -> bool:
    params = SamplingParams(repetition_penalty=penalty)
    for rows in range(2, min(K + 2, len(prefix))):
        logits = scores(subject.target, prefix, len(prefix) - rows, rows)[-1:]
        if int(penalise(logits, params, prefix)[0].argmax()) == token:
            return True
    return False


def depths(subject: Subject) -> Outcome:
    """The first prompt with drafts of every length, by the drafter that proposes most."""
    drafter = "model" if subject.draft is not None else "ngram"
    params = SamplingParams(max_tokens=subject.effort.num_tokens, ignore_eos=True)
    request = Request(subject.prompts[0], params)
    benches = {k: subject.bench(drafter, k) for k in subject.effort.depths if k > 0}
    found = []
    for k, bench in benches.items():
        [one] = bench.run([request])
        found.append(verdict(subject, subject.plain, [one.tokens, *subject.plain[1:]], f"drafts of {k}"))
    counted = _counted(drafter, *benches.values())
    for result in (Result.FAIL, Result.TIE):
        for outcome in found:
            if outcome.result is result:
                return outcome
    return Outcome(Result.PASS, f"the same text with drafts of {', '.join(map(str, subject.effort.depths))}; {counted}")


def penalty(subject: Subject) -> Outcome:
    """With a repetition penalty, which every drafted position sees with a prefix of its own."""
    params = SamplingParams(max_tokens=subject.effort.num_tokens, ignore_eos=True, repetition_penalty=PENALTY)
    wanted = [subject.bench().run([Request(prompt, params)])[0].tokens for prompt in subject.prompts]
    drafter = "model" if subject.draft is not None else "ngram"
    bench = subject.bench(drafter)
    texts = [one.tokens for one in bench.run([Request(prompt, params) for prompt in subject.prompts])]
    return verdict(subject, wanted, texts, _counted(drafter, bench), PENALTY)


def argmax(subject: Subject) -> Outcome:
    """The plain text itself against the likeliest token of every position, scored apart from the engine."""
    wrong = []
    for number, (prompt, text) in enumerate(zip(subject.prompts, subject.plain, strict=True)):
        logits = scores(subject.target, [*prompt, *text[:-1]], len(prompt) - 1, 1)
        likeliest = logits.argmax(-1).tolist()
        wrong += [(number, place) for place, pair in enumerate(zip(likeliest, text, strict=True)) if pair[0] != pair[1]]
    total = sum(map(len, subject.plain))
    reason = f"token {wrong[0][1]} after prompt {wrong[0][0]} is not the likeliest" if wrong else f"{total} tokens"
    return judged(not wrong, reason, tokens=total, wrong=wrong[:20])


CHECKS = (
    Check("greedy.plain", "Plain text takes the likeliest token at every place.", argmax),
    *(
        Check(
            f"greedy.{drafter}.{rule}",
            f"With drafter {drafter} and rule {rule} the text at temperature 0 is the plain text.",
            partial(same_text, drafter=drafter, rule=rule),
        )
        for drafter in DRAFTERS
        if drafter != "none"
        for rule in RULES
    ),
    Check("greedy.depths", "No length of draft changes the text.", depths),
    Check("greedy.penalty", "A repetition penalty sees the right prefix at every drafted place.", penalty),
)
