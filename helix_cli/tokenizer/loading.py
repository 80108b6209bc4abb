"""From a checkpoint's files to a tokenizer, with the ids that transformers' AutoTokenizer gives.

Most tokenizers are their tokenizer.json, which the `tokenizers` library reads in a fraction of the time that importing
transformers takes. transformers does more with some of them: it adds tokens that only tokenizer_config.json knows, and
for a few class names it replaces parts of the pipeline. What it does for the families that Helix runs is repeated here,
after transformers 5.23 (tokenization_utils_tokenizers.py, models/auto/tokenization_auto.py); the rest is left to it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helix_cli.errors import ModelError, first_line, is_out_of_memory
from helix_cli.tokenizer.classes import CLASSES, class_of
from helix_cli.tokenizer.codec import Codec, FastCodec, TransformersCodec

if TYPE_CHECKING:
    from tokenizers import AddedToken
    from tokenizers import Tokenizer as Backend

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "tekken.json", "vocab.json", "vocab.txt", "tiktoken.model")

_NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_LEFT_TO_TRANSFORMERS = frozenset({"auto_map", "fast_tokenizer_files", "fix_mistral_regex", "init_inputs"})
"""Keys of tokenizer_config.json that change what is loaded."""


@dataclass(frozen=True)
class Loaded:
    """A tokenizer and the texts that come with it."""

    codec: Codec
    special_tokens: Mapping[str, str]
    """Named special tokens: "bos_token" -> "<s>"."""
    chat_template: str | None


def load(path: Path) -> Loaded:
    """Load the tokenizer in folder `path`.

    Raises:
        ModelError: there is none, or it is damaged, or it would need code from the checkpoint.
    """
    if not any((path / name).is_file() for name in TOKENIZER_FILES):
        raise ModelError(
            f"There is no tokenizer in {path}.",
            "Copy tokenizer.json and tokenizer_config.json from the original model.",
        )
    file = path / "tokenizer_config.json"
    config = _read_json(file)
    try:
        direct = _load_directly(path, config)
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # an entry of another type than it should have
        raise ModelError(f"{file} is damaged: {first_line(error)}.", "Download the model again.") from error
    return direct or _load_with_transformers(path)


def _load_directly(path: Path, config: dict[str, Any]) -> Loaded | None:
    """Read tokenizer.json with the `tokenizers` library; None when transformers would do something else with it."""
    if not (path / "tokenizer.json").is_file() or _is_unusual(path, config):
        return None
    name = class_of(path, config.get("tokenizer_class"), _read_json(path / "config.json"))
    if name is None:
        return None
    backend = _read_tokenizer(path / "tokenizer.json")
    shape = CLASSES.get(name)
    if _cleans_up(config, backend) or (shape is not None and not shape.fits(backend)):
        return None
    added = _declared_tokens(config, backend)
    settings = {**(shape.special_tokens if shape else {}), **config}
    named = {key: _resolve(settings[key], added) for key in _NAMED if settings.get(key) is not None}
    if shape is not None and not _is_rebuilt_alike(backend, added, named):
        return None
    special = [*named.values(), *(_resolve(token, {}) for token in _extra(config))]
    _add_tokens(backend, added, special, named)
    if shape is not None:
        shape.apply(backend, config, [_content(token) for token in special])
    texts = {key: _content(token) for key, token in named.items()}
    return Loaded(FastCodec(backend), texts, _chat_template(path, config))


def _is_unusual(path: Path, config: Mapping[str, Any]) -> bool:
    """Whether tokenizer_config.json asks for something that only transformers does."""
    legacy = "added_tokens_decoder" not in config and any(
        (path / name).is_file() for name in ("special_tokens_map.json", "added_tokens.json")
    )
    own_tokens = any(
        key.endswith("_token") and key not in _NAMED and isinstance(value, str | dict) for key, value in config.items()
    )
    extra = _extra(config)
    odd_extra = not isinstance(extra, list) or any(not _is_token(token) for token in extra)
    odd_named = any(config.get(key) is not None and not _is_token(config[key]) for key in _NAMED)
    asks = bool(_LEFT_TO_TRANSFORMERS & config.keys()) or bool(config.get("split_special_tokens"))
    return legacy or own_tokens or odd_extra or odd_named or asks


def _is_token(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, dict) and value.get("__type") == "AddedToken")


def _extra(config: Mapping[str, Any]) -> Any:
    """Special tokens without a name; older files use another key."""
    return config.get("extra_special_tokens") or config.get("additional_special_tokens") or []


def _cleans_up(config: Mapping[str, Any], backend: Backend) -> bool:
    """Whether transformers would edit decoded text ("do n't" -> "don't"); for BPE it does so only by another name."""
    if config.get("clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output"):
        return True
    return bool(config.get("clean_up_tokenization_spaces")) and type(backend.model).__name__ != "BPE"


def _declared_tokens(config: Mapping[str, Any], backend: Backend) -> dict[int, AddedToken]:
    """Added tokens by id: those of tokenizer_config.json, or else those of tokenizer.json."""
    from tokenizers import AddedToken

    declared = config.get("added_tokens_decoder")
    if declared is None:
        return dict(backend.get_added_tokens_decoder())
    return {int(id): AddedToken(**token) for id, token in sorted(declared.items(), key=lambda item: int(item[0]))}


def _resolve(token: Any, added: Mapping[int, AddedToken]) -> AddedToken | str:
    """A special token as it was declared: by the added token with its content, by a record, or by its text."""
    from tokenizers import AddedToken

    if isinstance(token, dict):
        token = AddedToken(**{key: value for key, value in token.items() if key != "__type"})
    return next((known for known in added.values() if known.content == str(token)), token)


def _is_rebuilt_alike(backend: Backend, added: Mapping[int, AddedToken], named: Mapping[str, AddedToken | str]) -> bool:
    """Whether building it anew from its vocabulary and the declared tokens, as a class does, gives the same ids."""
    present = backend.get_added_tokens_decoder()
    if {id: repr(token) for id, token in present.items()} != {id: repr(token) for id, token in added.items()}:
        return False
    size = backend.get_vocab_size(with_added_tokens=False)
    beyond = [id for id in sorted(present) if id >= size]
    texts = {_content(token) for token in named.values()}
    return beyond == list(range(size, size + len(beyond))) and all(
        token.special for token in present.values() if token.content in texts
    )


def _add_tokens(
    backend: Backend,
    added: Mapping[int, AddedToken],
    special: list[AddedToken | str],
    named: Mapping[str, AddedToken | str],
) -> None:
    """Add what tokenizer.json lacks: declared tokens that differ from it, then special tokens it does not know."""
    from tokenizers import AddedToken

    present = backend.get_added_tokens_decoder()
    known = {repr(token) for token in present.values()}
    missing: list[AddedToken | str] = [token for token in added.values() if repr(token) not in known]
    contents = {token.content for token in present.values()} | {_content(token) for token in missing}
    for token in special:
        if _content(token) not in contents:
            contents.add(_content(token))
            missing.append(token)
    names = {_content(token) for token in named.values()}
    ready = [AddedToken(token, special=True) if isinstance(token, str) else token for token in missing]
    for token in ready:
        if token.content in names:
            token.special = True
    if ready:
        backend.add_tokens(ready)


def _content(token: AddedToken | str) -> str:
    return token if isinstance(token, str) else str(token.content)


def _chat_template(path: Path, config: Mapping[str, Any]) -> str | None:
    """The default template: a file beside the tokenizer comes before the entry in tokenizer_config.json."""
    template = config.get("chat_template")
    if isinstance(template, list):
        template = {entry["name"]: entry["template"] for entry in template}
    if isinstance(template, dict):
        template = template.get("default")
    file = path / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    return template


def _load_with_transformers(path: Path) -> Loaded:
    """Whatever AutoTokenizer makes of the folder; code that comes with the checkpoint is never run."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(path), trust_remote_code=False, local_files_only=True)
    except Exception as error:  # a broken tokenizer fails in as many ways as there are classes
        if is_out_of_memory(error):
            raise
        raise ModelError(
            f"The tokenizer in {path} cannot be loaded: {first_line(error)}.",
            "Check that its files are complete and that it does not need code of its own.",
        ) from error
    template = getattr(tokenizer, "chat_template", None)
    if isinstance(template, dict):
        template = template.get("default")
    return Loaded(TransformersCodec(tokenizer), dict(tokenizer.special_tokens_map), template)


def _read_tokenizer(path: Path) -> Backend:
    from tokenizers import Tokenizer as Backend

    try:
        return Backend.from_file(str(path))
    except Exception as error:  # the library raises plain Exception
        raise ModelError(f"{path} is damaged: {first_line(error)}.", "Download the model again.") from error


def _read_json(path: Path) -> dict[str, Any]:
    """The file's object, {} when there is no such file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} is damaged: {first_line(error)}.", "Download the model again.") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} is damaged: it does not hold an object.", "Download the model again.")
    return content
