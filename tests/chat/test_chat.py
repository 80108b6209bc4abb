"""A conversation over the real engine: what a turn costs, what is kept, and what happens when the context is full."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helix_cli.chat.chat import Chat
from helix_cli.chat.conversation import Conversation, Turn
from helix_cli.chat.storing import read_conversation
from helix_cli.core import FinishReason, Row, TextEvent
from helix_cli.draft import DRAFTERS
from helix_cli.errors import ConfigError, InputError, ModelError
from helix_cli.model.runner import ModelRunner
from tests.chat.sessions import ask, open_chat, save_pair
from tests.tiny import tiny_checkpoint, tiny_tokenizer

BLOCK = 4


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return save_pair(tmp_path_factory.mktemp("pair"))


def computed(runner: ModelRunner, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Tokens of each row that `runner` computes from now on."""
    lengths: list[int] = []
    forward = runner.forward

    def counting(rows: list[Row]) -> object:
        lengths.extend(row.length for row in rows)
        return forward(rows)

    monkeypatch.setattr(runner, "forward", counting)
    return lengths


@pytest.mark.parametrize("drafter", DRAFTERS)
def test_a_turn_costs_its_new_tokens(pair: tuple[Path, Path], drafter: str) -> None:
    """Sampled text is seldom in the tokenizer's own tokens; all of it is found again all the same."""
    chat, _ = open_chat(pair, drafter=drafter)
    reused, known = [], 0
    for number in range(6):
        event = ask(chat, f"Question {number}?")
        reused.append(event.stats.num_reused_tokens)
        # A character that the end of an answer has broken is not said again.
        assert (known - 3) // BLOCK * BLOCK <= event.stats.num_reused_tokens <= known
        # The last token of an answer is committed and not computed.
        known = event.stats.num_prompt_tokens + event.stats.num_tokens - 1
    assert reused == sorted(reused) and reused[-1] > 100


