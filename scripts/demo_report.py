"""What comes of a training run: the exported pair, how well it does, and its model card."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, LlamaForCausalLM

from helix_cli.config import load_config
from helix_cli.core import Request, SamplingParams
from helix_cli.core import Sequence as Written
from helix_cli.session import Session, open_session
from helix_cli.verify.choose import choose_rule
from scripts import demo_questions as questions
from scripts.demo_data import CONTEXT, Material
from scripts.demo_pair import DRAFT, TARGET, held_out_losses

DRAFTED = 4
CODE_PROMPTS, QUESTION_PROMPTS, PROMPT_TOKENS, WRITTEN_TOKENS = 24, 48, 96, 128
# Greedy text of models this small turns in circles, so the exported pair asks for this by default.
TEMPERATURE = 0.8

CARD = """\
---
license: other
license_name: psf-2.0
language: en
library_name: transformers
pipeline_tag: text-generation
---

# The demonstration pair

`target` ({target:,} parameters) and `draft` ({draft:,} parameters) are two small Llama models with one
tokenizer, both trained from nothing. They exist so that Helix can show speculative decoding without a
download.

## What they cannot do

They are toys. The target has seen only the source code of the Python standard library and questions made
from it. It continues Python code in that style, often wrongly, and answers short questions about functions
of the library with what it remembers of their docstrings. It knows nothing else, cannot reason, invents
answers about whatever it does not know, and no answer should be relied on. Of {asked} questions about
things it was trained on, in a phrasing it was not trained on, it answered {right:.1%} word for word as the
docstring does.

## Data

{code_files} source files of the standard library of Python {versions[Python]} ({code_tokens:,} tokens),
without its tests and generated tables, and questions in several phrasings about {things_asked_about:,}
modules, classes and functions, answered from signatures and docstrings. The library is under the Python
Software Foundation License Version 2; its docstrings can come out of the model word for word. Held out:
{held_out_files} files, and the questions about {held_out_things} things. The docstring of such a
thing still stands in the code that was trained on, unless its file is held out too.

## Training

{stage_table}

Steps are of {tokens_a_step:,} tokens, {question_share:.0%} of the text questions ({hardware}; {named_versions}).
The target learns the text by cross-entropy, first with few of its layers. In the stage `loops` it unlearns to repeat
itself: tokens of its own greedy text that close a run of four which was there before are made less likely. The draft
learns the target's distribution over the text and what the target itself writes. The commands, in order:

{runs}

## Measured

Loss a token on held-out text, in nats, of questions together with their answers:

{losses}

Share of the draft's tokens that the target accepts, greedily and {drafted} drafted at a time:

{accepted}

Share of runs of four tokens that occurred before in the same 128 tokens, after {prompts} held-out pieces of code:

{repeats}

Greedy text repeats itself ({greedy:.0%}), which is why `generation_config.json` asks for sampling at temperature
{temperature}.

