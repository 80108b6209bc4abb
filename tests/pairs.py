"""Pairs of tiny models whose tokenizers differ: by their ids alone, or in how they cut text."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from helix_cli.backend import open_backend
from helix_cli.core import Sequence
from helix_cli.draft.vocabulary import ByText, SharedTokens, Vocabulary
from helix_cli.model.architecture import read_architecture
from helix_cli.model.decoder import Decoder
from helix_cli.model.loader import load_decoder
from helix_cli.tokenizer import Pairing, Side, Tokenizer, pair
from tests.harness import EOS, SMALL
from tests.tiny import tiny_checkpoint

WAYS = ("mapped", "shared", "text")
"""The ways to talk of a text that need two tokenizers."""
SAMPLE = "abcd ab cda bc abab d"
# The target's 16 tokens; EOS is 2, and every id of the harness's prompts stands for something.
TARGET_SPECIAL = ["<pad>", "<start>", "<end>"]
TARGET_WORDS = ["a", "b", "c", "d", "Ġ", "ab", "cd", "Ġa", "Ġb", "abcd", "bc", "Ġab", "da"]
TARGET_MERGES = [("a", "b"), ("c", "d"), ("Ġ", "a"), ("Ġ", "b"), ("ab", "cd"), ("b", "c"), ("Ġ", "ab"), ("d", "a")]
# Another kind of tokenizer with other words: BOS is added, spaces are spelled otherwise, and there is an end.
DRAFT_SPECIAL = ["<unk>", "<s>", "</s>"]
DRAFT_WORDS = ["▁", "d", "c", "b", "a", "ca", "ab", "▁c", "▁a", "bcd", "cd", "▁ab", "▁ca", "dd"]
DRAFT_MERGES = [("c", "a"), ("a", "b"), ("▁", "c"), ("▁", "a"), ("c", "d"), ("b", "cd"), ("▁", "ab"), ("▁", "ca")]


def target_tokenizer(folder: Path, order: list[str] | None = None) -> Path:
    """Byte-level, without BOS; `order` gives the words other ids."""
    words = [*TARGET_SPECIAL, *(order or TARGET_WORDS)]
    backend = Backend(models.BPE({word: id for id, word in enumerate(words)}, TARGET_MERGES))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(TARGET_SPECIAL)
    return _save(backend, folder, eos_token="<end>")


def draft_tokenizer(folder: Path) -> Path:
    """In the manner of SentencePiece, with BOS."""
    words = [*DRAFT_SPECIAL, *DRAFT_WORDS]
    merges = [*DRAFT_MERGES, ("d", "d")]
    backend = Backend(models.BPE({word: id for id, word in enumerate(words)}, merges, unk_token="<unk>"))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    backend.add_special_tokens(DRAFT_SPECIAL)
    return _save(backend, folder, bos_token="<s>", eos_token="</s>")


def _save(backend: Backend, folder: Path, **named: str) -> Path:
    backend.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(named))
    return folder


@dataclass(frozen=True)
class Pair:
    """Two checkpoints, their models and how their vocabularies correspond."""

    target_path: Path
    draft_path: Path
    target: Decoder
    draft: Decoder
    pairing: Pairing

    def tokenizers(self) -> tuple[Tokenizer, Tokenizer]:
        """The target's and the draft's."""
        return Tokenizer(self.target_path), Tokenizer(self.draft_path)

    def vocabulary_of(self, way: str) -> Callable[[Sequence], Vocabulary]:
        """One of WAYS, for every sequence."""
        kind = ByText if way == "text" else SharedTokens
        vocabulary = kind(*self.tokenizers(), self.pairing, SMALL["vocab_size"], EOS)
        return lambda sequence: vocabulary


@cache
def tiny_pair(way: str, noise: float = 0.2) -> Pair:
    """A pair for one of WAYS. The draft knows of every token that it shares what the target knows of it, nearly."""
    target_path = target_tokenizer(tiny_checkpoint(Path(mkdtemp()), **SMALL))
    if way == "mapped":
        size = len(TARGET_SPECIAL) + len(TARGET_WORDS)
        draft_path = tiny_checkpoint(Path(mkdtemp()), **SMALL)
        target_tokenizer(draft_path, TARGET_WORDS[::-1])
    else:
        size = len(DRAFT_SPECIAL) + len(DRAFT_WORDS)
        draft_path = tiny_checkpoint(Path(mkdtemp()), seed=5, **(SMALL | {"vocab_size": size}))
        draft_tokenizer(draft_path)
    sides = Side(Tokenizer(target_path), SMALL["vocab_size"], (2,)), Side(Tokenizer(draft_path), size, (2,))
    pairing = pair(*sides, SAMPLE)
    _teach(draft_path, target_path, pairing, noise)
    return Pair(target_path, draft_path, _load(target_path), _load(draft_path), pairing)


def _teach(draft_path: Path, target_path: Path, pairing: Pairing, amount: float) -> None:
    """Gives the draft the target's layers, and its rows where tokens correspond, with some noise."""
    taught, known = load_file(draft_path / "model.safetensors"), load_file(target_path / "model.safetensors")
    generator = torch.Generator().manual_seed(1)
    for name, tensor in known.items():
        if "embed_tokens" in name or "lm_head" in name:
            noise = amount * torch.randn(tensor.shape, generator=generator) * ("embed_tokens" in name)
            for one, other in pairing.to_draft.items():
                taught[name][other] = tensor[one] + noise[one]
        else:
            taught[name] = tensor
    metadata: dict[str, Any] = {"format": "pt"}
    save_file(taught, draft_path / "model.safetensors", metadata)


def _load(path: Path) -> Decoder:
    return load_decoder(path, read_architecture(path), open_backend("cpu", threads=1), torch.float32)
