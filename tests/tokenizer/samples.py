"""Small tokenizers of the kinds that models come with, written as checkpoint folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import transformers
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

CORPUS = [
    "The quick brown fox jumps over the lazy dog. Hello there! How are you today?  I'm fine, you'll see.",
    " def f(x):\n\treturn x + 12345\n\nuser assistant system",
    "日本語のテキスト é ü 😀 naïve",
] * 3
IS_CURRENT = tuple(map(int, transformers.__version__.split(".")[:2])) >= (5, 20)
"""Versions before that are the reference in all but a few cases, which they get wrong."""
TEXTS = [
    "",
    "a",
    " ",
    "Hello there",
    " Hello",
    "  two  spaces ",
    "\n\nHello\n",
    " <s>x",
    "<s> x</s>y",
    "é日本語😀",
    "e\u0301 ﬁ ½ \u00a0",
    "12345 678",
    "I'm you'll I'M",
    "<|im_start|>user\nhi<|im_end|>\n",
    "<think>x</think> y",
    "<|endoftext|>tab\there",
    "<unk> x<pad>y <extra> z",
    "▁a \U0001f468\u200d\U0001f469",
]

CHARACTERS = st.one_of(
    st.integers(0x20, 0x10FFFF).filter(lambda code: not 0xD800 <= code < 0xE000).map(chr),
    st.sampled_from("ab \n.<s>日本é\u0301😀👩\u200d🚀🇩🇪"),
)
"""Any character but lone surrogates; a range of numbers, because the tables of categories take seconds to build."""


def byte_level(folder: Path) -> Path:
    """A vocabulary of bytes and their merges, as GPT-2, Llama 3 and Qwen have."""
    tokenizer = Tokenizer(models.BPE())
    words = Regex(r"\p{N}{1,3}|[^\r\n\p{L}\p{N}]?\p{L}+|\s+|.")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(words, behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    tokenizer.add_tokens(["<think>"])
    return save(tokenizer, folder)


def sentence_piece(folder: Path) -> Path:
    """A vocabulary of text with an entry for each byte, as Llama 2, Mistral and Phi-3 have; BOS is added."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    special = ["<unk>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=[*special, *(f"<0x{byte:02X}>" for byte in range(256))], show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    content = json.loads(tokenizer.to_str())
    content["added_tokens"] = content["added_tokens"][: len(special)]
    tokenizer = Tokenizer.from_str(json.dumps(content))
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    return save(tokenizer, folder)


def save(tokenizer: Tokenizer, folder: Path) -> Path:
    """Write tokenizer.json; returns `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def declare(folder: Path, family: str | None = None, **config: Any) -> Path:
    """Write tokenizer_config.json, and config.json when a model family is given; returns `folder`."""
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    if family is not None:
        (folder / "config.json").write_text(json.dumps({"model_type": family}))
    return folder


def added_tokens(folder: Path) -> dict[str, dict[str, Any]]:
    """The added tokens of tokenizer.json as tokenizer_config.json lists them."""
    content = json.loads((folder / "tokenizer.json").read_text())
    return {str(token.pop("id")): token for token in content["added_tokens"]}
