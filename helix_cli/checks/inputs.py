"""Group input: what cannot be done is refused with a sentence and a hint, through the real command path."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import load_file, save_file

from helix_cli.checks.check import Check, Outcome, judged
from helix_cli.checks.checkpoints import copy_tokenizer, write_checkpoint
from helix_cli.checks.subject import Completed, Subject
from helix_cli.checks.texts import LONG
from helix_cli.model.implementation import read_shape

REFUSED = 2
"""The exit code of what the user can mend."""


@dataclass(frozen=True)
class Refusal:
    """Arguments and stdin of a run that must be refused, and what the message must say."""

    arguments: list[str]
    message: str
    stdin: bytes = b""


Make = Callable[[Subject, Path], Refusal]
"""Makes the run; files may go into the folder."""


def refused(subject: Subject, name: str) -> Outcome:
    """Looks at everything that a refusal owes its user."""
    if subject.processes == 1:
        refusal, done = _run(subject, CASES[name][1])
    else:
        runs: dict[str, Future[tuple[Refusal, Completed]]] = subject.remember("refusals", lambda: _start(subject))
        refusal, done = runs[name].result()
    faults = []
    if done.code != REFUSED:
        faults.append(f"exit code {done.code} instead of {REFUSED}")
    if done.out:
        faults.append(f"{len(done.out)} bytes on stdout")
    said = " ".join(done.err.split())
    if refusal.message not in said:
        faults.append(f"the message does not say '{refusal.message}'")
    if "Error: " not in done.err or "Hint: " not in done.err:
        faults.append("no sentence or no hint")
    if "Traceback" in done.err:
        faults.append("a traceback")
    reason = "; ".join(faults) or f"refused: {_sentence(done.err)}"
    return judged(not faults, reason, exit_code=done.code, stderr=done.err[-800:])


def _start(subject: Subject) -> dict[str, Future[tuple[Refusal, Completed]]]:
    """Starts all of them, as many at a time as the subject allows: most of each is the start of the program."""
    subject.session.tokenizer  # noqa: B018 (Opened here, and not by several threads at once.)
    pool = ThreadPoolExecutor(subject.processes)
    runs = {name: pool.submit(_run, subject, make) for name, (_, make) in CASES.items()}
    pool.shutdown(wait=False)
    return runs


def _run(subject: Subject, make: Make) -> tuple[Refusal, Completed]:
    with TemporaryDirectory() as name:
        refusal = make(subject, Path(name))
        return refusal, subject.helix(["generate", *refusal.arguments], refusal.stdin)


def _sentence(err: str) -> str:
    lines = [line for line in err.splitlines() if line.startswith("Error: ")]
    return lines[-1].removeprefix("Error: ")[:120] if lines else ""


def _model(subject: Subject) -> list[str]:
    """The user's target with the drafter that loads nothing more."""
    return ["--model", str(subject.target_path), "--drafter", "ngram"]


def empty(subject: Subject, folder: Path) -> Refusal:
    """No prompt at all."""
    return Refusal([*_model(subject), ""], "There is no prompt")


def too_long(subject: Subject, folder: Path) -> Refusal:
    """More words than the context has positions."""
    context = read_shape(subject.target_path).context
    words = (LONG * (context // len(LONG.split()) + 2)).encode()
    return Refusal(_model(subject), "the model's context holds", words)


def not_text(subject: Subject, folder: Path) -> Refusal:
    """Bytes that are no UTF-8."""
    return Refusal(_model(subject), "is not UTF-8 text", b"caf\xe9 \xff")


def bad_line(subject: Subject, folder: Path) -> Refusal:
    """The second line of a file of prompts is broken."""
    file = folder / "prompts.jsonl"
    file.write_text('{"prompt": "one"}\n{"prompt": \n', encoding="utf-8")
    return Refusal([*_model(subject), "--input", str(file)], "Line 2 of")


def bad_key(subject: Subject, folder: Path) -> Refusal:
    """A line with a key that would be ignored."""
    file = folder / "prompts.jsonl"
    file.write_text('{"prompt": "one", "max_token": 3}\n', encoding="utf-8")
    return Refusal([*_model(subject), "--input", str(file)], "Did you mean max_tokens?")


def results_there(subject: Subject, folder: Path) -> Refusal:
    """An output that holds results already."""
    source, output = folder / "prompts.jsonl", folder / "results.jsonl"
    source.write_text('{"prompt": "one"}\n', encoding="utf-8")
    output.write_text('{"index": 0, "kept": true}\n', encoding="utf-8")
    return Refusal([*_model(subject), "--input", str(source), "--output", str(output)], "already holds results")


def no_model(subject: Subject, folder: Path) -> Refusal:
    """A folder that is not there."""
    return Refusal(["--model", str(folder / "missing"), "Hello"], "There is no model directory")


def pickled(subject: Subject, folder: Path) -> Refusal:
    """A checkpoint whose weights would have to be unpickled."""
    write_checkpoint(folder, vocab_size=subject.target.architecture.vocab_size)
    copy_tokenizer(subject.target_path, folder)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    return Refusal(["--model", str(folder), "--drafter", "none", "Hello"], "pickled weights only")


def not_finite(subject: Subject, folder: Path) -> Refusal:
    """A checkpoint with one NaN in it."""
    write_checkpoint(folder, vocab_size=subject.target.architecture.vocab_size)
    copy_tokenizer(subject.target_path, folder)
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"][3] = torch.nan
    save_file(tensors, folder / "model.safetensors")
    return Refusal(
        ["--model", str(folder), "--drafter", "none", "Hello"], "model.norm.weight holds values that are not finite"
    )


def unknown_setting(subject: Subject, folder: Path) -> Refusal:
    """A setting that does not exist."""
    return Refusal(["--set", "sampling.temprature=1", "Hello"], "temperature")


def out_of_range(subject: Subject, folder: Path) -> Refusal:
    """A number that means nothing."""
    return Refusal(["--temperature", "-1", "Hello"], "temperature")


def contradiction(subject: Subject, folder: Path) -> Refusal:
    """Two settings of which one would be ignored."""
    return Refusal(["--rule", "greedy", "--temperature", "1", "Hello"], "Rule greedy cannot work at temperature 1")


def without_effect(subject: Subject, folder: Path) -> Refusal:
    """An option that needs another one."""
    return Refusal(["--output", str(folder / "out.jsonl"), "Hello"], "--output cannot take effect without --input")


CASES: dict[str, tuple[str, Make]] = {
    "empty": ("An empty prompt is refused.", empty),
    "too_long": ("A prompt longer than the context is refused before any weight is read.", too_long),
    "not_text": ("A prompt that is not text is refused.", not_text),
    "bad_line": ("A broken line of a file of prompts is named.", bad_line),
    "bad_key": ("A key that would be ignored is refused, with the one that was meant.", bad_key),
    "results_there": ("Results that are there already are not written over.", results_there),
    "no_model": ("A model that is not there is named.", no_model),
    "pickled": ("Pickled weights are refused.", pickled),
    "not_finite": ("A checkpoint with a value that is not finite is refused by the tensor's name.", not_finite),
    "unknown_setting": ("An unknown setting is refused, with the one that was meant.", unknown_setting),
    "out_of_range": ("A setting out of its range is refused.", out_of_range),
    "contradiction": ("Settings that contradict each other are refused.", contradiction),
    "without_effect": ("An option that could not take effect is refused.", without_effect),
}
"""By name: what it proves, and the run."""
CHECKS = tuple(Check(f"input.{name}", proves, partial(refused, name=name)) for name, (proves, _) in CASES.items())
