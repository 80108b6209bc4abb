"""Which tokenizer class transformers picks for a checkpoint, and what that class changes in its tokenizer.json.

A class with a constructor of its own ignores the file's normaliser, pre-tokeniser, decoder and model flags and sets its
own. After transformers 5.23: models/auto/tokenization_auto.py and models/{llama,qwen2,gpt2}/tokenization_*.py.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend

GENERIC = "TokenizersBackend"
"""The class that takes tokenizer.json as it is."""

_GENERIC_NAMES = frozenset({"TokenizersBackend", "PreTrainedTokenizer"})
_END = "<|endoftext|>"
_QWEN_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


class Shape(ABC):
    """A class that rebuilds a byte-pair tokenizer around the vocabulary and merges of its tokenizer.json."""

    special_tokens: ClassVar[Mapping[str, str]]
    """Named special tokens where tokenizer_config.json does not mention them."""
    model_flags: ClassVar[Mapping[str, Any]]

    def fits(self, backend: Backend) -> bool:
        """Whether the class takes this model as it is; it would turn any other into byte-pair encoding."""
        return type(backend.model).__name__ == "BPE"

    def apply(self, backend: Backend, config: Mapping[str, Any], special: Sequence[str]) -> None:
        """Make `backend` what the class makes of it, in place."""
        model = backend.model
        for flag, value in {"dropout": None, "unk_token": None, "ignore_merges": False, **self.model_flags}.items():
            setattr(model, flag, value)
        self.set_pipeline(backend, config)

    @abstractmethod
    def set_pipeline(self, backend: Backend, config: Mapping[str, Any]) -> None:
        """Set normaliser, pre-tokeniser and decoder."""


class LlamaShape(Shape):
    """SentencePiece-style: spaces become U+2581, unknown characters become byte tokens."""

    special_tokens: ClassVar[Mapping[str, str]] = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    model_flags: ClassVar[Mapping[str, Any]] = {"fuse_unk": True, "byte_fallback": True}

    def set_pipeline(self, backend: Backend, config: Mapping[str, Any]) -> None:
        """See `Shape`."""
        from tokenizers import decoders, pre_tokenizers

        prefix = config.get("add_prefix_space")
        prefix = True if prefix is None else bool(prefix)
        scheme = ("always" if config.get("legacy", False) else "first") if prefix else "never"
        steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
        if prefix:
            steps.append(decoders.Strip(content=" ", left=1))
        backend.normalizer = None
        backend.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme=scheme, split=False)
        backend.decoder = decoders.Sequence(steps)


class Qwen2Shape(Shape):
    """Byte-level, with Qwen's way to split words."""

    special_tokens: ClassVar[Mapping[str, str]] = dict.fromkeys(("unk_token", "eos_token", "pad_token"), _END)
    model_flags: ClassVar[Mapping[str, Any]] = {
        "fuse_unk": False,
        "byte_fallback": False,
        "continuing_subword_prefix": "",
        "end_of_word_suffix": "",
    }

    def apply(self, backend: Backend, config: Mapping[str, Any], special: Sequence[str]) -> None:
        """See `Shape`; this class also makes every special token an added one."""
        from tokenizers import AddedToken

        super().apply(backend, config, special)
        backend.add_tokens([AddedToken(token, special=True) for token in special])

    def set_pipeline(self, backend: Backend, config: Mapping[str, Any]) -> None:
        """See `Shape`."""
        from tokenizers import Regex, decoders, normalizers, pre_tokenizers

        prefix = bool(config.get("add_prefix_space"))
        backend.normalizer = normalizers.NFC()
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(_QWEN_WORDS), behavior="isolated", invert=False),
                pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=False),
            ]
        )
        backend.decoder = decoders.ByteLevel()


class GPT2Shape(Shape):
    """Byte-level, with GPT-2's way to split words."""

    special_tokens: ClassVar[Mapping[str, str]] = dict.fromkeys(("unk_token", "bos_token", "eos_token"), _END)
    model_flags: ClassVar[Mapping[str, Any]] = {
        "fuse_unk": False,
        "byte_fallback": False,
        "continuing_subword_prefix": "",
        "end_of_word_suffix": "",
    }

    def set_pipeline(self, backend: Backend, config: Mapping[str, Any]) -> None:
        """See `Shape`."""
        from tokenizers import decoders, pre_tokenizers

        backend.normalizer = None
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=bool(config.get("add_prefix_space")))
        backend.decoder = decoders.ByteLevel()


CLASSES: Mapping[str, Shape] = {
    "LlamaTokenizer": LlamaShape(),
    "Qwen2Tokenizer": Qwen2Shape(),
    "GPT2Tokenizer": GPT2Shape(),
}


def class_of(path: Path, declared: str | None, model_config: Mapping[str, Any]) -> str | None:
    """The class that AutoTokenizer picks: GENERIC, a key of `CLASSES`, or None when that is not known here.

    `declared` is the class in tokenizer_config.json, `model_config` the content of config.json.
    """
    family = model_config.get("model_type")
    name = declared or model_config.get("tokenizer_class")
    name = name.removesuffix("Fast") if isinstance(name, str) else None
    if family == "phi3":  # the class on the hub is known to be wrong
        return GENERIC
    if family == "mistral":
        return None if (path / "tekken.json").is_file() else GENERIC
    if family == "qwen2":  # the same, the other way round
        return "Qwen2Tokenizer"
    if family not in {None, "llama", "qwen3", "smollm3"}:
        return None
    if name is None:
        return "Qwen2Tokenizer" if family == "qwen3" else GENERIC
    if name in _GENERIC_NAMES or (name == "LlamaTokenizer" and _is_byte_level(path)):
        return GENERIC
    return name if name in CLASSES else None


def _is_byte_level(path: Path) -> bool:
    """Whether tokenizer.json mentions the byte-level alphabet, which LlamaTokenizer does not have."""
    return '"ByteLevel"' in (path / "tokenizer.json").read_text(encoding="utf-8", errors="replace")
