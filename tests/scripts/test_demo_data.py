"""What the demonstration pair learns from: which files, which questions, and in which form."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scripts import demo_data as data
from scripts import demo_questions as questions

SOURCE = '''"""Wrap and fill text."""

def dedent(text, *, tabs=False):
    """Remove common leading white space.

    A second paragraph.
    """

def _private():
    """Nobody asks about this one."""

class Wrapper:
    """Wrap text at a width."""

    def wrap(self, text: str, width=70) -> list[str]:
        """Return the wrapped lines of a text."""

    @staticmethod
    def measure(text):
        """Return how wide a text is."""
'''


@pytest.fixture(scope="module")
def entries() -> dict[str, questions.Entry]:
    """What the source above offers to ask about, by name."""
    return {entry.name: entry for entry in questions.source_entries("threading.py", SOURCE, False)}


@pytest.mark.parametrize(
    ("path", "taken"),
    [
        ("textwrap.py", True),
        ("json/decoder.py", True),
        ("test/test_json.py", False),
        ("distutils/tests/support.py", False),
        ("idlelib/idle_test/htest.py", False),
        ("site-packages/torch/nn.py", False),
        ("encodings/cp1250.py", False),
        ("pydoc_data/topics.py", False),
        ("config-3.11-x86_64-linux-gnu/python-config.py", False),
        ("html/entities.py", False),
        ("lib2to3/Grammar.txt", False),
    ],
)
def test_material_is_source_without_tests_and_tables(path: str, taken: bool) -> None:
    """Tests, other packages and generated tables are no material."""
    assert data.is_document(Path(path)) is taken


def test_files_are_read_from_below_the_root_and_split_by_path(tmp_path: Path) -> None:
    """Every file lands on one side, and always on the same."""
    for index in range(200):
        (tmp_path / f"part{index}.py").write_text(f"x = {index}\n")
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "one.py").write_text("assert True\n")
    (tmp_path / "empty.py").write_text("\n")
    texts = data.library_files(tmp_path)
    train, held = data.split_files(texts)
    assert len(texts) == 200
    assert not train.keys() & held.keys()
    assert train.keys() | held.keys() == texts.keys()
    assert 0 < len(held) < 20
    assert data.split_files(texts) == (train, held)


def test_questions_are_about_what_is_public_and_documented(entries: dict[str, questions.Entry]) -> None:
    """Names, first paragraphs, and arguments without the instance."""
    assert list(entries) == [
        "the threading module",
        "threading.dedent",
        "threading.Wrapper",
        "threading.Wrapper.wrap",
        "threading.Wrapper.measure",
    ]
    assert entries["threading.dedent"].answer == "Remove common leading white space."
    assert entries["threading.dedent"].arguments == "text, *, tabs=False"
    assert entries["threading.Wrapper.wrap"].arguments == "text: str, width=70"
    assert entries["threading.Wrapper.measure"].arguments == "text"


def test_entries_of_a_held_out_file_are_held_out() -> None:
    """No question gives away what a held-out file says."""
    assert all(entry.held for entry in questions.source_entries("threading.py", SOURCE, True))


def test_no_training_question_uses_a_held_out_phrasing(entries: dict[str, questions.Entry]) -> None:
    """The two sets of phrasings have nothing in common."""
    items = list(entries.values())
    held = {turn.question for turn in questions.rephrased(items)}
    trained = {
        turn.question for seed in range(50) for item in items for turn in questions.turns(item, random.Random(seed))
    }
    assert not held & trained
    assert len(trained) > 4 * len(items)


def test_an_epoch_asks_about_every_entry(entries: dict[str, questions.Entry]) -> None:
    """An epoch leaves nothing out and hangs on its seed alone."""
    items = list(entries.values())
    text = "".join(questions.conversations(items, seed=3))
    assert all(item.answer in text for item in items)
    assert questions.conversations(items, seed=3) == questions.conversations(items, seed=3)
    assert questions.conversations(items, seed=3) != questions.conversations(items, seed=4)


@pytest.mark.parametrize(
    ("docstring", "answer"),
    [
        (None, ""),
        ("Short.", ""),
        ("return the length\nof a thing", "Return the length of a thing."),
        ("dump(value)\n\nWrite a value to a file.", "Write a value to a file."),
        ("get(key) -> the value of a key", "The value of a key."),
        ("One sentence here. " + "word " * 80, "One sentence here."),
    ],
)
def test_an_answer_is_the_beginning_of_the_docstring(docstring: str | None, answer: str) -> None:
    """Calls repeated in a docstring and endless paragraphs are cut."""
    assert questions.short_answer(docstring) == answer


def test_the_template_renders_what_training_saw_and_any_text_comes_back() -> None:
    """One format in training and in chat, and no text is lost."""
    tokenizer: Any = data.train_tokenizer([SOURCE, questions.render([questions.Turn("What?", "That.")])])
    turn = questions.Turn("What does dedent do?", "Remove white space.")
    messages = [
        {"role": "system", "content": "Answer briefly."},
        {"role": "user", "content": turn.question},
        {"role": "assistant", "content": turn.answer},
    ]
    rendered = tokenizer.apply_chat_template(messages, tokenize=False)
    assert rendered + questions.END_OF_TEXT == questions.render([turn], "Answer briefly.")
    prompt = tokenizer.apply_chat_template(messages[:2], tokenize=False, add_generation_prompt=True)
    assert questions.render([turn], "Answer briefly.").startswith(prompt)
    text = "\tif x_1 == 12:\r\n        naïve = '☃ 漢字 🦀'  \n\n\n"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    for token in questions.SPECIAL_TOKENS:
        assert len(tokenizer(token)["input_ids"]) == 1


def test_rows_continue_from_a_place() -> None:
    """A resumed run meets the rows that the stopped one would have met."""

    def stream() -> data.RowStream:
        return data.RowStream(lambda _: np.arange(1000), seed=1)

    first = stream()
    first.take(7, 64)
    second = stream()
    second.move(first.place())
    for _ in range(5):
        assert np.array_equal(first.take(7, 64), second.take(7, 64))


def test_an_epoch_shows_no_token_twice() -> None:
    """The rows of an epoch do not overlap."""
    rows = data.shuffled_rows(np.arange(1000), 64, seed=5)
    assert len(rows) >= 14
    assert len(np.unique(rows)) == rows.size
