"""The decoder against transformers, for every family and every shape of row."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from helix_cli.backend import Backend
from helix_cli.cache.table import BlockTable
from helix_cli.errors import Interrupted, ModelError
from helix_cli.model.decoder import Decoder
from helix_cli.model.runner import ModelRunner
from tests.model.parity import (
    Text,
    contiguous_table,
    cpu,
    largest_difference,
    reference,
    runner_for,
    shuffled_table,
    tokens_of,
)
from tests.tiny import tiny_checkpoint

CLOSE = 1e-4
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32, "rope_theta": 10000.0}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
    "rope_theta": 10000.0,
}
QWEN_WINDOW = {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1}

CASES: dict[str, dict[str, Any]] = {
    "llama": {"family": "llama"},
    "llama, no groups": {"family": "llama", "num_key_value_heads": 4},
    "llama, one key head": {"family": "llama", "num_key_value_heads": 1},
    "llama, tied": {"family": "llama", "tie_word_embeddings": True},
    "llama, biases": {"family": "llama", "attention_bias": True, "mlp_bias": True},
    "llama, wide heads": {"family": "llama", "head_dim": 32},
    "llama, linear": {"family": "llama", "rope_parameters": {"rope_type": "linear", "factor": 3.0, "rope_theta": 1e4}},
    "llama, llama3": {"family": "llama", "rope_parameters": LLAMA3},
    "llama, yarn": {"family": "llama", "rope_parameters": YARN},
    "llama, yarn, factors": {
        "family": "llama",
        "rope_parameters": YARN | {"mscale": 0.7, "mscale_all_dim": 0.9, "beta_fast": 16.0, "truncate": False},
    },
    "mistral": {"family": "mistral", "sliding_window": None},
    "mistral, window": {"family": "mistral", "sliding_window": 6},
    "mistral, narrow window": {"family": "mistral", "sliding_window": 2},
    "qwen2": {"family": "qwen2"},
    "qwen2, window": {"family": "qwen2"} | QWEN_WINDOW,
    "qwen2, layer types": {
        "family": "qwen2",
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    }
    | QWEN_WINDOW,
    "qwen3": {"family": "qwen3"},
    "qwen3, window, biases": {"family": "qwen3", "head_dim": 16, "attention_bias": True} | QWEN_WINDOW,
    "phi3": {"family": "phi3"},
    "phi3, window": {"family": "phi3", "sliding_window": 5},
    "phi3, partial": {
        "family": "phi3",
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5},
    },
}
TABLES: dict[str, Callable[[int], BlockTable]] = {"contiguous": contiguous_table, "shuffled": shuffled_table}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Any]]:
    """Each case's checkpoint, with the transformers model of it."""
    made: dict[str, tuple[Path, Any]] = {}

    def get(case: str) -> tuple[Path, Any]:
        if case not in made:
            path = tiny_checkpoint(tmp_path_factory.mktemp("model"), **CASES[case])
            made[case] = path, reference(path)
        return made[case]

    return get


Checkpoints = Callable[[str], tuple[Path, Any]]


@pytest.fixture
def text_of(checkpoints: Checkpoints) -> Callable[..., Text]:
    """A sequence of 40 tokens that nothing of is computed."""

    def make(case: str, table: str = "contiguous", backend: Backend | None = None) -> Text:
        path, model = checkpoints(case)
        return Text(runner_for(path, backend), model, tokens_of(model, 40), TABLES[table](12))

    return make


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("case", CASES)
def test_every_row_agrees_with_transformers(text_of: Callable[..., Text], case: str, table: str) -> None:
    text = text_of(case, table)
    assert text.feed(21, num_logits=21, keep=10) < CLOSE  # a prefill of more than a folded window
    assert text.feed(7, num_logits=3) < CLOSE  # a chunk over what was rolled back
    assert text.feed(1) < CLOSE  # a decode step
    assert text.feed(5, num_logits=5, num_drafted=4, keep=2) < CLOSE  # a verification, half rejected
    text.tokens[20:] = tokens_of(text.model, 20, seed=1)
    assert text.feed(1) < CLOSE  # another token over a stale slot
    assert text.feed(18, num_logits=1) < CLOSE  # and more of them, in a long chunk
    assert text.feed(1) < CLOSE


@pytest.mark.parametrize("case", CASES)
def test_a_ragged_batch_agrees_with_transformers(checkpoints: Checkpoints, case: str) -> None:
    path, model = checkpoints(case)
    runner = runner_for(path)
    blocks = torch.randperm(64, generator=torch.Generator().manual_seed(1)).tolist()
    tables = [
        BlockTable(blocks[:10]),
        BlockTable(blocks[10:12]),
        BlockTable(blocks[12:20]),
        BlockTable(sorted(blocks[20:30])),
    ]
    texts = [Text(runner, model, tokens_of(model, 32, seed), table) for seed, table in enumerate(tables)]
    for text, count in zip(texts, (9, 0, 13, 30), strict=True):
        if count:
            text.feed(count)
    # A verification, a new prompt whose logits nobody wants yet, a chunk, and a decode step.
    wanted = [(5, 5, 4), (8, 0, 0), (19, 1, 0), (1, 1, 0)]
    rows = [text.row(*one) for text, one in zip(texts, wanted, strict=True)]
    assert largest_difference(texts, rows) < CLOSE
    # Two decode steps side by side.
    assert largest_difference(texts[2:], [texts[2].row(1, 1), texts[3].row(1, 1)]) < CLOSE


