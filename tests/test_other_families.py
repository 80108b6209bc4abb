"""Models that run through transformers' modules, from the command line to the text: as transformers writes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

from helix_cli.app import app
from tests.tiny import VOCABULARY, tiny_tokenizer

GPT2: dict[str, Any] = {"n_positions": 256, "n_embd": 64, "n_layer": 3, "n_head": 4}
GEMMA2: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 256,
    "sliding_window": 16,
    "attn_logit_softcapping": 20.0,
    # With a tied head a random model says its last token again and again.
    "tie_word_embeddings": False,
}
FAMILIES = {"gpt2": GPT2, "gemma2": GEMMA2}
DRAFTS = {"gpt2": {"n_layer": 1}, "gemma2": {"num_hidden_layers": 2}}
PROMPTS = ["The quick brown fox jumps over", "def fold(values):", "Hello there! How are you"]
NUM_TOKENS = 24


def save(directory: Path, family: str, seed: int, **fields: Any) -> Any:
    """A random model with large weights and the tokenizer of all tests; returns transformers' own."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(seed)
    ids = {"vocab_size": VOCABULARY, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    settings: Any = AutoConfig.for_model
    factory: Any = AutoModelForCausalLM
    model = factory.from_config(settings(family, **(FAMILIES[family] | ids | fields)), attn_implementation="eager")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(0.0, 0.5 if "embed" in name or "wte" in name else 1.5 * parameter.shape[-1] ** -0.5)
    model.save_pretrained(directory)
    tiny_tokenizer(directory)
    return model.eval()


class Pair:
    """A target with a draft of the same family, and what the target says by itself."""

    def __init__(self, directory: Path, family: str) -> None:
        self.target, self.draft = directory / "target", directory / "draft"
        self.model = save(self.target, family, seed=0)
        save(self.draft, family, seed=0, **DRAFTS[family])

    def helix(self, *arguments: str) -> Result:
        """`helix generate` with the target, for texts of NUM_TOKENS tokens."""
        base = ["generate", "--model", str(self.target), "--max-tokens", str(NUM_TOKENS)]
        return CliRunner().invoke(app, [*base, "--set", "sampling.ignore_eos=true", *arguments], prog_name="helix")

    def own_ids(self, prompt: str) -> list[int]:
        """transformers' greedy text."""
        from transformers import AutoTokenizer

        wrap: Any = AutoTokenizer
        ids = wrap.from_pretrained(self.target)(prompt, return_tensors="pt").input_ids
        self.model.generation_config.eos_token_id = None
        said = self.model.generate(ids, max_new_tokens=NUM_TOKENS, do_sample=False, pad_token_id=0)
        tokens: list[int] = said[0, ids.shape[1] :].tolist()
        return tokens


@pytest.fixture(scope="module", params=FAMILIES)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return Pair(tmp_path_factory.mktemp("pair"), request.param)


def finished(result: Result) -> dict[int, dict[str, Any]]:
    """The last event of every text, by index."""
    assert result.exit_code == 0, result.output
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert events[0]["implementation"] == "transformers" and not events[0]["exact"]
    return {event["index"]: event for event in events if event["event"] == "finished"}


def test_every_drafter_says_what_transformers_says(pair: Pair) -> None:
    wanted = pair.own_ids(PROMPTS[0])
    for choice in (
        ("--drafter", "none"),
        ("--drafter", "ngram", "--k", "3"),
        ("--drafter", "early_exit", "--k", "3", "--set", "draft.layers=1"),
        ("--draft", str(pair.draft), "--k", "4"),
    ):
        event = finished(pair.helix(PROMPTS[0], "--json", *choice))[0]
        assert event["token_ids"] == wanted, choice
        drafted = event["stats"]["num_drafted"]
        assert (drafted > 0) == (choice[1] not in ("none", "ngram")) or choice[1] == "ngram"


def test_a_batch(pair: Pair, tmp_path: Path) -> None:
    source, output = tmp_path / "prompts.jsonl", tmp_path / "results.jsonl"
    source.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in PROMPTS), encoding="utf-8")
    arguments = ("--input", str(source), "--output", str(output), "--draft", str(pair.draft), "--k", "3")
    result = pair.helix(*arguments, "--set", "engine.max_step_tokens=10", "--set", "engine.max_sequences=2")
    assert result.exit_code == 0, result.output
    lines = {one["index"]: one for one in map(json.loads, output.read_text(encoding="utf-8").splitlines())}
    assert [lines[place]["token_ids"] for place in range(3)] == [pair.own_ids(prompt) for prompt in PROMPTS]


def test_a_kept_prompt_is_found_again(pair: Pair) -> None:
    long = " ".join(PROMPTS * 3)
    wanted = pair.own_ids(long)
    for _ in range(2):
        event = finished(pair.helix(long, "--json", "--drafter", "ngram", "--prompt-cache", "long"))[0]
        assert event["token_ids"] == wanted
    assert event["stats"]["num_reused_tokens"] > 0


def test_exact_mode_is_refused_when_it_is_asked_for(pair: Pair) -> None:
    result = pair.helix("Hello", "--drafter", "none", "--exact", "on")
    assert result.exit_code == 2 and result.stdout == ""
    assert "Exact mode cannot be had: a model that runs through transformers" in " ".join(result.stderr.split())


def test_a_refused_model_is_one_sentence_and_one_hint(tmp_path: Path) -> None:
    from tests.model.hf.zoo import make

    make("gptj").save_pretrained(tmp_path)
    tiny_tokenizer(tmp_path)
    result = CliRunner().invoke(
        app, ["generate", "--model", str(tmp_path), "--drafter", "none", "Hi"], prog_name="helix"
    )
    assert result.exit_code == 2 and result.stdout == ""
    assert "GPTJForCausalLM ignores" in result.stderr and "Hint:" in result.stderr
