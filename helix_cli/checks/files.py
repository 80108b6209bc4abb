"""Group files: config, checkpoints, tokenizers and templates are whole and belong together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from helix_cli.checks.check import Check, Outcome, Skip, judged
from helix_cli.checks.subject import Subject
from helix_cli.checks.texts import PROMPTS, SAMPLES
from helix_cli.config import Config
from helix_cli.errors import HelixError
from helix_cli.model.architecture import Architecture
from helix_cli.model.implementation import read_shape
from helix_cli.model.loader import EMBEDDING, HEAD, IGNORED, expected_tensors
from helix_cli.model.weights import Weights
from helix_cli.text import TextStream
from helix_cli.tokenizer import Tokenizer


def config(subject: Subject) -> Outcome:
    """The effective config, written out and read back."""
    again = Config.model_validate(subject.config.effective())
    same = again == subject.config
    return judged(same, "reads back as it is" if same else "reads back otherwise", config=subject.config.effective())


def target(subject: Subject) -> Outcome:
    """Every tensor of the target."""
    return _complete(subject.target_path)


def draft(subject: Subject) -> Outcome:
    """Every tensor of the draft model."""
    return _complete(_draft_path(subject))


def _complete(path: Path) -> Outcome:
    try:
        shape, weights = read_shape(path), Weights(path)
        if isinstance(shape, Architecture):
            weights.require(expected_tensors(shape), (*IGNORED, HEAD) if shape.tied else IGNORED)
        # Of a model that runs through transformers, its loader has told which tensors are missing or too many.
        count = sum(weights.read(name, shape.dtype).numel() for name in weights.names)
    except HelixError as error:
        return judged(False, error.message, path=str(path))
    reason = f"{len(weights.names)} tensors, {count:,} parameters, all finite"
    return judged(True, reason, path=str(path), tensors=len(weights.names), parameters=count, family=shape.family)


def loaded(subject: Subject) -> Outcome:
    """The embedding in memory against the file."""
    decoder, weights = subject.target, Weights(subject.target_path)
    if EMBEDDING not in weights:
        raise Skip("The embedding has another name in this family; numerics.reference compares the whole model.")
    wanted = weights.read(EMBEDDING, decoder.dtype)
    differing = int((decoder.embedding.cpu() != wanted).any(-1).sum())
    return judged(differing == 0, f"{differing} of {len(wanted)} embeddings differ from the file", rows=len(wanted))


def tokenizer(subject: Subject) -> Outcome:
    """Texts to ids and back; what a tokenizer drops, like one of lower case, it must drop in transformers too."""
    size = subject.target.architecture.vocab_size
    wrong, changed = [], 0
    for text in (*PROMPTS, *SAMPLES):
        ids = subject.tokenizer.encode(text)
        found = subject.tokenizer.decode(ids)
        if not ids or max(ids) >= size:
            wrong.append(f"{text[:20]!r} has ids outside the vocabulary")
        elif _squeezed(found) == _squeezed(text):
            continue
        elif (ids, found) == _by_transformers(subject, text):
            changed += 1
        else:
            wrong.append(f"{text[:20]!r} comes back as {found[:20]!r}")
    kept = len(PROMPTS) + len(SAMPLES) - changed
    others = f", {changed} changed as transformers changes them" if changed else ""
    reason = wrong[0] if wrong else f"{kept} texts come back{others}, all ids below {size}"
    return judged(not wrong, reason, vocab_size=size, changed=changed, faults=wrong)


def _by_transformers(subject: Subject, text: str) -> tuple[list[int], str]:
    """A text's ids, and what they say, by the tokenizer that transformers makes of the checkpoint."""
    from transformers import AutoTokenizer

    load: Any = AutoTokenizer.from_pretrained
    path = str(subject.target_path)
    own = subject.remember("tokenizer", lambda: load(path, trust_remote_code=False, local_files_only=True))
    ids: list[int] = own(text, verbose=False)["input_ids"]
    return ids, str(own.decode(ids, skip_special_tokens=True))


def _squeezed(text: str) -> str:
    """Without blanks, of which some tokenizers add or drop one at an end."""
    return "".join(text.split())


def streaming(subject: Subject) -> Outcome:
    """Token by token against all at once."""
    wrong = []
    for text in (*PROMPTS, *SAMPLES):
        ids = subject.tokenizer.encode(text)
        stream = TextStream(subject.tokenizer)
        pieces = []
        for token in ids:
            stream.push(token)
            pieces.append(stream.take())
        pieces.append(stream.finish())
        if "".join(pieces) != subject.tokenizer.decode(ids):
            wrong.append(text[:20])
    count = len(PROMPTS) + len(SAMPLES)
    reason = f"{wrong[0]!r} streams otherwise" if wrong else f"{count} texts stream as they decode"
    return judged(not wrong, reason, faults=wrong)


