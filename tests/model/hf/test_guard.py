"""What must be refused by name before the first request: models that would be silently wrong over a paged cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from packaging.version import Version

from helix_cli.errors import ModelError
from helix_cli.model.hf import guard
from helix_cli.model.hf.attention import NAME
from helix_cli.model.hf.config import refuse_by_config
from tests.model.hf.zoo import REFUSED, config_of, load, make

REASONS = {
    "bloom": "BloomForCausalLM",
    "mpt": "MptForCausalLM",
    # Before torch 2.6 transformers cannot even make this model's masks.
    "falcon": "attention of FalconForCausalLM ignores"
    if Version(torch.__version__) >= Version("2.6")
    else "require torch>=2.6",
    "gptj": "attention of GPTJForCausalLM ignores",
    "gpt_neo": "GPTNeoForCausalLM sets window_size to 7",
    "codegen": "attention of CodeGenForCausalLM ignores",
    "mamba": "Layer 0 of MambaForCausalLM is of kind linear_attention; Helix computes full_attention",
    "qwen3_next": "Layer 0 of Qwen3NextForCausalLM is of kind linear_attention",
    "llama4_text": "Layer 0 of Llama4ForCausalLM is of kind chunked_attention",
    "qwen2_moe/window": "The sliding window of Qwen2MoeForCausalLM (7) exists only as a mask",
    "phi3/longrope": "rotary embeddings of type longrope",
    "gemma/dynamic": "rotary embeddings of type dynamic",
    "t5": "encoder-decoder",
}


def test_every_refused_family_has_its_reason() -> None:
    assert REASONS.keys() == REFUSED.keys()


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name(name: str, tmp_path: Path) -> None:
    make(name).save_pretrained(tmp_path)
    with pytest.raises(ModelError) as caught:
        load(tmp_path)
    assert REASONS[name] in caught.value.message
    assert caught.value.hint


def test_a_setting_by_which_the_kinds_of_layers_were_chosen_is_harmless() -> None:
    refuse_by_config(config_of("gemma", prefix_dense_sliding_window_pattern=1), "GemmaForCausalLM")
    with pytest.raises(ModelError, match="sets dense_sliding_window to 7"):
        refuse_by_config(config_of("gemma", dense_sliding_window=7), "GemmaForCausalLM")


@pytest.fixture(scope="module")
def gemma(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that runs."""
    path = tmp_path_factory.mktemp("gemma")
    make("gemma").save_pretrained(path)
    return path


def test_an_argument_that_nobody_knows_is_refused(gemma: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.models.gemma.modeling_gemma import GemmaAttention

    whole: Any = GemmaAttention.forward

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        return whole(self, *args, **kwargs, position_bias=torch.ones(1))

    monkeypatch.setattr(GemmaAttention, "forward", forward)
    with pytest.raises(ModelError, match="Layer 0 of GemmaForCausalLM passes position_bias to its attention"):
        load(gemma)


def test_attention_that_is_not_causal_is_refused(gemma: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.models.gemma.modeling_gemma import GemmaAttention

    monkeypatch.setattr(GemmaAttention, "is_causal", property(lambda self: False, lambda self, value: None), False)
    with pytest.raises(ModelError, match="passes is_causal=False"):
        load(gemma)


def test_a_layer_that_asks_twice_or_not_is_refused(gemma: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.models.gemma.modeling_gemma import GemmaAttention

    whole = GemmaAttention.__init__

    def confused(self: Any, config: Any, layer_idx: int) -> None:
        whole(self, config=config, layer_idx=min(layer_idx, 2))

    monkeypatch.setattr(GemmaAttention, "__init__", confused)
    with pytest.raises(ModelError, match=r"Layer 2 of GemmaForCausalLM \(GemmaAttention\) asked for attention 2 times"):
        load(gemma)


def test_other_logits_than_the_models_own_are_refused(gemma: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that counts positions by itself goes through the probe, and not through the comparison."""
    from transformers.models.gemma.modeling_gemma import GemmaModel

    whole = GemmaModel.forward

    def forward(self: Any, input_ids: Any, **kwargs: Any) -> Any:
        kwargs["position_ids"] = torch.arange(input_ids.shape[1])[None]
        return whole(self, input_ids, **kwargs)

    monkeypatch.setattr(GemmaModel, "forward", forward)
    with pytest.raises(ModelError, match="computes other logits over a paged cache than by itself"):
        load(gemma)


def test_logits_that_are_no_numbers_are_no_agreement(gemma: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "own_logits", lambda module, tokens, device: torch.full((len(tokens), 96), torch.nan))
    with pytest.raises(ModelError, match="differ by nan"):
        load(gemma)


def test_what_the_modules_raise_becomes_a_sentence(gemma: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.models.gemma.modeling_gemma import GemmaModel

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        raise AttributeError("no weight here\nand much more")

    monkeypatch.setattr(GemmaModel, "forward", forward)
    with pytest.raises(
        ModelError, match="GemmaForCausalLM cannot run over a paged cache: no weight here and much more"
    ):
        load(gemma)


def test_the_attention_is_helixs_after_the_comparison(gemma: Path) -> None:
    decoder = load(gemma)
    assert decoder.module.config._attn_implementation == NAME
    own = guard.own_logits(decoder.module, [3, 4], decoder.device)
    assert own.shape == (2, 96) and decoder.module.config._attn_implementation == NAME
