"""A growing text in another tokenizer's tokens: the same as tokenising it whole, and what is settled stays."""

from __future__ import annotations

from pathlib import Path
from tempfile import mkdtemp

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helix_cli.tokenizer import Pairing, Side, Tokenizer, pair
from helix_cli.tokenizer.retelling import LONGEST_TAIL, Respelling, Retelling, encode_after
from tests.tokenizer.samples import CHARACTERS, byte_level, declare, sentence_piece

BYTES = Tokenizer(declare(byte_level(Path(mkdtemp())), eos_token="<|im_end|>"))
PIECES = Tokenizer(declare(sentence_piece(Path(mkdtemp())), "llama", tokenizer_class="LlamaTokenizer"))
DIRECTIONS = [(BYTES, PIECES), (PIECES, BYTES)]
NAMES = ["bytes to pieces", "pieces to bytes"]
PROSE = "The quick brown fox jumps over the lazy dog. Hello there! How are you today? I'm fine, you'll see. " * 12


def pairing_of(target: Tokenizer, draft: Tokenizer) -> Pairing:
    return pair(Side(target, 1000), Side(draft, 1000), "text")


def told(target: Tokenizer, draft: Tokenizer, tokens: list[int], step: int = 1) -> Retelling:
    """A text that came `step` tokens at a time, with everything checked that must hold on the way."""
    retelling = Retelling(target, draft, pairing_of(target, draft))
    settled: list[int] = []
    for end in range(step, len(tokens) + step, step):
        retelling.follow(tokens[:end])
        assert retelling.tokens[: len(settled)] == settled, "a settled token has changed"
        settled = retelling.tokens[: retelling.num_settled]
    return retelling


@pytest.mark.parametrize(("target", "draft"), DIRECTIONS, ids=NAMES)
@given(text=st.text(CHARACTERS, max_size=40))
@settings(max_examples=60, deadline=None)
def test_short_text_is_as_if_it_had_been_tokenised_whole(target: Tokenizer, draft: Tokenizer, text: str) -> None:
    tokens = target.encode(text)
    if any(token in target.special_ids for token in tokens[len(target.leading_ids) :]):
        return  # told by other rules
    retelling = told(target, draft, tokens)
    spoken = target.decode(tokens)  # what the target's tokenizer has left of it
    assert retelling.tokens == draft.encode(spoken)


@pytest.mark.parametrize(("target", "draft"), DIRECTIONS, ids=NAMES)
@pytest.mark.parametrize("step", [1, 3, 1000])
def test_long_text_is_settled_as_if_it_had_been_tokenised_whole(target: Tokenizer, draft: Tokenizer, step: int) -> None:
    tokens = target.encode(PROSE)
    retelling = told(target, draft, tokens, step)
    assert retelling.tokens == draft.encode(target.decode(tokens))
    # These tokenizers have been made from so little text that whole clauses are tokens.
    assert len(draft.decode(retelling.tokens[retelling.num_settled :])) <= 2 * LONGEST_TAIL


def test_text_without_spaces_is_settled_too() -> None:
    text = "日本語のテキスト" * 60
    retelling = told(BYTES, PIECES, BYTES.encode(text), 5)
    assert retelling.num_settled > LONGEST_TAIL and PIECES.decode(retelling.tokens) == text


