"""What became of each device that was tried: usable, or the reason why not."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from helix_cli.doctor.children import Answer, ask

DEVICES: Final = ("cuda", "mps", "directml", "cpu")
"""Every kind of device, in the order in which `auto` prefers them."""

PROBE: Final = "helix_cli.backend.probe"
HARDWARE: Final[Mapping[str, tuple[str, ...]]] = {
    "cuda": ("/proc/driver/nvidia/version", "/dev/nvidiactl", "/dev/kfd"),
    "directml": ("/dev/dxg",),
}
"""What the driver of a device leaves in the file system, whatever Python has installed."""


@dataclass(frozen=True)
class Device:
    """One device as it was found."""

    name: str
    usable: bool
    text: str
    """What it is, or in a sentence why it cannot be used."""
    hint: str = ""
    present: bool = False
    """PyTorch or a package of its own knows of such a device here."""
    has_driver: bool = False
    """The system has a driver for it."""
    number_types: Mapping[str, str | None] = field(default_factory=dict)
    """Number type -> what is wrong with it, None where it works."""
    free: int | None = None
    total: int | None = None


def try_devices(names: tuple[str, ...] = DEVICES, asking: Callable[..., dict[str, Answer]] = ask) -> list[Device]:
    """Each device, tried in a process of its own, all at the same time."""
    answers = asking({name: (PROBE, name) for name in names})
    return [device_from(name, answers[name], driver(name)) for name in names]


def device_from(name: str, answer: Answer, has_driver: bool) -> Device:
    """What a probe's answer says of a device."""
    types: dict[str, str | None] = {line["dtype"]: line["problem"] for line in answer.lines if "dtype" in line}
    opened = answer.get("opened")
    found = Device(name, False, "", present=bool(answer.get("present")), has_driver=has_driver, number_types=types)
    if answer.get("refused"):
        return replace(found, text=answer.get("refused"), hint=answer.get("hint") or "")
    if answer.failure is not None:
        mend = "update its driver and PyTorch, or use --device cpu" if name != "cpu" else "install PyTorch again"
        hint = f"Try again while nothing else runs; if it stays so, {mend}."
        return replace(found, text=f"{opened or name} fails: {answer.failure}.", hint=hint)
    if all(types.values()):
        hint = "Do not use it; a newer driver or PyTorch may help."
        return replace(found, text=f"{opened} computes wrongly in every number type.", hint=hint)
    return replace(found, usable=True, text=opened, free=answer.get("free"), total=answer.get("total"))


def driver(name: str) -> bool:
    """Whether the system has a driver for a kind of device."""
    kind = name.partition(":")[0]
    if kind == "mps":
        return sys.platform == "darwin"
    return any(Path(path).exists() for path in HARDWARE.get(kind, ()))
