"""Streaming text: whatever the tokens, the streamed text is the whole text up to the first stop string."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers

from helix_cli.errors import InputError
from helix_cli.text import TextStream
from helix_cli.tokenizer import Tokenizer
from helix_cli.tokenizer.byte_tokens import byte_alphabet
from tests.tokenizer.samples import CHARACTERS, byte_level, declare, save, sentence_piece


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the tokenizers of this module are."""
    root = tmp_path_factory.mktemp("tokenizers")
    byte_level(root / "bytes")
    declare(sentence_piece(root / "pieces"), tokenizer_class="LlamaTokenizer", legacy=False)
    save(words(), root / "words")
    return root


def words() -> Backend:
    """A tokenizer without byte tokens, whose words begin with a mark for the space before them."""
    vocabulary = {"▁Hello": 0, "▁there": 1, "!": 2, "▁": 3, "<unk>": 4}
    backend = Backend(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    return backend


@pytest.fixture(scope="module")
def bytes_tokenizer(folder: Path) -> Tokenizer:
    """Byte-level."""
    return Tokenizer(folder / "bytes")


@pytest.fixture(scope="module")
def pieces_tokenizer(folder: Path) -> Tokenizer:
    """SentencePiece-style, with byte fallback."""
    return Tokenizer(folder / "pieces")


texts = st.text(CHARACTERS, max_size=40).filter(lambda text: "\ufffd" not in text and "▁" not in text)


def split_bytes(tokenizer: Tokenizer, text: str, choice: random.Random) -> list[int]:
    """Random byte-level tokens that spell `text`."""
    letters = {byte: letter for letter, byte in byte_alphabet().items()}
    return split("".join(letters[byte] for byte in text.encode()), tokenizer.vocabulary(), choice)


def split_pieces(tokenizer: Tokenizer, text: str, choice: random.Random) -> list[int]:
    """Random SentencePiece tokens that spell `text`; any character may be bytes."""
    vocabulary = tokenizer.vocabulary()
    ids: list[int] = []
    for character in "▁" + text.replace(" ", "▁"):
        if character in vocabulary and (character == "▁" or choice.random() < 0.7):
            ids.append(vocabulary[character])
        else:
            ids.extend(vocabulary[f"<0x{byte:02X}>"] for byte in character.encode())
    return ids


def split(text: str, vocabulary: dict[str, int], choice: random.Random) -> list[int]:
    """Random entries that spell `text`."""
    ids = []
    while text:
        lengths = [length for length in range(1, min(8, len(text)) + 1) if text[:length] in vocabulary]
        length = choice.choice(lengths)
        ids.append(vocabulary[text[:length]])
        text = text[length:]
    return ids


def cut(text: str, stops: Sequence[str]) -> str:
    """`text` before the stop string that is complete first, the longest of those."""
    for end in range(1, len(text) + 1):
        found = [stop for stop in stops if text[:end].endswith(stop)]
        if found:
            return text[: end - max(map(len, found))]
    return text


def stream(texts: TextStream, ids: Sequence[int]) -> Iterator[str]:
    """What each token releases, then the rest."""
    for id in ids:
        stopped = texts.push(id)
        yield texts.take()
        if stopped:
            break
    yield texts.finish()


@settings(deadline=None)
@given(texts, st.lists(st.one_of(texts, st.text("ab \n.", max_size=3)), max_size=3), st.randoms(use_true_random=False))
@pytest.mark.parametrize("kind", ["bytes", "pieces"])
def test_the_stream_is_the_whole_text_up_to_the_first_stop_string(
    bytes_tokenizer: Tokenizer,
    pieces_tokenizer: Tokenizer,
    kind: str,
    text: str,
    stops: list[str],
    choice: random.Random,
) -> None:
    stops = [stop for stop in stops if stop]
    if len(text) > 3 and choice.random() < 0.7:
        start = choice.randrange(len(text) - 1)
        stops.append(text[start : start + choice.randint(1, 4)])
    tokenizer = bytes_tokenizer if kind == "bytes" else pieces_tokenizer
    ids = (split_bytes if kind == "bytes" else split_pieces)(tokenizer, text, choice)
    whole = tokenizer.decode(ids)
    assert whole == text
    texts = TextStream(tokenizer, stops)
    released = list(stream(texts, ids))
    assert "".join(released) == texts.text == cut(whole, stops)
    assert not any("\ufffd" in part for part in released)


@settings(deadline=None)
@given(texts, st.lists(st.text("ab \n.", min_size=1, max_size=4), max_size=2), st.randoms(use_true_random=False))
def test_what_is_held_back_is_bounded(
    bytes_tokenizer: Tokenizer, text: str, stops: list[str], choice: random.Random
) -> None:
    ids = split_bytes(bytes_tokenizer, text, choice)
    texts = TextStream(bytes_tokenizer, stops)
    longest = max((len(stop) for stop in stops), default=1)
    for place, id in enumerate(ids):
        if texts.push(id):
            break
        texts.take()
        so_far = bytes_tokenizer.decode(ids[: place + 1])
        assert len(so_far) - len(texts.text) <= longest  # the stop string's beginning and one unfinished character


def bytes_ids(tokenizer: Tokenizer, data: bytes, fallback: bool) -> list[int]:
    """One token for each byte."""
    letters = {byte: letter for letter, byte in byte_alphabet().items()}
    vocabulary = tokenizer.vocabulary()
    return [vocabulary[f"<0x{byte:02X}>" if fallback else letters[byte]] for byte in data]


@pytest.mark.parametrize("kind", ["bytes", "pieces"])
@pytest.mark.parametrize(
    ("data", "released"),
    [
        (b"a\xf0\x9f\x98\x80", ["a", "", "", "", "😀", ""]),
        (b"\xff\xff\xf0\x9f\x98\x80", ["�", "�", "", "", "", "😀", ""]),
        (b"\xe6\x97a", ["", "", "�a", ""]),
        (b"\xe6\x97", ["", "", ""]),
    ],
)
def test_bytes_that_form_no_character_do_not_hold_up_the_rest(
    bytes_tokenizer: Tokenizer, pieces_tokenizer: Tokenizer, kind: str, data: bytes, released: list[str]
) -> None:
    tokenizer = bytes_tokenizer if kind == "bytes" else pieces_tokenizer
    assert list(stream(TextStream(tokenizer), bytes_ids(tokenizer, data, kind == "pieces"))) == released


def test_text_after_broken_bytes_is_whole(pieces_tokenizer: Tokenizer) -> None:
    vocabulary = pieces_tokenizer.vocabulary()
    ids = [*bytes_ids(pieces_tokenizer, b"\xf0\x9f", fallback=True), vocabulary["▁"], vocabulary["a"]]
    assert list(stream(TextStream(pieces_tokenizer), ids)) == ["", "", "� ", "a", ""]


@pytest.mark.parametrize(
    ("text", "stops", "expected"),
    [
        ("one\nUser: two", ["\nUser:"], "one"),
        ("one\nUse", ["\nUser:"], "one\nUse"),
        ("aab", ["ab"], "a"),
        ("abcd", ["abcd", "bc"], "a"),
        ("abc", ["bc", "abc"], ""),
        ("abab!", ["aba", "!"], ""),
        ("日本語", ["本"], "日"),
        ("stop", ["stop"], ""),
    ],
)
def test_stop_strings_across_tokens(bytes_tokenizer: Tokenizer, text: str, stops: list[str], expected: str) -> None:
    for seed in range(5):
        ids = split_bytes(bytes_tokenizer, text, random.Random(seed))
        assert "".join(stream(TextStream(bytes_tokenizer, stops), ids)) == expected


def test_a_stop_ends_the_text_for_good(bytes_tokenizer: Tokenizer) -> None:
    texts = TextStream(bytes_tokenizer, ["b"])
    a, b = bytes_ids(bytes_tokenizer, b"ab", fallback=False)
    assert [texts.push(id) for id in (a, b, a)] == [False, True, True]
    assert (texts.take(), texts.finish(), texts.text) == ("a", "", "a")


def test_special_tokens_release_nothing(bytes_tokenizer: Tokenizer) -> None:
    vocabulary = bytes_tokenizer.vocabulary()
    ids = [vocabulary["a"], vocabulary["<think>"], vocabulary["<|im_end|>"]]
    assert list(stream(TextStream(bytes_tokenizer), ids)) == ["a", "<think>", "", ""]
    assert list(stream(TextStream(bytes_tokenizer, skip=()), ids)) == ["a", "<think>", "<|im_end|>", ""]


def test_spaces_between_words_and_at_the_start(folder: Path) -> None:
    tokenizer = Tokenizer(folder / "words")
    assert list(stream(TextStream(tokenizer), [0, 1, 2])) == ["Hello", " there", "!", ""]
    assert list(stream(TextStream(tokenizer, context=[0]), [1, 2])) == [" there", "!", ""]


def test_a_leading_space_is_kept_when_the_context_is_known(pieces_tokenizer: Tokenizer) -> None:
    prompt = pieces_tokenizer.encode("Hello")
    space, letter = (pieces_tokenizer.vocabulary()[entry] for entry in "▁a")
    assert "".join(stream(TextStream(pieces_tokenizer), [space, letter])) == "a"
    assert "".join(stream(TextStream(pieces_tokenizer, context=prompt), [space, letter])) == " a"


@pytest.mark.parametrize("kind", ["bytes", "pieces", "words"])
def test_the_cost_is_linear(folder: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = Tokenizer(folder / kind)
    num_decoded = 0
    decode = tokenizer.decode

    def counted(ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        nonlocal num_decoded
        num_decoded += len(ids)
        return decode(ids, skip_special_tokens)

    monkeypatch.setattr(tokenizer, "decode", counted)
    ids = (tokenizer.encode("Hello there! ") + [3] * 5) * 20
    "".join(stream(TextStream(tokenizer, ["stop here"]), ids))
    assert num_decoded <= 8 * len(ids)


def test_an_empty_stop_string_is_refused(bytes_tokenizer: Tokenizer) -> None:
    with pytest.raises(InputError, match="cannot be empty"):
        TextStream(bytes_tokenizer, ["a", ""])
