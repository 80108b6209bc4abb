"""Which Python and packages Helix finds, and which of them do not go together. Needs no torch."""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Final

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

DISTRIBUTION: Final = "helix-cli"
DIRECTML_TORCH: Final = "2.4.1"
DIRECTML_PYTHONS: Final = ">=3.11,<3.13"
TRANSFORMERS_NEEDS: Final = (
    ("5.20", "2.6", "takes PyTorch for absent"),
    ("5.15", "2.5", "takes PyTorch for absent"),
    ("5.14", "2.5", "cannot be imported"),
)
"""(transformers from this version on, the oldest torch with it, what it does beside an older one), as it was tried.

transformers names torch in an extra only, so no installer stops such a pair.
"""


@dataclass(frozen=True)
class Mismatch:
    """Something installed that cannot work: a sentence, and what to do."""

    message: str
    hint: str


def python_range() -> tuple[str, str, bool] | None:
    """This Python's version, the range that Helix asks for, and whether it is inside; None without an installation."""
    found = _metadata()
    if found is None:
        return None
    wanted, version = found["Requires-Python"], platform.python_version()
    return version, wanted, SpecifierSet(wanted).contains(version, prereleases=True)


def dependencies() -> tuple[dict[str, str], list[str]] | None:
    """The versions of what Helix depends on, and a clause for each that is missing or outside its range."""
    about = _metadata()
    if about is None:
        return None
    found, wrong = {}, []
    for line in about.get_all("Requires-Dist") or []:
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        version = version_of(requirement.name)
        if version is None:
            wrong.append(f"{requirement.name} is not installed")
            continue
        found[requirement.name] = version
        if not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} {version} is outside {requirement.specifier}")
    return found, wrong


def version_of(name: str) -> str | None:
    """The installed version of a package."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def mismatches(versions: Mapping[str, str], python: str | None = None, system: str = sys.platform) -> list[Mismatch]:
    """What does not go together among these versions of torch, transformers and torch-directml, and with Python."""
    found = []
    torch, transformers = (versions.get(name, "").partition("+")[0] for name in ("torch", "transformers"))
    if torch and transformers:
        found += _beside_transformers(Version(torch), Version(transformers))
    if "torch-directml" in versions:
        found += _beside_directml(torch, Version(python or platform.python_version()), system)
    return found


def _beside_transformers(torch: Version, transformers: Version) -> list[Mismatch]:
    for first, oldest, symptom in TRANSFORMERS_NEEDS:
        if transformers >= Version(first):
            if torch >= Version(oldest):
                return []
            return [
                Mismatch(
                    f"transformers {transformers} {symptom} beside PyTorch {torch}: it needs {oldest} or newer.",
                    f"Install a newer torch, or transformers before {_last_for(torch)}.",
                )
            ]
    return []


def _last_for(torch: Version) -> str:
    """The first transformers that does not work with this torch."""
    return min((first for first, oldest, _ in TRANSFORMERS_NEEDS if torch < Version(oldest)), key=Version)


def _beside_directml(torch: str, python: Version, system: str) -> list[Mismatch]:
    found = []
    if torch and torch != DIRECTML_TORCH:
        found.append(
            Mismatch(
                f"torch-directml needs PyTorch {DIRECTML_TORCH}, not {torch}.",
                f"Install torch=={DIRECTML_TORCH} in an environment of its own, or remove torch-directml.",
            )
        )
    if python not in SpecifierSet(DIRECTML_PYTHONS) or system not in ("win32", "linux"):
        found.append(
            Mismatch(
                f"torch-directml has no build for Python {python} on {system}.",
                "Use Python 3.11 or 3.12 on Windows or WSL 2, or remove torch-directml.",
            )
        )
    return found


def _metadata() -> metadata.PackageMetadata | None:
    try:
        return metadata.metadata(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return None
