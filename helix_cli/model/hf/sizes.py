"""What a model that runs through transformers weighs, and keeps of a position, before any weight is read.

Its modules are built on the meta device, which has shapes and no memory, and two tokens run there. So a model that asks
for no attention, or for another than its config says, is refused before its weights are read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from helix_cli.cache.paged import KVShape, bytes_per_block
from helix_cli.errors import ModelError
from helix_cli.model.fields import DOWNLOAD_AGAIN
from helix_cli.model.hf import guard
from helix_cli.model.hf.attention import NAME, register
from helix_cli.model.hf.decoder import HFDecoder
from helix_cli.model.hf.quiet import briefly, quiet

if TYPE_CHECKING:
    from helix_cli.model.hf.config import HFArchitecture


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
    """Kept of one position."""


def hf_sizes(shape: HFArchitecture) -> HFSizes:
    """The sizes of the model that the config describes, even where `shape` is cut short.

    Raises ModelError for a model that the guard refuses.
    """
    import transformers
    from transformers.pytorch_utils import Conv1D

    register()
    try:
        with quiet(), torch.device("meta"):
            module = transformers.AutoModelForCausalLM.from_config(shape.config).eval()  # type: ignore[no-untyped-call]
    except (ValueError, TypeError, LookupError, AttributeError, RuntimeError, ArithmeticError, ImportError) as error:
        raise ModelError(
            f"transformers cannot build the {shape.name} that config.json describes: {briefly(error)}.", DOWNLOAD_AGAIN
        ) from error
    whole = replace(shape, num_layers=shape.config.get_text_config().num_hidden_layers)
    kept = _kept(HFDecoder(whole, shape.dtype, torch.device("meta"), False, module, ()))
    matrices = [one.weight for one in module.modules() if type(one) in (nn.Linear, Conv1D)]
    counts = [parameter.numel() for parameter in module.parameters()]
    return HFSizes(
        parameters=sum(counts),
        matrices=sum(weight.numel() for weight in matrices),
        largest=max(counts),
        num_heads=shape.config.get_text_config().num_attention_heads,
        head_dim=max(max(one.key_dim, one.value_dim) for one in kept),
        kv_values=bytes_per_block(kept, block_size=1, itemsize=1),
    )


def _kept(decoder: HFDecoder) -> tuple[KVShape, ...]:
    """What each layer keeps of a position."""
    module = decoder.module
    if hasattr(module, "set_experts_implementation"):
        module.set_experts_implementation("batched_mm")  # the others ask for values, which are not there
    with quiet():
        module.set_attn_implementation(NAME)
    try:
        asked = guard.run(decoder)
    except ModelError:
        # What cannot run without values is judged when it is loaded; until then the config must do.
        return (_from_config(module.config.get_text_config()),) * decoder.architecture.num_layers
    return guard.check(decoder, *asked)


def _from_config(text: Any) -> KVShape:
    heads = text.num_attention_heads
    head_dim = getattr(text, "head_dim", None) or text.hidden_size // heads
    return KVShape(getattr(text, "num_key_value_heads", None) or heads, head_dim, head_dim)
