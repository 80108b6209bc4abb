"""What a model that runs through transformers weighs, and keeps of a position, from its config alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from helix_cli.model.hf.quiet import quiet


@dataclass(frozen=True)
class HFSizes:
    """Numbers, not bytes."""

    parameters: int
    """Of the whole model; a tied head counts once."""
    matrices: int
    """Of linear modules, which Helix may store in another format; experts and embeddings are not among them."""
    largest: int
    """The largest parameter."""
    num_heads: int
    head_dim: int
    kv_values: int
    """Kept of one position, as far as the config tells; layers that share keys and values count as if they did not."""


def hf_sizes(config: Any) -> HFSizes:
    """Builds the modules on the meta device, which has shapes and no memory."""
    import transformers
    from transformers.pytorch_utils import Conv1D

    with quiet(), torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    matrices = [module.weight for module in model.modules() if type(module) in (nn.Linear, Conv1D)]
    counts = [parameter.numel() for parameter in model.parameters()]
    text = config.get_text_config()
    heads = text.num_attention_heads
    head_dim = getattr(text, "head_dim", None) or text.hidden_size // heads
    kv_heads = getattr(text, "num_key_value_heads", None) or heads
    key_dim = getattr(text, "qk_head_dim", None) or head_dim
    value_dim = getattr(text, "v_head_dim", None) or head_dim
    return HFSizes(
        parameters=sum(counts),
        matrices=sum(weight.numel() for weight in matrices),
        largest=max(counts),
        num_heads=heads,
        head_dim=max(key_dim, value_dim),
        kv_values=text.num_hidden_layers * kv_heads * (key_dim + value_dim),
    )
