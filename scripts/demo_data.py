"""Code documents of the standard library, the tokenizer trained on them, and packed rows."""

from __future__ import annotations

import hashlib
import random
import sysconfig
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

Tokens = NDArray[np.int64]

VOCABULARY = 4096
CONTEXT = 1024
END_OF_TEXT = "<|endoftext|>"
END_OF_TURN = "<|end|>"
SPECIAL_TOKENS = (END_OF_TEXT, "<|system|>", "<|user|>", "<|assistant|>", END_OF_TURN)

# Every turn is "<|role|>content<|end|>": no white space of the template is left to be learnt.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] | trim + '<|end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)

# One digit a token; an identifier part keeps the one character before it ("_name", ".name",
# " name"), and the rest of an indentation is a single run of spaces.
SPLIT_PATTERN = (
    r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

# Tests, other people's packages, demonstrations, and tables that a program generated.
EXCLUDED_PARTS = frozenset(
    {"test", "tests", "idle_test", "site-packages", "pydoc_data", "turtledemo", "encodings"}
    | {"__pycache__", "__phello__", "msilib", "lib-dynload"}
)
EXCLUDED_PREFIXES = ("config-", "_sysconfigdata")
EXCLUDED_FILES = frozenset({"html/entities.py", "stringprep.py", "_pydecimal.py", "this.py"})
HELD_OUT_CODE = 0.02
LARGEST_FILE = 200_000


def stdlib_root() -> Path:
    """Return the directory of the running interpreter's standard library."""
    return Path(sysconfig.get_paths()["stdlib"])


def is_document(relative: Path) -> bool:
    """Say whether a file of the library is material: source, no test, no generated table."""
    if relative.suffix != ".py" or relative.as_posix() in EXCLUDED_FILES:
        return False
    return not any(
        part in EXCLUDED_PARTS or part.startswith(EXCLUDED_PREFIXES) for part in relative.parts
    )


def held_out(key: str, share: float) -> bool:
    """Say whether a key belongs to the held-out share; the answer never depends on the run."""
    digest = hashlib.sha256(key.encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def library_files(root: Path) -> dict[str, str]:
    """Return the text of every document below the root, by its relative path, sorted."""
    texts: dict[str, str] = {}
    for path in sorted(root.rglob("*.py")):
        relative = path.relative_to(root)
        if not is_document(relative) or path.stat().st_size > LARGEST_FILE:
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        if text.strip():
            texts[relative.as_posix()] = text
    return texts


def split_files(texts: dict[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Split documents into those to train on and those held out, by the hash of the path."""
    held = {name: text for name, text in texts.items() if held_out(name, HELD_OUT_CODE)}
    return {name: text for name, text in texts.items() if name not in held}, held


def train_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """Train the byte-level tokenizer that both models share."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[AddedToken(token, special=True) for token in SPECIAL_TOKENS],
        # The whole byte alphabet, so that any text comes back as it went in.
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        additional_special_tokens=list(SPECIAL_TOKENS[1:]),
        chat_template=CHAT_TEMPLATE,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def encode_documents(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> Tokens:
    """Encode documents into one line of tokens, each document closed by the end of text."""
    end = tokenizer.convert_tokens_to_ids(END_OF_TEXT)
    encoded = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    return np.array([token for ids in encoded for token in [*ids, end]], dtype=np.int64)


def shuffled_rows(tokens: Tokens, length: int, seed: int) -> Tokens:
    """Cut a line of tokens into rows at a random offset and shuffle the rows.

    The offset moves from one epoch to the next, so that a row never starts twice at one place.
    """
    chooser = random.Random(seed)
    rows = (len(tokens) - 1) // length
    offset = chooser.randrange(len(tokens) - rows * length + 1) if rows else 0
    if rows > 1:
        rows -= 1
        offset = chooser.randrange(length)
    order = list(range(rows))
    chooser.shuffle(order)
    return tokens[offset : offset + rows * length].reshape(rows, length)[order]