def test_words_that_later_letters_may_join_stay_open() -> None:
    """Some tokens are of several words, and the tail is cut while one of them is coming."""
    joined = "?  I'm fine, you'll see."
    assert len(PIECES.encode_rendered("y" + joined)) == len(PIECES.encode_rendered("y")) + 1
    text = "y " * (LONGEST_TAIL // 2 - 5) + joined + " And then?"
    retelling = told(BYTES, PIECES, BYTES.encode(text))
    assert retelling.num_settled > 1 and retelling.tokens == PIECES.encode(text)


def test_within_a_character_nothing_can_be_told() -> None:
    tokens = BYTES.encode("a\N{BUG}")
    retelling = Retelling(BYTES, PIECES, pairing_of(BYTES, PIECES))
    wholes = [retelling.follow(tokens[:end]) for end in range(1, len(tokens) + 1)]
    assert wholes[0] and not wholes[-2] and wholes[-1]
    assert PIECES.decode(retelling.tokens) == "a\N{BUG}"


def test_each_tokenizer_begins_a_text_in_its_own_way() -> None:
    bos = PIECES.vocabulary()["<s>"]
    assert PIECES.leading_ids == (bos,) and BYTES.leading_ids == ()
    assert told(BYTES, PIECES, BYTES.encode("Hello")).tokens == PIECES.encode("Hello")
    assert told(PIECES, BYTES, PIECES.encode("Hello")).tokens == BYTES.encode("Hello")


def test_a_beginning_that_is_told_is_not_begun_twice(tmp_path: Path) -> None:
    """A target that begins no text by itself may read one that was begun for it, as by a chat template."""
    target = Tokenizer(declare(byte_level(tmp_path), eos_token="<|im_end|>", bos_token="<|endoftext|>"))
    begun = told(target, PIECES, target.encode("<|endoftext|>Hello")).tokens
    (begin,) = PIECES.leading_ids
    assert begun[0] == begin and begin not in begun[1:] and PIECES.decode(begun) == "Hello"


def test_a_character_that_an_end_broke_off_is_gone() -> None:
    end = BYTES.vocabulary()["<|im_end|>"]
    tokens = [*BYTES.encode("a\N{BUG}")[:-1], end, *BYTES.encode("b")]
    retelling = told(BYTES, PIECES, tokens)
    assert PIECES.decode(retelling.tokens[retelling.tokens.index(PIECES.vocabulary()["</s>"]) :]) == "b"


def test_special_tokens_are_told_by_their_partner_or_by_their_letters() -> None:
    text = "<|im_start|>user\nHello<|im_end|>\nThe"
    retelling = told(BYTES, PIECES, BYTES.encode(text))
    end = PIECES.vocabulary()["</s>"]
    assert end in retelling.tokens, "the end of a turn is the end of a text"
    place = retelling.tokens.index(end)
    assert PIECES.decode(retelling.tokens[:place]) == "<|im_start|>user\nHello"
    assert retelling.num_settled > place
    assert retelling.tokens == PIECES.encode(text.replace("<|im_end|>", "</s>"))


def test_text_goes_on_without_the_marks_of_a_beginning() -> None:
    assert PIECES.token(PIECES.encode_rendered("zebra")[0]) == "▁"
    assert PIECES.token(encode_after(PIECES, "x", "zebra")[0]) == "z"
    # "Th" and "e" would merge, so something else stands before the "e".
    joined = encode_after(BYTES, "Th", "e")
    assert BYTES.decode(joined) == "e"
    # So would these, and the text alone would begin as a text does.
    assert PIECES.token(encode_after(PIECES, "xの", "テキス")[0]) == "テ"


def test_ids_that_differ_are_told_one_by_one() -> None:
    pairing = pairing_of(BYTES, BYTES)
    shifted = Pairing("mapped", {one: other + 1 for one, other in pairing.to_draft.items()}, 1, 1, 1.0, None)
    respelling = Respelling(BYTES, BYTES, shifted)
    tokens = BYTES.encode("Hello there")
    for end in range(1, len(tokens) + 1):
        assert respelling.follow(tokens[:end])
        assert respelling.tokens == [token + 1 for token in tokens[:end]]
        assert respelling.num_settled == end


def test_a_beginning_is_told_once_and_what_has_no_partner_by_its_letters() -> None:
    same = Pairing("mapped", {id: id for id in PIECES.vocabulary().values()}, 1, 1, 1.0, None)
    tokens = PIECES.encode("Hello")
    respelling = Respelling(PIECES, PIECES, same)
    respelling.follow(tokens)
    assert respelling.tokens == tokens and tokens[0] in PIECES.leading_ids
    think = BYTES.vocabulary()["<think>"]
    others = {id: id for id in BYTES.vocabulary().values() if id != think}
    respelling = Respelling(BYTES, BYTES, Pairing("mapped", others, 1, 1, 1.0, None))
    tokens = BYTES.encode("a<think>b")
    respelling.follow(tokens)
    assert think in tokens and respelling.tokens == tokens
