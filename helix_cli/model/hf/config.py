"""What transformers' config of a checkpoint says of the model's shape, and which models are refused by it alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from helix_cli.backend import NUMBER_TYPES
from helix_cli.errors import ModelError
from helix_cli.model.fields import DOWNLOAD_AGAIN, Fields, read_json
from helix_cli.model.hf.quiet import briefly, quiet
from helix_cli.model.refusals import refuse_quantised

if TYPE_CHECKING:
    from helix_cli.model.hf.sizes import HFSizes

ANOTHER = "Choose a model whose layers all attend over keys and values; the README lists families that work."
MOVING_ROPE = ("dynamic", "longrope")
"""What the types are called of rotary embeddings whose frequencies depend on the longest text of a batch."""
WINDOWED = {"full_attention": False, "sliding_attention": True}
"""Kinds of layers that Helix computes, and whether they have a window."""
TELLING = ("window", "chunk", "index_topk", "sparse_attention", "sparse_block", "compress")
"""Words in the names of settings by which attention leaves keys out."""
HARMLESS = {
    "sliding_window",
    "use_sliding_window",
    "max_window_layers",
    "sliding_window_pattern",
    "_sliding_window_pattern",
    "prefix_dense_sliding_window_pattern",
    "chunk_size_feed_forward",
}
"""Settings named so that other checks look at, or that change nothing."""


@dataclass(frozen=True)
class HFArchitecture:
    """The shape of a model that runs through transformers; see `Shape`."""

    family: str
    name: str
    """The class that computes it, as in GPT2LMHeadModel."""
    num_layers: int
    hidden: int
    intermediate: int
    vocab_size: int
    context: int
    dtype: torch.dtype
    config: Any = field(repr=False, compare=False)
    """transformers' own."""

    @cached_property
    def sizes(self) -> HFSizes:
        """Worked out when first asked for: transformers builds the modules, without memory for their weights.

        Raises ModelError for a model that the guard refuses.
        """
        from helix_cli.model.hf.sizes import hf_sizes  # it needs the guard, which needs this

        return hf_sizes(self)


def read_hf_architecture(directory: Path) -> HFArchitecture:
    """Reads config.json the way transformers does. Raises ModelError for a model that cannot run."""
    values = Fields(read_json(directory / "config.json"), str(directory / "config.json"))
    refuse_quantised(values)
    config = hf_config(directory, values)
    name = _class_name(config, values)
    text = config.get_text_config()
    refuse_by_config(text, name)
    hidden = _positive(text, name, "hidden_size")
    return HFArchitecture(
        family=values.text("model_type"),
        name=name,
        num_layers=_positive(text, name, "num_hidden_layers"),
        hidden=hidden,
        intermediate=_widest(getattr(text, "intermediate_size", None)) or 4 * hidden,
        vocab_size=_positive(text, name, "vocab_size"),
        context=_positive(text, name, "max_position_embeddings"),
        dtype=_dtype(config, text),
        config=config,
    )


def hf_config(directory: Path, values: Fields) -> Any:
    """transformers' config object; code that lies in the checkpoint is never run. Raises ModelError."""
    import transformers
    from huggingface_hub.errors import StrictDataclassError

    family = values.text("model_type", "unknown")
    if family not in transformers.CONFIG_MAPPING:
        if "auto_map" in values:
            raise ModelError(
                f"The architecture {family} brings Python code of its own, which Helix never runs.",
                "Choose a model that transformers itself implements.",
            )
        raise ModelError(
            f"Neither Helix nor transformers {transformers.__version__} knows the architecture {family}.",
            "Install a newer transformers, or choose another model.",
        )
    try:
        with quiet():
            return transformers.AutoConfig.from_pretrained(directory, trust_remote_code=False, local_files_only=True)
    except (StrictDataclassError, ValueError, TypeError, KeyError, AttributeError, OSError) as error:
        raise ModelError(f"transformers cannot read {values.source}: {briefly(error)}.", DOWNLOAD_AGAIN) from error


def refuse_by_config(config: Any, name: str) -> None:
    """Raises ModelError for what would come out wrong in a batch of texts of different lengths."""
    for kind in _rope_types(config):
        if any(word in kind for word in MOVING_ROPE):
            raise ModelError(
                f"{name} has rotary embeddings of type {kind}, which change with the longest text of a batch.",
                "Choose a checkpoint with another rope type, such as yarn or llama3.",
            )
    for index, kind in enumerate(getattr(config, "layer_types", None) or ()):
        if kind not in WINDOWED:
            raise ModelError(
                f"Layer {index} of {name} is of kind {kind}; Helix computes full_attention and sliding_attention only.",
                ANOTHER,
            )
    for key, value in sorted(config.to_dict().items()):
        if value and key not in HARMLESS and any(word in key for word in TELLING):
            raise ModelError(f"{name} sets {key} to {value!r}, a kind of attention that Helix does not know.", ANOTHER)


def _class_name(config: Any, values: Fields) -> str:
    """The causal language model of a config. Raises ModelError where there is none, or the checkpoint is another."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    family, given = values.text("model_type"), values.texts("architectures")
    name = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(config.model_type)
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(
            f"{given[0] if given else family} is an encoder-decoder, and Helix runs decoders.",
            "Choose a causal language model.",
        )
    if name is None or (given and name not in given):
        raise ModelError(
            f"The architecture {given[0] if given else family} is not a causal language model.",
            "Choose a checkpoint that generates text.",
        )
    return str(name)


def _rope_types(config: Any) -> Iterator[str]:
    """Every rope type that a config names: one, or one for each kind of layer."""
    for name in ("rope_parameters", "rope_scaling"):
        given = getattr(config, name, None)
        if isinstance(given, dict):
            for one in (given, *(value for value in given.values() if isinstance(value, dict))):
                yield str(one.get("rope_type", one.get("type", "default")))


def _positive(config: Any, name: str, field: str) -> int:
    value = getattr(config, field, None)
    if value is None:
        raise ModelError(
            f"The config of {name} does not say {field}.",
            "Helix cannot size its cache without it; the README lists families that work.",
        )
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ModelError(f"In the config of {name}, {field} is {value!r} and not a positive integer.", DOWNLOAD_AGAIN)
    return value


def _widest(value: int | Sequence[int] | None) -> int:
    """Some configs give a width for each layer; 0 where none is given."""
    return max(value) if isinstance(value, Sequence) else value or 0


def _dtype(config: Any, text: Any) -> torch.dtype:
    """Number type of the stored weights; float32 where it is not said."""
    said = getattr(config, "dtype", None) or getattr(text, "dtype", None) or "float32"
    name = str(said).removeprefix("torch.")
    if name not in NUMBER_TYPES:
        raise ModelError(f"Weights in {name} are not supported.", f"Choose a checkpoint in {', '.join(NUMBER_TYPES)}.")
    return NUMBER_TYPES[name]
