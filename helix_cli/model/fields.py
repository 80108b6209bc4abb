"""Reads the JSON files of a checkpoint, and says which field is wrong."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from helix_cli.errors import ModelError

DOWNLOAD_AGAIN = "Download the checkpoint again, or choose another."
UNRELATED = "config.json and the weights do not belong together."


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; raises ModelError."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}.", "Check the path and its permissions.") from error
    except UnicodeDecodeError as error:
        raise ModelError(f"{path} is not UTF-8 text.", DOWNLOAD_AGAIN) from error
    except json.JSONDecodeError as error:
        raise ModelError(f"{path} is not valid JSON: {error}.", DOWNLOAD_AGAIN) from error
    if not isinstance(value, dict):
        raise ModelError(f"{path} does not hold a JSON object.", DOWNLOAD_AGAIN)
    return value


class Fields:
    """Typed access to a JSON object. A field that is absent or null yields the default, or raises where there is none.

    Every method raises ModelError for a value of another kind.
    """

    def __init__(self, values: Mapping[str, Any], source: str) -> None:
        self.values = values
        self.source = source

    def __contains__(self, name: str) -> bool:
        return self.values.get(name) is not None

    def positive(self, name: str, default: int | None = None) -> int:
        """An integer of at least 1."""
        value = self._get(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self.wrong(name, "a positive integer")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """A finite number."""
        value = self._get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self.wrong(name, "a number")
        return float(value)

    def flag(self, name: str, default: bool = False) -> bool:
        """True or false."""
        value = self._get(name, default)
        if not isinstance(value, bool):
            raise self.wrong(name, "true or false")
        return value

    def text(self, name: str, default: str | None = None) -> str:
        """A string."""
        value = self._get(name, default)
        if not isinstance(value, str):
            raise self.wrong(name, "a string")
        return value

    def texts(self, name: str) -> list[str]:
        """A list of strings, empty where absent."""
        value = self._get(name, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.wrong(name, "a list of strings")
        return value

    def wrong(self, name: str, wanted: str) -> ModelError:
        """The error for a field that is not what it must be."""
        return ModelError(f"In {self.source}, {name} is {self.values.get(name)!r} and not {wanted}.", DOWNLOAD_AGAIN)

    def _get(self, name: str, default: Any) -> Any:
        value = self.values.get(name)
        if value is not None:
            return value
        if default is None:
            raise ModelError(f"{self.source} does not say {name}.", DOWNLOAD_AGAIN)
        return default
