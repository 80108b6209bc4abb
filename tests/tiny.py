"""Tiny random checkpoints and tokenizers, made on the spot: tests download nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, PreTrainedTokenizerFast

VOCABULARY = 320
END_OF_TEXT, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
EOS = 2
"""Id of TURN_END, which ends a turn; 0 is END_OF_TEXT (padding) and 1 TURN_START."""

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CORPUS = (
    "The quick brown fox jumps over the lazy dog while the other animals are watching.",
    "A sequence holds the tokens that the model has said, and the draft proposes what follows.",
    "Hello there! How are you today? Please write a short story about the sea and the wind.",
    "def fold(values):\n    total = 0\n    for value in values:\n        total += value\n    return total\n",
)
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "tie_word_embeddings": False,
    "bos_token_id": None,
    "eos_token_id": EOS,
    "pad_token_id": 0,
}


def tiny_model(family: str = "llama", seed: int = 0, dtype: torch.dtype = torch.float32, **config: Any) -> Any:
    """Build a random transformers model of one family; `config` overrides SIZES.

    Norms and biases are random too and the weights are large, so that no part of the model is invisible in the logits.
    """
    factory: Any = AutoModelForCausalLM
    model = factory.from_config(AutoConfig.for_model(family, **(SIZES | config)), attn_implementation="eager")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            is_norm = name.endswith("norm.weight")
            if is_norm:
                parameter.copy_(1 + 0.2 * noise)
            elif parameter.dim() == 1:
                parameter.copy_(0.5 * noise)
            else:
                parameter.copy_(noise * (0.5 if "embed" in name else 1.5 * parameter.shape[1] ** -0.5))
    return model.to(dtype).eval()


def tiny_checkpoint(
    directory: Path,
    family: str = "llama",
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    max_shard_size: str = "1GB",
    generation: dict[str, Any] | None = None,
    **config: Any,
) -> Path:
    """Save a random model (see `tiny_model`) as config.json and safetensors; returns `directory`.

    `generation` is written as generation_config.json over the default, which names EOS only.
    """
    model = tiny_model(family, seed, dtype, **config)
    if generation is not None:
        generation_config: Any = GenerationConfig
        model.generation_config = generation_config(**({"eos_token_id": EOS} | generation))
    model.save_pretrained(directory, max_shard_size=max_shard_size)
    return directory


def tiny_tokenizer(directory: Path, *, chat_template: str | None = CHAT_TEMPLATE) -> Path:
    """Save a byte-level BPE tokenizer of VOCABULARY entries with a chat template and EOS; returns `directory`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END_OF_TEXT, TURN_START, TURN_END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    wrap: Any = PreTrainedTokenizerFast
    fast = wrap(tokenizer_object=tokenizer, eos_token=TURN_END, pad_token=END_OF_TEXT)
    fast.chat_template = chat_template
    fast.save_pretrained(directory)
    return directory


def speaking_checkpoint(directory: Path, text: str, **config: Any) -> Path:
    """Save a model, with its tokenizer, that answers every message with `text`, and then with it again if it goes on.

    Its layers add nothing: each token of the text is a direction of its own, which the head turns into the next token.
    """
    tiny_tokenizer(directory)
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    line_end = tokenizer.encode("\n").ids
    chain = [*line_end, *tokenizer.encode(text).ids, EOS]
    assert len(line_end) == 1 and len(set(chain)) == len(chain) <= SIZES["hidden_size"], "a token has one successor"
    model = tiny_model(**config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.fill_(1.0 if name.endswith("norm.weight") else 0.0)
        for place, token in enumerate(chain):
            model.model.embed_tokens.weight[token, place] = 1.0
            model.lm_head.weight[chain[place + 1] if place + 1 < len(chain) else chain[1], place] = 9.0
    model.save_pretrained(directory)
    return directory
