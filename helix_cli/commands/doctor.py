"""`helix doctor`: what this machine can run Helix on, what is wrong, and how to mend it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from helix_cli.config import load_config
from helix_cli.errors import InputError
from helix_cli.ui.console import Screen
from helix_cli.ui.measuring import show_lines, show_table
from helix_cli.ui.progress import working

if TYPE_CHECKING:
    from helix_cli.doctor.diagnosis import Findings

PROBLEM: Final = 1


def doctor(
    device: Annotated[
        str | None, typer.Option("--device", metavar="NAME", help="Look at this device only; it must work.")
    ] = None,
    suggest: Annotated[
        bool, typer.Option("--suggest", help="Write nothing but a config for this machine, as YAML.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Write everything that was found as one JSON object.")
    ] = False,
) -> None:
    """Look at this machine: devices, packages, kernels, memory and caches, and what is wrong.

    Every device is tried in a process of its own, because a bad driver can end the process. The exit code is 0 where a
    device works and nothing has to be mended, and 1 after a problem; each is a sentence and a hint.
    """
    if suggest and as_json:
        raise InputError("--suggest cannot take effect together with --json.", "Leave one of the two out.")
    if device is not None:
        load_config(None, [f"backend.device={device}"])  # refuses a name that is none
    from helix_cli.doctor.diagnosis import find_problems
    from helix_cli.doctor.examination import examine
    from helix_cli.doctor.suggestion import suggest as suggested

    with working("Looking at the devices"):
        findings = examine(None if device == "auto" else device)
    if as_json:
        Screen.detect().write(json.dumps(findings.to_dict() | {"suggestion": suggested(findings)}) + "\n")
    elif suggest:
        Screen.detect().write(suggested(findings))
    else:
        _show(findings)
        Screen.detect().write(suggested(findings))
    if any(find_problems(findings)):
        raise typer.Exit(PROBLEM)


def _show(findings: Findings) -> None:
    from helix_cli.doctor.diagnosis import find_notes, find_problems

    show_table("Machine", ["", " "], [list(row) for row in machine_rows(findings)])
    show_table("Devices", ["device", "usable", "what it is, or why not"], device_rows(findings))
    for title, found in (("Problem", find_problems(findings)), ("Note", find_notes(findings))):
        for one in found:
            show_lines([f"{title}: {one.message}", f"Hint: {one.hint}"])


def machine_rows(findings: Findings) -> Iterator[tuple[str, str]]:
    """What was found beside the devices, name by value."""
    hardware = findings.hardware
    yield "processor", f"{hardware['processor']}, {hardware['cores']} logical processors"
    yield "instructions", ", ".join(hardware["instructions"]) or "none of those that matter"
    if findings.threads is not None:
        yield "threads", f"{findings.threads} on {findings.cores or 'an unknown number of'} usable cores"
    if hardware["memory_gib"] is not None:
        yield "memory", f"{hardware['memory_gib']} GiB"
    for name, speed in findings.bandwidth.items():
        yield f"bandwidth, {name}", f"{speed / 1e9:.1f} GB/s read"
    yield "system", str(hardware["system"])
    yield "packages", ", ".join([f"Python {hardware['python']}", *_versions(findings)])
    yield "compiler", findings.compiler or "none"
    yield "compiled kernels", _kernels(findings)
    yield "eight-bit weights", f"by kernel {findings.int8}" if findings.int8 else "not on the CPU of this machine"
    for kind, (count, num_bytes) in findings.caches.items():
        yield f"kept {kind}", f"{count} {'entry' if count == 1 else 'entries'}, {num_bytes / 2**20:.1f} MiB"
    yield "kept in", findings.cache_folder


def device_rows(findings: Findings) -> list[list[str]]:
    """A row for each device."""
    return [[one.name, "yes" if one.usable else "no", _described(one)] for one in findings.devices]


def _described(device: Any) -> str:
    if not device.usable:
        return f"{device.text} {device.hint}".strip()
    types = ", ".join(name for name, problem in device.number_types.items() if problem is None)
    free = "" if device.free is None else f"; {device.free / 2**30:.1f} GiB free"
    return f"{device.text}; {types}{free}"


def _versions(findings: Findings) -> list[str]:
    shown = ("torch", "transformers", "tokenizers", "safetensors", "torch-directml")
    return [f"{name} {findings.versions[name]}" for name in shown if name in findings.versions]


def _kernels(findings: Findings) -> str:
    built = [name for name, works in findings.kernels.items() if works]
    return ", ".join(built) or "none"
