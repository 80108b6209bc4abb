"""Writes the chosen setting into a configuration file, and leaves everything else of it as it is, comments too."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import YAMLError
from ruamel.yaml.representer import RoundTripRepresenter
from ruamel.yaml.tokens import CommentToken

from helix_cli.config import Config, load_config
from helix_cli.drafter_choice import applies
from helix_cli.errors import ConfigError, InputError


def check_target(file: Path, config: Config) -> None:
    """Raises a HelixError, before anything is measured, for a file that could not take the choice.

    One that does not parse is not touched, and a choice made for one model is no choice for another.
    """
    if not file.exists():
        if not file.absolute().parent.is_dir():
            raise InputError(f"{file} cannot be written.", "Name a file in a folder that exists.")
        return
    written = load_config(file)
    if written.model.path != config.model.path:
        raise ConfigError(
            f"{file} is for {written.model.path}, and what is measured is {config.model.path}.",
            f"Add --config {file}, or save to a file for {config.model.path}.",
        )
    _read(file)
    if not os.access(file, os.W_OK):
        raise InputError(f"{file} cannot be written.", "Change its permissions, or name another file.")


def save(file: Path, config: Config) -> None:
    """Writes the drafter and the depth of `config` to `file`, at once or not at all. Raises OSError and ConfigError.

    Depth 0 keeps the drafter that is there. Settings that the chosen drafter does not use are removed: no configuration
    may hold them. A file that is not there yet holds just the models, the drafter and the depth.
    """
    is_new = not file.exists()
    content = CommentedMap(model=CommentedMap(path=config.model.path)) if is_new else _read(file)
    # The comments of a file that holds nothing else hang on nothing.
    head = "" if is_new or content else file.read_text(encoding="utf-8")
    drafts = is_new or config.draft.k != 0
    if not drafts and load_config(file).draft.kind == "none":
        return
    if not isinstance(content.get("draft"), dict):
        content["draft"] = CommentedMap()
    draft = content["draft"]
    if drafts:
        for key in [key for key in draft if not applies(str(key), config.draft.kind)]:
            _remove(draft, key)
    chosen: dict[str, Any] = {"k": config.draft.k}
    if drafts:
        chosen |= {"path": config.draft.path, "kind": config.draft.kind}
    for key, value in chosen.items():
        if key in draft:
            draft[key] = value
        elif value is not None:
            # In front: what follows the last key may be a comment that belongs to the next section.
            draft.insert(0, key, value)
    text = io.StringIO()
    _yaml().dump(content, text)
    _replace(file, head + text.getvalue())


def _remove(section: CommentedMap, key: Any) -> None:
    """Deletes a key and the remark on its line; comments on the lines after it stay."""
    tokens = section.ca.items.pop(key, None)
    keys = list(section)
    place = keys.index(key)
    del section[key]
    if not tokens or tokens[2] is None:
        return
    after = tokens[2]
    _, _, below = after.value.partition("\n")
    if below and place:
        before = section.ca.items.setdefault(keys[place - 1], [None, None, None, None])
        if before[2] is None:
            before[2] = CommentToken("\n" + below, after.start_mark, None)
        else:
            before[2].value += below


class _Representer(RoundTripRepresenter):
    """Writes null as a word: a setting without a value looks forgotten."""

    def represent_none(self, data: Any) -> Any:
        return self.represent_scalar("tag:yaml.org,2002:null", "null")


_Representer.add_representer(type(None), _Representer.represent_none)


def _yaml() -> YAML:
    yaml = YAML()
    yaml.Representer = _Representer
    yaml.preserve_quotes = True
    yaml.width = 2**16  # Lines stay as long as they were.
    return yaml


def _read(file: Path) -> CommentedMap:
    try:
        content = _yaml().load(file.read_text(encoding="utf-8-sig"))
    except YAMLError as error:
        problem = str(getattr(error, "problem", None) or "it does not parse")
        raise ConfigError(
            f"{file} cannot be rewritten: {problem}.", "Mend the YAML, or save to another file."
        ) from None
    if content is None:
        return CommentedMap()
    return content  # type: ignore[no-any-return]


def _replace(file: Path, text: str) -> None:
    """The new content under the old name in one step, with the old permissions; it must be a configuration."""
    place = file.resolve()
    handle, name = tempfile.mkstemp(prefix=f".{place.name}-", suffix=".yaml", dir=place.parent)
    partial = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as stream:
            stream.write(text)
        load_config(partial)
        if place.exists():
            shutil.copymode(place, partial)
        else:
            partial.chmod(0o666 & ~_umask())
        os.replace(partial, place)
    finally:
        with suppress(FileNotFoundError):
            partial.unlink()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
