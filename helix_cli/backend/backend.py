"""What the rest of Helix may know about a device: one frozen object of facts and two functions.

Outside this package nothing asks for a device's name; a difference between devices is a flag here. Autograd is switched
off with `torch.no_grad` everywhere: `torch.inference_mode` fails on DirectML (microsoft/DirectML#602).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from helix_cli.backend.graphs import Capture
from helix_cli.errors import DeviceError

NUMBER_TYPES: Mapping[str, torch.dtype] = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}
"""The number types that a user can ask for, by name."""


@dataclass(frozen=True)
class Backend:
    """A device that has passed `check_works`, and what it can do."""

    name: str
    device: torch.device
    description: str
    """One line for people: the chip, its memory or cores, the runtime."""
    dtypes: tuple[torch.dtype, ...]
    """Number types that weights and activations may have."""
    automatic: Mapping[torch.dtype, torch.dtype]
    """What `auto` runs a checkpoint's type in by torch's own operations; a type not listed runs in float32."""
    packed_linear: bool
    """oneDNN's prepacked matrix products exist here."""
    fused_attention: bool
    """`scaled_dot_product_attention` is one kernel here, not a chain of them."""
    free_memory: Callable[[], int | None]
    """Bytes that can be allocated now; None where the device does not say."""
    synchronize: Callable[[], None]
    """Wait until everything queued on the device is done."""
    mixed_products: bool = False
    """Matrices may be stored otherwise than the activations: in another float type, or in eight bits."""
    rowwise_kernels: bool = False
    """A row of a batch may have the same bits whatever the other rows; whether it has, model/exact.py finds out."""
    capture: Capture | None = None
    """Records what a function queues, to queue it again in one call."""
    total_memory: Callable[[], int | None] = lambda: None
    """All bytes of the device's memory; None where it does not say."""
    notes: tuple[str, ...] = ()
    """What the user should know about the choice, one sentence each."""

    def choose_dtype(self, requested: str, checkpoint: torch.dtype) -> torch.dtype:
        """The number type to compute in: `requested` by name, or the best one for the checkpoint when it is "auto".

        Raises:
            DeviceError: the device does not support the requested type, or there is no such type.
        """
        if requested == "auto":
            return self.automatic.get(checkpoint, torch.float32)
        dtype = NUMBER_TYPES.get(requested)
        if dtype is None:
            raise DeviceError(f"There is no number type '{requested}'.", f"Use auto, {', '.join(NUMBER_TYPES)}.")
        if dtype not in self.dtypes:
            supported = ", ".join(name for name, known in NUMBER_TYPES.items() if known in self.dtypes)
            raise DeviceError(f"{self.description} does not support {requested}.", f"Use auto, {supported}.")
        return dtype


def check_works(device: torch.device) -> None:
    """Allocate on the device, add there, and copy back: the only proof that it can be used.

    Raises:
        RuntimeError: whatever the device says, or that it added wrongly.
    """
    total = (torch.tensor([1.0, 2.0]).to(device) + torch.ones(2, device=device)).cpu().tolist()
    if total != [2.0, 3.0]:
        raise RuntimeError(f"1 + 1 and 2 + 1 gave {total}")