The figures come from `evaluation.json` and `training.json`, which the script wrote with this card.
"""


def export(target: Any, draft: Any, tokenizer: Any, facts: dict[str, Any], out: Path) -> None:
    """Write both models as ordinary model directories, in bfloat16 and in files below 15 MiB."""
    tokenizer.model_max_length = CONTEXT
    for name in ("is_local", "local_files_only"):
        # How it was loaded here says nothing about the tokenizer.
        tokenizer.init_kwargs.pop(name, None)
    ends = tokenizer.convert_tokens_to_ids([questions.END_OF_TEXT, questions.END_OF_TURN])
    for name, model, config in (("target", target, TARGET), ("draft", draft, DRAFT)):
        folder = out / name
        shutil.rmtree(folder, ignore_errors=True)
        copy: Any = LlamaForCausalLM(config)
        copy.load_state_dict(model.state_dict())
        copy.to(torch.bfloat16)
        copy.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
            eos_token_id=ends, pad_token_id=ends[0], do_sample=True, temperature=TEMPERATURE
        )
        copy.save_pretrained(folder, max_shard_size="14MB")
        tokenizer.save_pretrained(folder, save_jinja_files=False)
        for path in folder.iterdir():
            # Weights are written for their owner alone; what is shipped is for everybody.
            path.chmod(0o644)
    (out / "training.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def repeated_share(tokens: Sequence[int], size: int = 4) -> float:
    """Return which share of the runs of four tokens occurred before in the same text."""
    runs = [tuple(tokens[i : i + size]) for i in range(len(tokens) - size + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


def open_pair(folder: Path, drafter: str) -> Session:
    """Open an exported pair in Helix itself, in float32."""
    chosen = [f"draft.kind={drafter}", *([f"draft.path={folder / 'draft'}"] if drafter == "model" else [])]
    fixed = [f"model.path={folder / 'target'}", "model.dtype=float32", f"draft.k={DRAFTED}"]
    return open_session(load_config(None, [*fixed[: 3 if drafter == "model" else 2], *chosen]))


def write(session: Session, prompts: Sequence[list[int]], count: int, temperature: float) -> list[Written]:
    """Continue prompts together, greedily at temperature zero; the seed is the place of the prompt."""
    engine = session.engine
    ids = []
    for place, prompt in enumerate(prompts):
        params = SamplingParams(temperature=temperature, max_tokens=count, seed=place)
        ids.append(engine.add(Request(tuple(prompt), params), choose_rule("auto", params)))
    done: dict[int, Written] = {}
    while not engine.idle:
        done.update({sequence.id: sequence for sequence in engine.step().finished})
    return [done[one] for one in ids]


def acceptance(session: Session, prompts: Sequence[list[int]]) -> float:
    """Return accepted / drafted over greedy continuations, as Helix counts them."""
    traces = [one.trace for one in write(session, prompts, WRITTEN_TOKENS // 2, 0.0)]
    drafted = sum(sum(trace.drafted) for trace in traces)
    return sum(sum(trace.accepted) for trace in traces) / drafted


def evaluate(folder: Path, material: Material) -> None:
    """Measure an exported pair, in float32, on what training never saw, and write what was found."""
    torch.manual_seed(0)
    target: Any = LlamaForCausalLM.from_pretrained(folder / "target", dtype=torch.float32)
    draft: Any = LlamaForCausalLM.from_pretrained(folder / "draft", dtype=torch.float32)
    plain, drafted = open_pair(folder, "none"), open_pair(folder, "model")
    tokenizer = material.tokenizer
    chooser = random.Random(0)
    held = material.held_out["code"].tolist()
    starts = chooser.sample(range(len(held) - PROMPT_TOKENS - WRITTEN_TOKENS), CODE_PROMPTS)
    code = [held[start : start + PROMPT_TOKENS] for start in starts]
    unknown = questions.rephrased(material.unknown)[:QUESTION_PROMPTS]
    known = chooser.sample(questions.rephrased(material.known), QUESTION_PROMPTS)

    def asked(turns: Sequence[questions.Turn]) -> list[list[int]]:
        prompts = [f"<|user|>{turn.question}<|end|><|assistant|>" for turn in turns]
        encoded: list[list[int]] = tokenizer(prompts, add_special_tokens=False)["input_ids"]
        return encoded

    def texts_of(prompts: Sequence[list[int]], temperature: float) -> list[list[int]]:
        return [one.tokens[one.prompt_len :] for one in write(plain, prompts, WRITTEN_TOKENS, temperature)]

    of_draft = held_out_losses(draft, material, 40_000)
    losses = [(kind, loss, of_draft[kind]) for kind, loss in held_out_losses(target, material, 40_000).items()]
    answers = [tokenizer.decode(text, skip_special_tokens=True) for text in texts_of(asked(known), 0.0)]
    right = [answer == turn.answer for answer, turn in zip(answers, known, strict=True)]
    texts = {
        "the files themselves": [held[start + PROMPT_TOKENS :][:WRITTEN_TOKENS] for start in starts],
        "greedy": texts_of(code, 0.0),
        f"sampled at temperature {TEMPERATURE}": texts_of(code, TEMPERATURE),
    }
    found = {
        "parameters": {"target": target.num_parameters(), "draft": draft.num_parameters()},
        "loss": {kind: {"target": of_target, "draft": of_draft} for kind, of_target, of_draft in losses},
        "acceptance": {
            "code": acceptance(drafted, code),
            "unknown questions": acceptance(drafted, asked(unknown)),
            "known questions, new phrasing": acceptance(drafted, asked(known)),
        },
        "answers_word_for_word": sum(right) / len(right),
        "repeated_4_grams": {
            name: sum(repeated_share(text) for text in written) / len(written) for name, written in texts.items()
        },
    }
    (folder / "evaluation.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def _table(rows: dict[str, Any], *columns: str) -> str:
    """Lay out figures as a table, a row for each name."""
    lines = ["| " + " | ".join(["", *columns]) + " |", "| --- |" + " ---: |" * len(columns)]
    for name, value in rows.items():
        cells = list(value.values()) if isinstance(value, dict) else [f"{value:.1%}"]
        lines.append("| " + " | ".join([name, *map(str, cells)]) + " |")
    return "\n".join(lines)


def stage_totals(stages: list[dict[str, Any]]) -> dict[str, dict[str, str]]:
    """What each stage has done in all: a pair that was trained on has been through some of them again."""
    names = dict.fromkeys(one["name"] for one in stages)
    totals = {
        name: {key: sum(one[key] for one in stages if one["name"] == name) for key in ("tokens", "steps", "minutes")}
        for name in names
    }
    return {name: {key: f"{round(value, 1):,}" for key, value in total.items()} for name, total in totals.items()}


def write_card(folder: Path) -> None:
    """Write the model card of an exported pair from the figures beside it."""
    facts = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    found = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    history = "\n".join(f"- {command}" for command in facts["history"])
    stages = stage_totals(facts["stages"])
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    text = CARD.format(
        **facts,
        target=found["parameters"]["target"],
        draft=found["parameters"]["draft"],
        runs=history,
        stage_table=_table(stages, "tokens", "steps", "minutes"),
        named_versions=versions,
        drafted=DRAFTED,
        losses=_table(found["loss"], "target", "draft"),
        accepted=_table(found["acceptance"], "accepted"),
        greedy=found["repeated_4_grams"]["greedy"],
        temperature=TEMPERATURE,
        repeats=_table(found["repeated_4_grams"], "repeated"),
        right=found["answers_word_for_word"],
        asked=QUESTION_PROMPTS,
        prompts=CODE_PROMPTS,
    )
    (folder / "README.md").write_text(text, encoding="utf-8")