@pytest.mark.parametrize("case", ["llama", "qwen2, window", "phi3", "llama, biases"])
@pytest.mark.parametrize(
    "changes",
    [{"mixed_products": False}, {"packed_linear": False, "mixed_products": False}, {"fused_attention": False}],
    ids=str,
)
def test_every_capability_agrees(text_of: Callable[..., Text], case: str, changes: dict[str, bool]) -> None:
    text = text_of(case, "shuffled", cpu(**changes))
    assert text.feed(20, num_logits=20) < CLOSE
    assert text.feed(5, num_logits=5, num_drafted=4) < CLOSE
    assert text.feed(1) < CLOSE


@pytest.mark.parametrize("small", [0, 1 << 18])
def test_packed_products_agree(checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch, small: int) -> None:
    monkeypatch.setattr("helix_cli.model.linear.SMALL", small)
    for case in ("llama, biases", "llama, tied"):
        path, model = checkpoints(case)
        text = Text(runner_for(path, cpu(mixed_products=False)), model, tokens_of(model, 40), contiguous_table(12))
        assert text.feed(20, num_logits=20) < CLOSE
        assert text.feed(5, num_logits=5, num_drafted=4) < CLOSE
        assert text.feed(1) < CLOSE


@pytest.mark.parametrize("case", ["llama", "qwen3", "phi3, partial"])
def test_positions_beyond_the_first_table_of_rotations(checkpoints: Checkpoints, case: str) -> None:
    path, model = checkpoints(case)
    runner = runner_for(path)
    monotone = BlockTable(list(range(64)))
    text = Text(runner, model, tokens_of(model, 250), monotone)
    assert isinstance(runner.decoder, Decoder)
    runner.decoder.rotary._tables = runner.decoder.rotary._make(8)
    assert text.feed(248) < CLOSE
    assert text.feed(2, num_logits=2) < CLOSE


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "phi3"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_narrow_types_stay_near(tmp_path: Path, family: str, dtype: torch.dtype) -> None:
    path = tiny_checkpoint(tmp_path, family, dtype=dtype)
    model = reference(path, dtype)
    text = Text(runner_for(path, dtype=dtype), model, tokens_of(model, 30), shuffled_table(12))
    exact = Text(runner_for(path), reference(path), text.tokens, shuffled_table(12))
    scale = float(exact.expected().std())
    # As near to transformers in the same type as that is to float32.
    tolerance = 1.5 * float((text.expected() - exact.expected()).abs().max()) / scale + 0.01
    assert text.feed(20, num_logits=20) / scale < tolerance
    assert text.feed(5, num_logits=5) / scale < tolerance
    assert text.feed(1) / scale < tolerance


@pytest.mark.parametrize("case", ["llama", "qwen2, layer types"])
def test_a_truncated_decoder_is_a_model_of_fewer_layers(checkpoints: Checkpoints, case: str) -> None:
    path, model = checkpoints(case)
    runner = runner_for(path)
    assert isinstance(runner.decoder, Decoder)
    shorter = runner.decoder.truncated(2)
    assert shorter.architecture.num_layers == 2 and shorter.head is runner.decoder.head
    model = reference(path)
    del model.model.layers[2:]
    model.config.num_hidden_layers = 2
    text = Text(ModelRunner(shorter, runner.cache), model, tokens_of(model, 30), contiguous_table(10))
    assert text.feed(20, num_logits=20) < CLOSE
    assert text.feed(1) < CLOSE


@pytest.mark.parametrize("num_layers", [0, 4])
def test_a_decoder_is_cut_within_its_depth(checkpoints: Checkpoints, num_layers: int) -> None:
    runner = runner_for(checkpoints("llama")[0])
    with pytest.raises(ModelError, match=f"of 3 layers cannot be cut to {num_layers}"):
        runner.decoder.truncated(num_layers)


def test_an_interrupt_stops_between_layers_and_harms_nothing(text_of: Callable[..., Text]) -> None:
    text = text_of("llama")
    text.feed(8)
    answers = iter([False, True])
    interrupted = ModelRunner(text.runner.decoder, text.runner.cache, lambda: next(answers))
    with pytest.raises(Interrupted):
        interrupted.forward([text.row(5, 1)])
    assert next(answers, None) is None
    assert text.table.num_computed == 8
    text.tokens[8:] = tokens_of(text.model, 32, seed=2)
    assert text.feed(4, num_logits=4) < CLOSE


def test_no_logits_wanted(text_of: Callable[..., Text]) -> None:
    text = text_of("llama")
    found = text.runner.forward([text.row(8, 0)])
    assert found.shape == (0, text.model.config.vocab_size)
    text.table.num_computed = 8
    assert text.feed(1) < CLOSE
