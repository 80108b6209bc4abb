"""What the entries of a vocabulary say, in bytes: the one thing that vocabularies of different tokenizers share."""

from __future__ import annotations

from helix_cli.tokenizer.tokenizer import Tokenizer

_ANCHOR = "a"
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def entries_by_content(tokenizer: Tokenizer, size: int) -> dict[bytes, int]:
    """The entry below id `size` that says each thing; of several the one that is text, then the first.

    Special tokens say nothing and are left out. A space before a word belongs to what an entry says, however the
    tokenizer spells it.
    """
    special = tokenizer.special_ids
    plain = sorted(id for id in tokenizer.vocabulary().values() if id < size and id not in special)
    anchor = tokenizer.encode_rendered(_ANCHOR)
    before = tokenizer.decode(anchor, skip_special_tokens=False)
    found: dict[bytes, int] = {}
    fallbacks: dict[bytes, int] = {}
    for id in plain:
        data = tokenizer.token_bytes(id)
        if data is not None:
            (found if tokenizer.is_byte_level else fallbacks).setdefault(data, id)
            continue
        # Decoded in company: decoders treat the first token of a text specially.
        text = tokenizer.decode([*anchor, id], skip_special_tokens=False)
        said = text.removeprefix(before)
        if said and text.startswith(before) and _REPLACEMENT not in said:
            found.setdefault(said.encode("utf-8"), id)
    found.pop(b"", None)
    return fallbacks | found
