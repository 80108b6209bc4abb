"""How a model computes, and how its matrices are stored: what the user asked for, or the fastest that may be had.

`dtype` is the number type of the activations; the format of the weights is a choice of its own. Processors that
multiply bfloat16 round the inputs of such products to it; whoever asks for float32 by name gets none unasked. For the
target, "auto" never goes narrower than the checkpoint (or than the activations, if those were asked to be narrower):
eight bits are the user's explicit choice. A draft cannot change what is said, only how fast, so for it they are one of
the candidates.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch

from helix_cli.backend import NUMBER_TYPES, Backend
from helix_cli.errors import DeviceError
from helix_cli.model import int8_device
from helix_cli.model.float_native import open_float
from helix_cli.model.int8_kernels import best_kernel
from helix_cli.model.products import rounds_inputs

INT8: Final = "int8"
PAYS: Final = 1.3
"""Eight bits are worth a word to the user where they make one row's products this many times faster."""

Cost = Callable[[str], float | None]
"""A format's name -> the relative time of the model's products in it, as measured on this machine; None if it cannot be
measured now."""


def choose_dtype(requested: str, checkpoint: torch.dtype, backend: Backend) -> torch.dtype:
    """The number type of the activations; raises DeviceError for one that the device cannot have.

    Helix's own kernels keep float32 between products, and round inside them where that is faster (with bfloat16
    throughout, torch's operations made a step of the embedded pair 1.7 times as long on a Zen 4).
    """
    if requested == "auto" and backend.mixed_products and open_float() is not None:
        return torch.float32
    return backend.choose_dtype(requested, checkpoint)


def choose_weights(
    requested: str,
    checkpoint: torch.dtype,
    dtype: torch.dtype,
    backend: Backend,
    is_draft: bool,
    cost: Cost,
    may_round: bool = True,
) -> str:
    """The name of the format; raises DeviceError for one that this device cannot honour.

    Unless it `may_round`, a target's products take their inputs as they are.
    """
    if requested == INT8:
        reason = why_no_int8(backend, dtype)
        if reason is not None:
            raise DeviceError(f"Eight-bit weights cannot be used: {reason}.", "Leave weights at auto.")
        return INT8
    own = name_of(dtype)
    if requested != "auto":
        if requested != own and not backend.mixed_products:
            raise DeviceError(
                f"On {backend.description} weights are stored as they are computed with, in {own}.",
                f"Use --dtype {requested}, or leave weights at auto.",
            )
        return requested
    candidates = [own]
    if backend.mixed_products:
        may_round = may_round or is_draft
        if not is_draft and may_round and checkpoint is torch.bfloat16 and rounds_inputs(checkpoint, backend):
            return name_of(checkpoint)  # a target's text may not hang on which of two arithmetics was timed faster
        others = [name for name in ("float32", "bfloat16") if name != own and _holds(name, checkpoint, is_draft)]
        candidates += [name for name in others if may_round or not rounds_inputs(NUMBER_TYPES[name], backend)]
        if is_draft and why_no_int8(backend, dtype) is None:
            candidates.append(INT8)
    if len(candidates) == 1:
        return own
    costs = {name: cost(name) for name in candidates}
    known = {name: value for name, value in costs.items() if value is not None}
    # Without every time the choice would hang on what else the machine does just now.
    return min(known, key=known.__getitem__) if len(known) == len(costs) else own


def why_no_int8(backend: Backend, dtype: torch.dtype) -> str | None:
    """Why eight-bit weights cannot be used here with activations in `dtype`; None where they can."""
    if not backend.mixed_products:
        reason = int8_device.why_not(dtype, backend.device)
        return reason and f"on {backend.description} they need a Triton kernel, and {reason}"
    if best_kernel() is None:
        return "this build of PyTorch has no exact integer products for this processor"
    return None


def int8_note(chosen: str, backend: Backend, cost: Cost) -> str | None:
    """A sentence for the user of wider weights where eight bits would pay; None where they would not.

    Costs are measured on the CPU only.
    """
    if chosen == INT8 or not backend.mixed_products or best_kernel() is None:
        return None
    plain, rounded = cost(chosen), cost(INT8)
    if plain is None or rounded is None or plain < PAYS * rounded:
        return None
    return (
        f"With --weights int8 this model's matrix products take {100 * rounded / plain:.0f} % of the time here; "
        "the text may differ from that of the unrounded model."
    )


def name_of(dtype: torch.dtype) -> str:
    """ "float32" for torch.float32."""
    return next(name for name, known in NUMBER_TYPES.items() if known is dtype)


def _holds(name: str, checkpoint: torch.dtype, is_draft: bool) -> bool:
    """Whether every number of the checkpoint is one of the format's too; a draft does not mind."""
    return is_draft or name == "float32" or checkpoint is NUMBER_TYPES[name]
