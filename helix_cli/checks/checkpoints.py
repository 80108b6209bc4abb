"""Small random checkpoints, whole or broken on purpose, for what is proved apart from the user's models."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import save_file

from helix_cli.backend import open_backend
from helix_cli.model.architecture import read_architecture
from helix_cli.model.decoder import Decoder
from helix_cli.model.loader import expected_tensors, load_decoder

TINY_VOCABULARY = 16
"""So few words that the drafts of a slightly different model agree now and then: every branch is taken."""
TINY_EOS = frozenset({2})
_TOKENIZER_FILES = ("tokenizer*", "*.model", "vocab*", "merges*", "special_tokens*", "added_tokens*", "*.jinja")


def write_checkpoint(folder: Path, vocab_size: int, seed: int = 0, context: int = 256) -> Path:
    """A random two-layer Llama checkpoint; the weights are large, so that every part shows in the logits."""
    config = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": vocab_size,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": context,
        "rms_norm_eps": 1e-6,
        "hidden_act": "silu",
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "eos_token_id": 2,
        "torch_dtype": "float32",
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, shape in expected_tensors(read_architecture(folder)).items():
        noise = torch.randn(shape, generator=generator)
        if len(shape) == 1:
            tensors[name] = 1 + 0.2 * noise
        else:
            tensors[name] = noise * (0.5 if "embed" in name else 1.5 * shape[1] ** -0.5)
    save_file(tensors, folder / "model.safetensors")
    return folder


def copy_tokenizer(source: Path, folder: Path) -> None:
    """The tokenizer files of another checkpoint."""
    for pattern in _TOKENIZER_FILES:
        for file in source.glob(pattern):
            shutil.copy(file, folder)


@cache
def tiny_pair() -> tuple[Decoder, Decoder]:
    """A tiny target and a draft that differs from it a little."""
    models = []
    for _ in range(2):
        with TemporaryDirectory() as folder:
            path = write_checkpoint(Path(folder), TINY_VOCABULARY)
            backend = open_backend("cpu", torch.get_num_threads())
            models.append(load_decoder(path, read_architecture(path), backend, torch.float32))
    generator = torch.Generator().manual_seed(1)
    models[1].embedding.add_(0.2 * torch.randn(models[1].embedding.shape, generator=generator))
    return models[0], models[1]