def vocabulary(subject: Subject) -> Outcome:
    """How target and draft speak to each other: what corresponds must say the same."""
    draft = Tokenizer(_draft_path(subject))
    try:
        choice = subject.vocabulary
    except HelixError as error:
        return judged(False, error.message)
    assert choice is not None
    wrong = [
        f"{one} is {subject.tokenizer.token(one)!r} and {other} is {draft.token(other)!r}"
        for one, other in choice.pairing.to_draft.items()
        if not _say_the_same(subject.tokenizer, one, draft, other)
    ]
    reason = wrong[0] if wrong else f"{choice.way}: {choice.pairing}"
    return judged(not wrong, reason, faults=wrong[:20], **(choice.facts(1.0) | {"way": choice.way}))


def _say_the_same(target: Tokenizer, one: int, draft: Tokenizer, other: int) -> bool:
    """Whether two tokens stand for the same text where a letter comes before them; special ones stand for none."""
    if one in target.special_ids:
        return other in draft.special_ids
    data = target.token_bytes(one), draft.token_bytes(other)
    if None not in data:
        return data[0] == data[1]
    said = [known.decode([*known.encode_rendered("a"), id], False) for known, id in ((target, one), (draft, other))]
    return said[0] == said[1]


def context(subject: Subject) -> Outcome:
    """The prompts and what is written after them, in both models' contexts."""
    shape = read_shape(subject.target_path)
    contexts = {"target": shape.context}
    if subject.draft_path is not None:
        contexts["draft"] = read_shape(subject.draft_path).context
    longest = max(len(subject.tokenizer.encode(text)) for text in (*subject.own_prompts, *PROMPTS))
    need = longest + subject.effort.num_tokens
    short = [role for role, context in contexts.items() if context < need]
    listed = ", ".join(f"{role} {context}" for role, context in contexts.items())
    return judged(not short, f"{need} positions are needed; contexts: {listed}", needed=need, contexts=contexts)


def template(subject: Subject) -> Outcome:
    """One message through the chat template."""
    if not subject.tokenizer.has_chat_template:
        raise Skip("The model has no chat template.")
    said = "What is a block table?"
    message = [{"role": "user", "content": said}]
    try:
        open_text, closed_text = (subject.tokenizer.render_chat(message, opened) for opened in (True, False))
        ids = subject.tokenizer.encode_chat(message)
    except HelixError as error:
        return judged(False, error.message)
    holds = open_text.count(said) == 1 and open_text.startswith(closed_text) and bool(ids)
    reason = f"renders {len(ids)} tokens" if holds else "the rendered text does not hold the message once"
    return judged(holds, reason, rendered=open_text)


def ends(subject: Subject) -> Outcome:
    """The tokens that end a text."""
    size = subject.target.architecture.vocab_size
    ids = sorted(subject.eos_ids)
    unknown = [one for one in ids if one >= size or subject.tokenizer.token(one) is None]
    names = {one: subject.tokenizer.token(one) for one in ids}
    if not ids:
        return judged(False, "the checkpoint names no token that ends a text")
    reason = f"{unknown[0]} is no token" if unknown else f"{', '.join(map(str, names.values()))}"
    return judged(not unknown, reason, eos_ids=ids)


def _draft_path(subject: Subject) -> Path:
    if subject.draft_path is None:
        raise Skip(f"Drafter {subject.config.draft.kind} has no checkpoint of its own.")
    return subject.draft_path


CHECKS = (
    Check("files.config", "The config means the same when it is written out and read back.", config),
    Check("files.target", "The target's checkpoint is complete and finite.", target),
    Check("files.draft", "The draft's checkpoint is complete and finite.", draft),
    Check("files.loaded", "What is in memory is what is in the file.", loaded),
    Check(
        "files.tokenizer",
        "Text comes back from its tokens as from transformers', and every id has an embedding.",
        tokenizer,
    ),
    Check("files.streaming", "Text that streams is the text that decodes.", streaming),
    Check("files.vocabulary", "Tokens of target and draft that are taken for each other say the same.", vocabulary),
    Check("files.context", "The prompts and their answers fit both contexts.", context),
    Check("files.template", "The chat template renders a message.", template),
    Check("files.ends", "The tokens that end a text exist.", ends),
)
