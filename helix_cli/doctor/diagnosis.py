"""From what was found to what is wrong: each problem a sentence and a hint, and notes on what could be better."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from helix_cli.doctor.devices import Device
from helix_cli.packages import Mismatch


@dataclass(frozen=True)
class Findings:
    """Everything the doctor has looked at; plain values, so that it can be made up."""

    hardware: Mapping[str, Any]
    python: tuple[str, str, bool] | None
    versions: Mapping[str, str]
    wrong_packages: Sequence[str]
    """A clause for each package that is missing or outside its range."""
    mismatches: Sequence[Mismatch]
    devices: Sequence[Device]
    asked_for: str | None
    """The one device that was asked about."""
    threads: int | None
    cores: int | None
    compiler: str | None
    kernels: Mapping[str, bool]
    int8: str | None
    """The kernel for eight-bit weights."""
    bandwidth: Mapping[str, float]
    """Bytes a second by device."""
    measuring_failed: str | None
    caches: Mapping[str, tuple[int, int]]
    """Kind -> how many entries, how many bytes."""
    cache_folder: str

    @property
    def best(self) -> Device | None:
        """The device that `auto` would take."""
        return next((one for one in self.devices if one.usable), None)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        found = asdict(self)
        problems, remarks = list(find_problems(self)), list(find_notes(self))
        return found | {"problems": [asdict(one) for one in problems], "notes": [asdict(one) for one in remarks]}


def find_problems(findings: Findings) -> Iterator[Mismatch]:
    """What the user must mend, each once."""
    said = set()
    for one in _problems(findings):
        if one.message not in said:
            said.add(one.message)
            yield one


def find_notes(findings: Findings) -> Iterator[Mismatch]:
    """What works, but could work better."""
    for device in findings.devices:
        if not device.usable and device.has_driver and not device.present and device.name != findings.asked_for:
            yield Mismatch(f"The system has a driver for {device.name}, which is not used: {device.text}", device.hint)
        for name, problem in device.number_types.items():
            if problem is not None and device.usable:
                yield Mismatch(f"{name} does not work on {device.name}: {problem}.", "Choose another --dtype there.")
    if findings.kernels and not all(findings.kernels.values()):
        missing = ", ".join(name for name, works in findings.kernels.items() if not works)
        yield Mismatch(f"Not compiled here, so PyTorch's own take their place: {missing}.", _compiling(findings))
    if findings.threads and findings.cores and findings.threads > findings.cores:
        yield Mismatch(
            f"{findings.threads} threads would run on {findings.cores} usable cores.",
            "Unset OMP_NUM_THREADS, or set backend.threads.",
        )
    if findings.measuring_failed is not None:
        yield Mismatch(f"Memory bandwidth was not measured: {findings.measuring_failed}.", "Run it again.")


def _problems(findings: Findings) -> Iterator[Mismatch]:
    if findings.python is not None and not findings.python[2]:
        version, wanted, _ = findings.python
        yield Mismatch(f"Python {version} is outside {wanted}.", "Make an environment with a Python in that range.")
    for clause in findings.wrong_packages:
        yield Mismatch(f"{clause[0].upper()}{clause[1:]}.", "Install helix-cli again in an environment of its own.")
    yield from findings.mismatches
    for device in findings.devices:
        # The CPU is always there; where it fails, PyTorch does.
        if not device.usable and (device.present or device.name in ("cpu", findings.asked_for)):
            yield Mismatch(device.text, device.hint)


def _compiling(findings: Findings) -> str:
    if findings.compiler is None:
        return "Install a C compiler (gcc or clang), or name one in CC; Linux only."
    return f"{findings.compiler} did not do it; name another compiler in CC (Linux only)."
