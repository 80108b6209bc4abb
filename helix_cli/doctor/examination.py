"""Looks at the machine, the packages, the devices and the caches; what touches torch runs in other processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from helix_cli.doctor.children import Answer, ask
from helix_cli.doctor.devices import DEVICES, Device, try_devices
from helix_cli.doctor.diagnosis import Findings
from helix_cli.machine import hardware
from helix_cli.packages import dependencies, mismatches, python_range, version_of
from helix_cli.storage import KINDS, Storage

MEASURES = "helix_cli.doctor.measures"
OPTIONAL = ("torch-directml",)

Ask = Callable[[Mapping[str, Sequence[str]]], dict[str, Answer]]


def examine(asked_for: str | None = None, asking: Ask = ask) -> Findings:
    """Everything, or of the devices only `asked_for`. Measuring comes last, when nothing else runs."""
    found, wrong = dependencies() or ({}, [])
    versions = found | {name: version for name in ("torch", "transformers", *OPTIONAL) if (version := version_of(name))}
    devices = try_devices(DEVICES if asked_for is None else (asked_for,), asking)
    measured = asking({"measures": (MEASURES, *_worth_measuring(devices))})["measures"]
    storage = Storage()
    return Findings(
        hardware=hardware(),
        python=python_range(),
        versions=versions,
        wrong_packages=wrong,
        mismatches=mismatches(versions),
        devices=devices,
        asked_for=asked_for,
        threads=measured.get("threads"),
        cores=measured.get("cores"),
        compiler=measured.get("compiler"),
        kernels=measured.get("kernels") or {},
        int8=measured.get("int8"),
        bandwidth=measured.get("bandwidth") or {},
        measuring_failed=measured.failure,
        caches=_caches(storage),
        cache_folder=str(storage.root),
    )


def _worth_measuring(devices: Sequence[Device]) -> list[str]:
    """The CPU, which always computes something, and the device that would be chosen."""
    best = next((one.name for one in devices if one.usable), "cpu")
    return ["cpu"] if best == "cpu" else ["cpu", best]


def _caches(storage: Storage) -> dict[str, tuple[int, int]]:
    kept = {kind: (0, 0) for kind in KINDS}
    for entry in storage.entries():
        count, num_bytes = kept[entry.kind]
        kept[entry.kind] = count + 1, num_bytes + entry.num_bytes
    return kept
