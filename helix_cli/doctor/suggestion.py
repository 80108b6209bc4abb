"""A config for the machine that was examined, as YAML with the reasons in its comments."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from helix_cli.doctor.diagnosis import Findings

FOR_WEIGHTS: Final = 0.8
"""The share of the free memory that weights may take, so that keys and values have the rest."""
BYTES: Final = {"float32": 4, "bfloat16": 2, "float16": 2, "int8": 1}


def suggest(findings: Findings) -> str:
    """The YAML text; `load_config` takes it. Where nothing can be used, it is a comment that says so."""
    device = findings.best
    if device is None:
        asked = findings.asked_for
        return f"# {asked} cannot be used on this machine yet.\n" if asked else "# No device can be used here yet.\n"
    lines = ["# For this machine, by helix doctor: helix generate --config FILE"]
    lines += [f"# {line}" for line in (*_sizes(findings), *_speeds(findings))]
    lines += ["backend:", f"  device: {device.name}"]
    if device.name == "cpu" and findings.threads:
        lines.append(f"  threads: {min(findings.threads, findings.cores or findings.threads)}")
    lines += ["model:", "  weights: auto  # rounds no weight" + (_eight(findings) if device.name == "cpu" else "")]
    lines += ["draft:", "  k: auto  # proposes as many tokens as pay here, none included"]
    return "\n".join(lines) + "\n"


def _formats(findings: Findings) -> list[str]:
    """The formats that weights can have on the best device, the widest first."""
    best = findings.best
    assert best is not None
    types = [name for name, problem in best.number_types.items() if problem is None and name in BYTES]
    if best.name == "cpu":
        types = ["float32", "bfloat16"] + (["int8"] if findings.int8 else [])
    return sorted(dict.fromkeys(types), key=lambda name: -BYTES[name])


def _sizes(findings: Findings) -> Iterator[str]:
    best = findings.best
    if best is None or best.free is None:
        return
    room = best.free * FOR_WEIGHTS
    sizes = ", ".join(f"{room / BYTES[name] / 1e9:.1f} in {name}" for name in _formats(findings))
    yield f"{best.free / 2**30:.1f} GiB are free: enough for about so many billions of parameters: {sizes}."


def _speeds(findings: Findings) -> Iterator[str]:
    best = findings.best
    bandwidth = findings.bandwidth.get(best.name) if best else None
    if not bandwidth:
        return
    narrowest = _formats(findings)[-1]
    most = bandwidth / BYTES[narrowest] / 1e9
    yield f"Memory is read at {bandwidth / 1e9:.1f} GB/s, so a billion parameters in {narrowest} make at most"
    yield f"{most:.0f} tokens/s for one text without a draft."


def _eight(findings: Findings) -> str:
    return "; int8 reads the least memory and changes the text a little" if findings.int8 else ""