def test_so_does_the_drafts_part(pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    chat, _ = open_chat(pair, "draft.k=4")
    for number in range(5):
        ask(chat, f"Question {number}?")
    runner = chat.session.engine.drafter.runner  # type: ignore[attr-defined]
    lengths = computed(runner, monkeypatch)
    event = ask(chat, "And the last?")
    new = event.stats.num_prompt_tokens - event.stats.num_reused_tokens
    assert event.stats.num_reused_tokens > 100
    # Its first row catches up: the new question, the first token, and at most what its last round had left out.
    depth = 4
    assert new < lengths[0] <= new + 1 + BLOCK + depth + 1
    assert max(lengths[1:]) <= depth + 1


def test_reuse_changes_no_text(pair: tuple[Path, Path]) -> None:
    """The answers are those of a session that remembers nothing."""
    texts = []
    for reuse in ("true", "false"):
        chat, _ = open_chat(pair, f"cache.prefix_reuse={reuse}")
        texts.append([ask(chat, f"Question {number}?").token_ids for number in range(4)])
    assert texts[0] == texts[1]


def test_every_turn_is_kept_on_disk(pair: tuple[Path, Path], tmp_path: Path) -> None:
    file = tmp_path / "chat.json"
    chat, _ = open_chat(pair, file=file, conversation=Conversation("Be brief."))
    for number in (1, 2):
        ask(chat, f"Question {number}?")
        assert read_conversation(file).turns == chat.conversation.turns
        assert len(chat.conversation.turns) == number
    assert json.loads(file.read_text(encoding="utf-8"))["messages"][0]["content"] == "Be brief."


def test_a_disk_that_takes_nothing_is_told_once(pair: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "folder").write_text("a file", encoding="utf-8")
    chat, told = open_chat(pair, file=tmp_path / "folder" / "chat.json")
    for number in range(2):
        ask(chat, f"Question {number}?")
    assert len([line for line in told if "not being saved" in line]) == 1 and len(chat.conversation.turns) == 2


def test_a_taken_up_conversation_goes_on(pair: tuple[Path, Path]) -> None:
    earlier = Conversation("Be brief.", [Turn("Hello there!", "How are you today?")])
    chat, _ = open_chat(pair, conversation=earlier)
    event = ask(chat, "And then?")
    messages = [*Conversation("Be brief.", earlier.turns[:1]).messages(), {"role": "user", "content": "And then?"}]
    assert event.stats.num_prompt_tokens == len(chat.session.tokenizer.encode_chat(messages))


def stop_after(chat: Chat, num_events: int, question: str, replace: bool = False) -> FinishReason:
    """Asks, and interrupts after some events."""
    reason = None
    if not num_events:
        chat.session.interrupt()
    for place, event in enumerate(chat.ask(question, replace), start=1):
        if place == num_events:
            chat.session.interrupt()
        if not isinstance(event, TextEvent):
            reason = event.finish_reason
    chat.session.check()
    assert reason is not None
    return reason


def test_an_interrupted_answer_stays_as_far_as_it_came(pair: tuple[Path, Path]) -> None:
    chat, _ = open_chat(pair, "sampling.max_tokens=100", drafter="none")
    assert stop_after(chat, 6, "Question?") is FinishReason.ABORT
    [turn] = chat.conversation.turns
    assert turn.question == "Question?" and turn.answer
    before = chat.last.stats if chat.last else None
    assert before is not None and before.num_tokens == 6
    event = ask(chat, "Go on")
    known = before.num_prompt_tokens + 5
    assert (known - 3) // BLOCK * BLOCK <= event.stats.num_reused_tokens <= known


def test_an_answer_that_never_began_changes_nothing(pair: tuple[Path, Path]) -> None:
    chat, told = open_chat(pair)
    ask(chat, "Question?")
    before = list(chat.conversation.turns)
    for replace in (False, True):
        assert stop_after(chat, 0, "Another?", replace) is FinishReason.ABORT
        assert chat.conversation.turns == before
    assert "Stopped before the first word" in told[-1]


def test_a_reader_that_leaves_keeps_what_it_has_seen(pair: tuple[Path, Path]) -> None:
    chat, _ = open_chat(pair, "sampling.ignore_eos=true", "sampling.max_tokens=100")
    events = chat.ask("Question?")
    seen = [next(events) for _ in range(5)]
    events.close()
    text = "".join(piece.text for event in seen if isinstance(event, TextEvent) for piece in event.pieces)
    assert chat.conversation.turns == [Turn("Question?", text)] and text
    chat.session.check()


def test_whole_turns_go_when_the_context_is_full(pair: tuple[Path, Path], tmp_path: Path) -> None:
    file = tmp_path / "chat.json"
    chat, told = open_chat(pair, conversation=Conversation("Be brief."), file=file)
    dropped = []
    for number in range(25):
        event = ask(chat, f"Question {number}?")
        dropped.append(chat.conversation.first_seen)
        assert event.stats.num_prompt_tokens + 12 <= chat.capacity == 256
        seen = chat.conversation.turns[chat.conversation.first_seen :]
        assert chat.session.tokenizer.render_chat(Conversation("Be brief.", seen).messages()).startswith(
            "<|im_start|>system\nBe brief."
        )
    notices = [line for line in told if "left out of what the model reads" in line]
    assert len(notices) == len(set(dropped)) - 1 >= 2
    # Between two drops the rest is found in the cache, and nothing is lost for the reader.
    assert len(set(dropped)) < 25 / 2
    assert len(read_conversation(file).turns) == 25


def test_a_question_that_is_too_long_is_refused_and_nothing_changes(pair: tuple[Path, Path]) -> None:
    chat, told = open_chat(pair)
    ask(chat, "Question?")
    before = list(chat.conversation.turns)
    with pytest.raises(InputError, match="the context holds 256"):
        ask(chat, "fox " * 400)
    assert chat.conversation.turns == before and chat.conversation.first_seen == 0
    long = ask(chat, "fox " * 60)
    assert long.stats.num_prompt_tokens < 256 and chat.conversation.turns[-1].question.startswith("fox")
    assert not [line for line in told if "error" in line]


def test_a_small_cache_limits_the_conversation(pair: tuple[Path, Path]) -> None:
    chat, _ = open_chat(pair, "cache.blocks=20")
    assert chat.capacity == 80
    for number in range(6):
        ask(chat, f"Question {number}?")
    with pytest.raises(InputError, match="the context holds 80"):
        ask(chat, "fox " * 60)


def test_a_cut_answer_says_so(pair: tuple[Path, Path]) -> None:
    chat, told = open_chat(pair, "sampling.ignore_eos=true")
    ask(chat, "Question?")
    assert told[-1] == "The answer was cut at 12 tokens; /set max-tokens allows more."
    chat.change("max-tokens", "1000")
    ask(chat, "Question?")
    assert told[-1] == "The answer was cut where the context of 256 tokens ends."


def test_files_go_with_the_next_question(pair: tuple[Path, Path], tmp_path: Path) -> None:
    chat, _ = open_chat(pair)
    assert chat.attach("notes.txt", "the lazy dog\n") == len(chat.session.tokenizer.encode_rendered("the lazy dog\n"))
    stop_after(chat, 0, "What does it say?")
    ask(chat, "What does it say?")
    ask(chat, "And now?")
    asked = [turn.question for turn in chat.conversation.turns]
    assert asked == ["notes.txt:\nthe lazy dog\n\nWhat does it say?", "And now?"]


def test_a_file_that_is_too_long_does_not_block_the_conversation(pair: tuple[Path, Path]) -> None:
    chat, told = open_chat(pair)
    with pytest.raises(InputError, match=r"big.txt has .* tokens, and the context holds 256"):
        chat.attach("big.txt", "fox " * 400)
    ask(chat, "And now?")
    chat.attach("notes.txt", "fox " * 50)
    with pytest.raises(InputError, match="the context holds 256"):
        ask(chat, "fox " * 250)
    assert told[-1] == "notes.txt will not go with your next message."
    ask(chat, "And now?")
    assert [turn.question for turn in chat.conversation.turns] == ["And now?", "And now?"]


def test_taking_back_the_only_turn_that_was_seen(pair: tuple[Path, Path]) -> None:
    chat, _ = open_chat(pair)
    for _ in range(3):
        ask(chat, "fox " * 10)
    ask(chat, "fox " * 60)
    assert chat.conversation.first_seen == 3
    chat.conversation.pop()
    assert chat.num_tokens() == 0
    chat.keep_prompt()
    ask(chat, "And now?")


def test_another_drafter_keeps_the_targets_cache(pair: tuple[Path, Path]) -> None:
    chat, _ = open_chat(pair, drafter="none")
    ask(chat, "Question?")
    for name, value, drafter, k in (
        ("drafter", "ngram", "ngram", "auto"),
        ("k", "2", "ngram", 2),
        ("draft", str(pair[1]), "model", 2),
        ("drafter", "early_exit", "early_exit", 2),
        ("drafter", "none", "none", 0),
        ("drafter", "model", "model", 2),
    ):
        chat.change(name, value)
        event = ask(chat, "Question?", replace=True)
        assert (chat.session.info.drafter, chat.session.info.k) == (drafter, k)
        assert event.stats.num_reused_tokens == (event.stats.num_prompt_tokens - 1) // BLOCK * BLOCK
        assert chat.session.info.config["draft"]["kind"] == drafter
        assert (event.stats.num_drafted > 0) == (drafter in ("model", "early_exit")) or drafter == "ngram"


def test_sampling_changes_at_once_and_seeds_decide_the_text(pair: tuple[Path, Path]) -> None:
    chat, _ = open_chat(pair)
    first = ask(chat, "Question?").text
    assert ask(chat, "Question?", replace=True).text == first
    chat.change("seed", "4")
    assert ask(chat, "Question?", replace=True).text != first
    assert chat.session.info.config["sampling"]["seed"] == 4


@pytest.mark.parametrize(
    ("name", "value", "kind", "message"),
    [
        ("model", "org/other", ConfigError, "model.path cannot change while the model is loaded"),
        ("cache.blocks", "9", ConfigError, "cache.blocks cannot change"),
        ("draft", "nowhere/at/all", ModelError, "nowhere/at/all"),
        ("draft.layers", "1", ConfigError, "draft.layers cannot take effect with drafter model"),
    ],
)
def test_what_cannot_change_leaves_all_as_it_was(
    pair: tuple[Path, Path], name: str, value: str, kind: type[Exception], message: str
) -> None:
    chat, _ = open_chat(pair)
    before = (chat.session.engine, chat.session.info, chat.settings)
    with pytest.raises(kind, match=message):
        chat.change(name, value)
    assert (chat.session.engine, chat.session.info, chat.settings) == before
    ask(chat, "Question?")


def test_a_template_without_a_place_for_a_system_prompt(tmp_path: Path) -> None:
    """It would be ignored, so it is refused."""
    target = tiny_checkpoint(tmp_path / "target")
    template = (
        "{% for m in messages if m['role'] != 'system' %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
        "{% endfor %}<|im_start|>assistant\n"
    )
    tiny_tokenizer(target, chat_template=template)
    with pytest.raises(InputError, match="no place for a system prompt"):
        open_chat((target, target), drafter="none", conversation=Conversation("Be brief."))
    chat, _ = open_chat((target, target), drafter="none")
    with pytest.raises(InputError, match="no place for a system prompt"):
        chat.set_system("Be brief.")
    assert chat.conversation.system is None


def test_three_hundred_turns_leak_nothing(pair: tuple[Path, Path]) -> None:
    chat, told = open_chat(pair, "sampling.max_tokens=2", "cache.block_size=8", "cache.blocks=40")
    engine = chat.session.engine
    for number in range(300):
        if number % 50 == 7:
            stop_after(chat, number % 3, "Stop!")
        ask(chat, f"{number}?", replace=number % 9 == 4)
        assert engine.idle and engine.scheduler.cache.pool.num_used == 0
    assert len(chat.conversation.turns) > 250 and chat.conversation.first_seen > 200
    assert engine.scheduler.cache.pool.num_evicted > 0, "the pool was never full"
    assert len(told) > 10


def test_another_process_finds_what_this_one_kept(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As far as the text of the answers is in the tokenizer's own tokens: files hold text, not ids."""
    monkeypatch.setenv("HELIX_CACHE_DIR", str(tmp_path / "cache"))
    chat, _ = open_chat(pair, "cache.prompt_cache=talk")
    first = ask(chat, "Question? " * 5)
    ask(chat, "And then?")
    chat.keep_prompt()
    for settings, reused in (("cache.prompt_cache=talk", first.stats.num_prompt_tokens // BLOCK * BLOCK), ("", 0)):
        later, _ = open_chat(pair, *filter(None, [settings]), conversation=chat.conversation)
        again = ask(later, "And at last?").stats.num_reused_tokens
        assert reused <= again and bool(reused) == bool(again)
