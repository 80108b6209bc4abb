"""The history as token ids: the generated ones where the template repeats the answer, new ones where it does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from helix_cli.chat.tokens import Encoded, TokenHistory
from helix_cli.tokenizer import Tokenizer
from tests.tiny import EOS, tiny_tokenizer

TRIMMING = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] | trim }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
UNMARKED = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant: "
ASKED = [{"role": "user", "content": "Hello there!"}]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return Tokenizer(tiny_tokenizer(tmp_path_factory.mktemp("tokenizer")))


def letters(tokenizer: Tokenizer, text: str) -> tuple[int, ...]:
    """`text` in another tokenisation than the tokenizer's own: a token for each character."""
    ids = tuple(one for letter in text for one in tokenizer.encode_rendered(letter))
    assert ids != tuple(tokenizer.encode_rendered(text))
    return ids


def after(answer: str) -> list[dict[str, str]]:
    return [*ASKED, {"role": "assistant", "content": answer}, {"role": "user", "content": "And then?"}]


def say(history: TokenHistory, answer: str, ids: tuple[int, ...]) -> tuple[Encoded, Encoded]:
    """The prompt before an answer and the one after it."""
    prompt = history.encode(ASKED)
    history.remember(prompt, answer, ids)
    return prompt, history.encode(after(answer))


@pytest.mark.parametrize("end", [(), (EOS,)])
def test_generated_ids_are_used_again(tokenizer: Tokenizer, end: tuple[int, ...]) -> None:
    ids = letters(tokenizer, "the quick fox")
    prompt, then = say(TokenHistory(tokenizer), "the quick fox", (*ids, *end))
    assert then.ids[: len(prompt.ids) + len(ids)] == prompt.ids + ids
    assert tokenizer.decode(then.ids, skip_special_tokens=False) == then.text
    assert then.ids[len(prompt.ids) + len(ids)] == EOS


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("the quick", "the quick. This is a long one"),  # cut at a long stop string
        ("the quick", "the quick<|im_start|>"),  # a special token that is no text
        ("the <|im_end|>", "the <|im_end|>"),  # the same in the middle, as text
    ],
)
def test_ids_that_say_something_else_are_not(tokenizer: Tokenizer, answer: str, said: str) -> None:
    ids = tuple(tokenizer.encode_rendered(said))
    history = TokenHistory(tokenizer)
    prompt = history.encode(ASKED)
    history.remember(prompt, answer, (*ids, EOS, 9))
    assert history.encode(after(answer)).ids == tuple(tokenizer.encode_chat(after(answer)))


@pytest.mark.parametrize("rest", ["😀", "."])
def test_a_broken_character_or_a_short_stop_is_not_part_of_the_history(tokenizer: Tokenizer, rest: str) -> None:
    ids = letters(tokenizer, "the quick ")
    ending = tuple(tokenizer.encode_rendered(rest))
    prompt, then = say(TokenHistory(tokenizer), "the quick ", ids + (ending[:-1] or ending))
    assert then.ids[: len(prompt.ids) + len(ids)] == prompt.ids + ids
    assert then.ids[len(prompt.ids) + len(ids)] == EOS


@pytest.mark.parametrize("template", [TRIMMING, UNMARKED])
def test_a_template_that_says_it_otherwise_decides(tokenizer: Tokenizer, template: str) -> None:
    """It strips white space, or leaves no token at which the ids could be joined."""
    other = Tokenizer(tokenizer.path, template)
    _, then = say(TokenHistory(other), " the quick fox ", letters(other, " the quick fox "))
    assert then.ids == tuple(other.encode_chat(after(" the quick fox ")))


def test_what_was_taken_back_is_forgotten_and_what_stays_is_kept(tokenizer: Tokenizer) -> None:
    history = TokenHistory(tokenizer)
    first, second = letters(tokenizer, "the quick fox"), letters(tokenizer, "the lazy dog")
    prompt, then = say(history, "the quick fox", (*first, EOS))
    history.remember(then, "the lazy dog", (*second, EOS))
    again = history.encode(after("the quick fox"))
    assert again == then, "a question that is asked anew"
    history.remember(again, "watching", letters(tokenizer, "watching"))
    longer = [*after("the quick fox"), {"role": "assistant", "content": "the lazy dog"}, *ASKED]
    encoded = history.encode(longer).ids
    assert encoded[: len(then.ids)] == then.ids
    assert encoded[len(then.ids) :][: len(second)] != second
    assert prompt.ids == history.encode(ASKED).ids


def test_the_tokenizer_joins_where_the_history_does(tmp_path: Path, tokenizer: Tokenizer) -> None:
    """For an answer in the tokenizer's own tokens both ways give the same ids."""
    ids = tuple(tokenizer.encode_rendered("the quick fox"))
    _, then = say(TokenHistory(tokenizer), "the quick fox", (*ids, EOS))
    assert then.ids == tuple(tokenizer.encode_chat(after("the quick fox")))
