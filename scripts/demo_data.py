"""Code documents of the standard library, the tokenizer trained on them, and packed rows."""

from __future__ import annotations

import random
import sysconfig
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from scripts import demo_questions as questions

Tokens = NDArray[np.int64]

VOCABULARY = 4096
CONTEXT = 1024

# One digit a token; an identifier part keeps the one character before it ("_name", ".name",
# " name"), and the rest of an indentation is a single run of spaces. No token reaches over the end
# of a line, so that a prompt that stops there is cut into the tokens that training saw.
SPLIT_PATTERN = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s*[\r\n]+|\s+(?!\S)|\s+"

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
    return not any(part in EXCLUDED_PARTS or part.startswith(EXCLUDED_PREFIXES) for part in relative.parts)


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
    held = {name: text for name, text in texts.items() if questions.held_out(name, HELD_OUT_CODE)}
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
        special_tokens=[AddedToken(token, special=True) for token in questions.SPECIAL_TOKENS],
        # The whole byte alphabet, so that any text comes back as it went in.
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=core,
        eos_token=questions.END_OF_TEXT,
        pad_token=questions.END_OF_TEXT,
        additional_special_tokens=list(questions.SPECIAL_TOKENS[1:]),
        chat_template=questions.CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def encode_documents(tokenizer: Any, texts: Sequence[str]) -> Tokens:
    """Encode documents into one line of tokens, each document closed by the end of text."""
    end = tokenizer.convert_tokens_to_ids(questions.END_OF_TEXT)
    encoded = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    return np.array([token for ids in encoded for token in [*ids, end]], dtype=np.int64)


def shuffled_rows(tokens: Tokens, length: int, seed: int) -> Tokens:
    """Cut a line of tokens into rows at a random offset and shuffle the rows.

    The offset moves from one epoch to the next, so that a row never starts twice at one place.
    """
    chooser = random.Random(seed)
    offset = chooser.randrange(length)
    rows = (len(tokens) - offset) // length
    order = list(range(rows))
    chooser.shuffle(order)
    return tokens[offset : offset + rows * length].reshape(rows, length)[order]


class RowStream:
    """Rows of one kind of text, epoch after epoch, from a place that a checkpoint can hold."""

    def __init__(self, epoch_tokens: Callable[[int], Tokens], seed: int) -> None:
        self.epoch_tokens, self.seed = epoch_tokens, seed
        self.epoch, self.index, self.length = 0, 0, 0
        self.rows: Tokens | None = None

    def take(self, count: int, length: int) -> Tokens:
        """Return the next rows of a length; another length than before starts a new epoch."""
        if length != self.length and self.length:
            self.epoch, self.index, self.rows = self.epoch + 1, 0, None
        self.length = length
        taken: list[Tokens] = []
        while len(taken) < count:
            if self.rows is None:
                seed = self.seed * 1000 + self.epoch
                self.rows = shuffled_rows(self.epoch_tokens(seed), length, seed)
            if self.index >= len(self.rows):
                self.epoch, self.index, self.rows = self.epoch + 1, 0, None
                continue
            taken.append(self.rows[self.index])
            self.index += 1
        return np.stack(taken)

    def place(self) -> list[int]:
        """Return the place to continue from."""
        return [self.epoch, self.index, self.length]

    def move(self, place: list[int]) -> None:
        """Continue from a place."""
        self.epoch, self.index, self.length = place
        self.rows = None


class Material:
    """The texts to train on and those held out, with the tokenizer trained on the former."""

    def __init__(self, work: Path, seed: int) -> None:
        train, held = split_files(library_files(stdlib_root()))
        every = questions.entries(train, held)
        self.files, self.held_files = len(train), len(held)
        self.known = [entry for entry in every if not entry.held]
        self.unknown = [entry for entry in every if entry.held]
        folder = work / "tokenizer"
        if not folder.exists():
            texts = [*train.values(), *questions.conversations(self.known, seed)]
            train_tokenizer(texts).save_pretrained(folder)
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self.code_tokens = encode_documents(self.tokenizer, list(train.values()))
        self.code = RowStream(lambda _: self.code_tokens, seed)
        self.questions = RowStream(self._question_epoch, seed)
        asked = [questions.render([turn]) for turn in questions.rephrased(self.unknown)]
        again = [questions.render([turn]) for turn in questions.rephrased(self.known)]
        self.held_out = {
            "code": encode_documents(self.tokenizer, list(held.values())),
            "unknown questions": encode_documents(self.tokenizer, asked),
            "known questions, new phrasing": encode_documents(self.tokenizer, again),
        }

    def _question_epoch(self, seed: int) -> Tokens:
        rendered = questions.conversations(self.known, seed)
        return encode_documents(self.tokenizer, rendered)
