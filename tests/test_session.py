"""From a config to events with text, over tiny checkpoints on disk: the path that every command takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models

from helix_cli.config import load_config
from helix_cli.core import Event, FinishedEvent, FinishReason, TextEvent
from helix_cli.draft import DRAFTERS
from helix_cli.drafter_choice import WITH_A_MODEL
from helix_cli.errors import (
    ConfigError,
    DeviceError,
    HelixError,
    InputError,
    Interrupted,
    MemoryLimitError,
    ModelError,
)
from helix_cli.prompt import Prompt
from helix_cli.session import Session, open_session
from tests.tiny import tiny_checkpoint, tiny_tokenizer
from tests.tokenizer.samples import sentence_piece

QUESTION = "The quick brown fox"


def save_pair(directory: Path, **config: Any) -> tuple[Path, Path]:
    """A target and a draft with one tokenizer."""
    target = tiny_checkpoint(directory / "target", **config)
    draft = tiny_checkpoint(directory / "draft", seed=1, **({"num_hidden_layers": 1} | config))
    for path in (target, draft):
        tiny_tokenizer(path)
    return target, draft


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return save_pair(tmp_path_factory.mktemp("pair"))


def settings(pair: tuple[Path, Path], *more: str) -> list[str]:
    """Overrides for a small, quick session over the pair; `more` replaces what it names again."""
    base = [f"model.path={pair[0]}", "backend.threads=1", "cache.blocks=64", "sampling.max_tokens=20"]
    chosen = [*base, "sampling.ignore_eos=true", *more]
    return list({override.partition("=")[0]: override for override in chosen}.values())


def drafted_by(pair: tuple[Path, Path], drafter: str) -> list[str]:
    """Overrides that choose a drafter."""
    return [f"draft.kind={drafter}", *([f"draft.path={pair[1]}"] if drafter in WITH_A_MODEL else [])]


def session_for(pair: tuple[Path, Path], *more: str) -> Session:
    return open_session(load_config(None, settings(pair, *more)))


def collect(session: Session, *prompts: Prompt) -> list[FinishedEvent]:
    """Runs prompts; the pieces of text must add up to what the last event says."""
    texts: dict[int, str] = {}
    finished: dict[int, FinishedEvent] = {}
    for event in session.stream(prompts):
        assert event.index not in finished, "an event after the last one"
        if isinstance(event, TextEvent):
            texts[event.index] = texts.get(event.index, "") + "".join(piece.text for piece in event.pieces)
        else:
            finished[event.index] = event
    session.check()
    for index, event in finished.items():
        assert texts.get(index, "") == event.text
    return [finished[prompt.index] for prompt in prompts]


@pytest.mark.parametrize("drafter", DRAFTERS)
def test_each_drafter_says_the_plain_text(pair: tuple[Path, Path], drafter: str) -> None:
    prompts = [Prompt(0, QUESTION), Prompt(1, "def fold(values):", max_tokens=7)]
    plain = collect(session_for(pair), *prompts)
    spoken = collect(session_for(pair, *drafted_by(pair, drafter)), *prompts)
    assert [one.token_ids for one in spoken] == [one.token_ids for one in plain]
    assert [one.text for one in spoken] == [one.text for one in plain]
    assert [len(one.token_ids) for one in spoken] == [20, 7]
    assert all(one.finish_reason is FinishReason.LENGTH for one in spoken)
    assert (spoken[0].stats.num_drafted > 0) == (drafter not in ("none", "ngram")) or drafter == "ngram"


def test_the_statistics_say_whether_a_text_is_exact(pair: tuple[Path, Path]) -> None:
    """With a rule that draws otherwise once there is a draft, equal logits are not enough."""
    session = session_for(pair, *drafted_by(pair, "early_exit"), "model.exact=on")
    [greedy] = collect(session, Prompt(0, QUESTION))
    assert session.info.exact and greedy.stats.exact and greedy.stats.exact_reason == session.info.exact_reason
    assert greedy.token_ids == collect(session_for(pair, "draft.kind=none"), Prompt(0, QUESTION))[0].token_ids
    sampling = ("sampling.temperature=1.0", "model.exact=on")
    [block] = collect(session_for(pair, *sampling), Prompt(0, QUESTION))
    assert not block.stats.exact and "rule block keeps the law" in block.stats.exact_reason
    assert collect(session_for(pair, *sampling, "sampling.seed=1"), Prompt(0, QUESTION))[0].stats.exact
    for choice in ("off", "auto"):
        [event] = collect(session_for(pair, f"model.exact={choice}"), Prompt(0, QUESTION))
        assert not event.stats.exact and event.stats.exact_reason


def test_a_stop_string_ends_text_and_tokens_alike(pair: tuple[Path, Path]) -> None:
    [whole] = collect(session_for(pair), Prompt(0, QUESTION))
    stop = whole.text[6:8]
    for drafter in DRAFTERS:
        session = session_for(pair, *drafted_by(pair, drafter), f"sampling.stop={json.dumps([stop])}")
        [event] = collect(session, Prompt(0, QUESTION))
        assert event.finish_reason is FinishReason.STOP
        assert event.text == whole.text[: whole.text.index(stop)]
        assert event.token_ids == whole.token_ids[: len(event.token_ids)]
        assert event.stats.num_tokens == len(event.token_ids)


def test_an_interruption_ends_everything_and_keeps_the_text(pair: tuple[Path, Path]) -> None:
    session = session_for(pair, *drafted_by(pair, "model"))
    events: list[Event] = []
    for event in session.stream([Prompt(0, QUESTION), Prompt(1, QUESTION)]):
        events.append(event)
        if len(events) == 3:
            session.interrupt()
    last = [event for event in events if isinstance(event, FinishedEvent)]
    assert {event.index for event in last} == {0, 1}
    assert {event.finish_reason for event in last} == {FinishReason.ABORT}
    assert any(event.text for event in last)
    session.check()
    # The session is as good as new.
    assert len(collect(session, Prompt(0, QUESTION))[0].token_ids) == 20


def test_an_interruption_before_the_first_step_is_not_lost(pair: tuple[Path, Path]) -> None:
    session = session_for(pair)
    session.interrupt()
    [event] = collect(session, Prompt(0, QUESTION))
    assert (event.finish_reason, event.token_ids) == (FinishReason.ABORT, ())


def test_a_reader_that_leaves_early_leaves_nothing_in_the_engine(pair: tuple[Path, Path]) -> None:
    session = session_for(pair)
    stream = session.stream([Prompt(0, QUESTION)])
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert session.engine.idle
    session.check()


def test_a_seed_and_the_coupled_rule_give_one_text(pair: tuple[Path, Path]) -> None:
    sampled = ["sampling.temperature=1.0", "sampling.seed=7"]
    texts = {
        collect(session_for(pair, *sampled, *drafted_by(pair, drafter)), Prompt(0, QUESTION))[0].text
        for drafter in DRAFTERS
    }
    assert len(texts) == 1


def test_messages_go_through_the_chat_template(pair: tuple[Path, Path]) -> None:
    session = session_for(pair)
    prompt = Prompt(0, messages=({"role": "user", "content": "Hello"},))
    assert session.request(prompt).prompt == tuple(
        session.tokenizer.encode_chat([{"role": "user", "content": "Hello"}])
    )
    assert len(collect(session, prompt)[0].token_ids) == 20


def test_a_model_without_a_chat_template_needs_one_of_the_user(pair: tuple[Path, Path], tmp_path: Path) -> None:
    target = tiny_checkpoint(tmp_path / "target")
    tiny_tokenizer(target, chat_template=None)
    prompt = Prompt(0, messages=({"role": "user", "content": "Hello"},))
    with pytest.raises(InputError, match="no chat template") as caught:
        open_session(load_config(None, settings((target, target))), [prompt])
    assert "helix generate" in caught.value.hint and "--template FILE" in caught.value.hint
    (tmp_path / "t.jinja").write_text("{% for m in messages %}({{ m['content'] }}){% endfor %}", encoding="utf-8")
    session = session_for((target, target), f"model.template={tmp_path / 't.jinja'}")
    assert session.request(prompt).prompt == tuple(session.tokenizer.encode("(Hello)"))
    with pytest.raises(InputError, match="cannot be read"):
        session_for(pair, "model.template=missing.jinja")


def test_tokens_are_fed_as_they_are(pair: tuple[Path, Path]) -> None:
    session = session_for(pair)
    ids = tuple(one for letter in QUESTION for one in session.tokenizer.encode(letter))
    assert session.request(Prompt(0, tokens=ids)).prompt == ids


def test_the_models_own_sampling_is_the_default(tmp_path: Path) -> None:
    generation = {"do_sample": True, "temperature": 0.6, "top_p": 0.9, "top_k": 20}
    target = tiny_checkpoint(tmp_path / "sampling", generation=generation)
    tiny_tokenizer(target)
    session = session_for((target, target))
    assert (session.params.temperature, session.params.top_p, session.params.top_k) == (0.6, 0.9, 20)
    assert session_for((target, target), "sampling.temperature=0").params.temperature == 0.0


REFUSED: list[tuple[list[str], type[HelixError], str]] = [
    (["model.path=nowhere/at/all"], ModelError, "nowhere/at/all"),
    (["draft.kind=early_exit", "draft.layers=3"], ConfigError, "layer 3 is no short cut for a target of 3"),
    (["backend.device=cuda"], DeviceError, "cuda|CUDA|GPU"),
    (["verify.rule=greedy", "sampling.temperature=1"], ConfigError, "greedy"),
]


@pytest.mark.parametrize(("overrides", "kind", "message"), REFUSED)
def test_bad_settings_are_refused_with_a_hint(
    pair: tuple[Path, Path], overrides: list[str], kind: type[HelixError], message: str
) -> None:
    with pytest.raises(kind, match=message) as caught:
        session_for(pair, *overrides)
    assert caught.value.hint and caught.value.exit_code == 2


def with_swapped_ids(draft: Path) -> Path:
    """A checkpoint whose tokenizer gives two words each other's ids."""
    tiny_tokenizer(draft)
    path = draft / "tokenizer.json"
    content = json.loads(path.read_text())
    vocabulary = content["model"]["vocab"]
    names = {number: name for name, number in vocabulary.items()}
    vocabulary[names[300]], vocabulary[names[301]] = 301, 300
    path.write_text(json.dumps(content))
    return draft


def test_a_draft_with_other_ids_is_mapped(pair: tuple[Path, Path], tmp_path: Path) -> None:
    plain = collect(session_for(pair), Prompt(0, QUESTION))[0].text
    draft = with_swapped_ids(tiny_checkpoint(tmp_path / "draft", num_hidden_layers=1))
    session = session_for((pair[0], draft), *drafted_by((pair[0], draft), "model"))
    assert collect(session, Prompt(0, QUESTION))[0].text == plain
    assert session.info.vocabulary == {"way": "mapped", "shared": 320, "target": 320, "draft": 320, "coverage": 1.0}


@pytest.mark.parametrize(
    ("asked", "temperature", "way"),
    [("auto", 0, "text"), ("auto", 1, "shared"), ("shared", 0, "shared"), ("text", 1, "text")],
)
def test_a_draft_with_another_tokenizer_says_the_plain_text(
    pair: tuple[Path, Path], tmp_path: Path, asked: str, temperature: int, way: str
) -> None:
    draft = sentence_piece(tiny_checkpoint(tmp_path / "draft", num_hidden_layers=1, vocab_size=500))
    sampling = [f"sampling.temperature={temperature}", "sampling.seed=1"]
    prompts = [Prompt(0, QUESTION), Prompt(1, "def fold(values):")]
    plain = [one.text for one in collect(session_for(pair, *sampling, "draft.kind=none"), *prompts)]
    drafting = [*drafted_by((pair[0], draft), "model"), f"draft.vocabulary={asked}"]
    session = session_for((pair[0], draft), *sampling, *drafting)
    events = collect(session, *prompts)
    assert [one.text for one in events] == plain
    assert sum(one.stats.num_drafted for one in events) > 0
    facts = session.info.vocabulary
    assert facts is not None and facts["way"] == way
    assert 256 <= facts["shared"] < facts["target"] == 320 and 0.2 < facts["coverage"] <= 1.0


def test_a_draft_that_shares_too_little_is_refused_with_the_numbers(pair: tuple[Path, Path], tmp_path: Path) -> None:
    draft = tiny_checkpoint(tmp_path / "draft", num_hidden_layers=1, vocab_size=500)
    backend = Tokenizer(models.WordLevel({"[UNK]": 0, "xyzzy": 1}, unk_token="[UNK]"))
    backend.save(str(draft / "tokenizer.json"))
    overrides = drafted_by((pair[0], draft), "model")
    with pytest.raises(
        ModelError, match=r"shares \d+ of the target's 320 tokens, which make 0 % of ordinary"
    ) as caught:
        session_for((pair[0], draft), *overrides)
    assert "draft.vocabulary=text" in caught.value.hint
    session = session_for((pair[0], draft), *overrides, "draft.vocabulary=text")
    assert collect(session, Prompt(0, QUESTION))[0].text == collect(session_for(pair), Prompt(0, QUESTION))[0].text


def test_an_open_session_takes_a_draft_of_another_tokenizer_and_another_temperature(
    pair: tuple[Path, Path], tmp_path: Path
) -> None:
    draft = sentence_piece(tiny_checkpoint(tmp_path / "draft", num_hidden_layers=1, vocab_size=500))
    session = session_for(pair, "draft.kind=none")
    plain = collect(session, Prompt(0, QUESTION))[0].text
    assert session.info.vocabulary is None
    drafting = drafted_by((pair[0], draft), "model")
    for temperature, way in ((0, "text"), (1, "shared")):
        more = [*drafting, f"sampling.temperature={temperature}"]
        session.change(load_config(None, settings(pair, *more)))
        assert session.info.vocabulary is not None and session.info.vocabulary["way"] == way
        text = collect(session, Prompt(0, QUESTION))[0].text
        assert temperature or text == plain
    session.change(load_config(None, settings(pair, "draft.kind=ngram")))
    assert session.info.vocabulary is None


def test_padded_vocabularies_of_unequal_size_are_fine(pair: tuple[Path, Path], tmp_path: Path) -> None:
    plain = collect(session_for(pair), Prompt(0, QUESTION))[0].text
    for size in (384, 352):
        draft = tiny_checkpoint(tmp_path / str(size), num_hidden_layers=1, vocab_size=size)
        tiny_tokenizer(draft)
        session = session_for((pair[0], draft), *drafted_by((pair[0], draft), "model"))
        assert collect(session, Prompt(0, QUESTION))[0].text == plain


def test_prompts_that_cannot_run_are_refused_before_the_first_step(pair: tuple[Path, Path]) -> None:
    session = session_for(pair)
    with pytest.raises(InputError, match="context"):
        next(session.stream([Prompt(0, QUESTION), Prompt(1, "fox " * 400)]))
    with pytest.raises(InputError, match="empty"):
        next(session.stream([Prompt(0, "")]))
    assert session.engine.idle
    small = open_session(load_config(None, settings(pair, "cache.blocks=1")))
    with pytest.raises(MemoryLimitError, match=r"cache has 1 blocks"):
        next(small.stream([Prompt(0, QUESTION)]))


def test_prompts_are_refused_before_any_weight_is_read(
    pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*arguments: object) -> None:
        raise AssertionError("weights were read")

    monkeypatch.setattr("helix_cli.assembly.ModelOpener.open", load)
    config = load_config(None, settings(pair))
    with pytest.raises(InputError, match=r"^The prompt has"):
        open_session(config, [Prompt(0, "fox " * 400)])
    with pytest.raises(InputError, match=r"^Prompt 2: The prompt has"):
        open_session(config, [Prompt(0, QUESTION), Prompt(1, "fox " * 400)])


def test_a_checkpoints_own_sampling_keeps_to_the_ranges(tmp_path: Path) -> None:
    target = tiny_checkpoint(tmp_path / "odd")
    tiny_tokenizer(target)
    (target / "generation_config.json").write_text(json.dumps({"do_sample": True, "temperature": -1.0}))
    with pytest.raises(ModelError, match=r"temperature -1\.0"):
        session_for((target, target))


def test_tokenised_requests_run_without_text(pair: tuple[Path, Path]) -> None:
    session = session_for(pair, *drafted_by(pair, "model"))
    [event] = collect(session, Prompt(0, QUESTION))
    request = session.request(Prompt(0, QUESTION))
    first, second = session.run([request, request])
    assert first.tokens[first.prompt_len :] == second.tokens[second.prompt_len :] == list(event.token_ids)
    assert len(first.trace.round_times) == len(first.trace.drafted) > 0
    assert sum(times[1] for times in first.trace.round_times) <= first.trace.target_s
    session.check()


def test_an_interrupted_run_leaves_nothing_behind(pair: tuple[Path, Path]) -> None:
    session = session_for(pair)
    request = session.request(Prompt(0, QUESTION))
    session.interrupt()
    with pytest.raises(Interrupted):
        session.run([request, request])
    assert session.engine.idle
    session.check()
    assert len(session.run([request])) == 1


@pytest.mark.parametrize("how", ["cache.persist=true", "cache.prompt_cache=notes"])
@pytest.mark.parametrize("drafter", ["model", "early_exit", "ngram"])
def test_a_second_start_finds_the_prompt(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drafter: str, how: str
) -> None:
    monkeypatch.setenv("HELIX_CACHE_DIR", str(tmp_path))
    prompt = Prompt(0, QUESTION * 4)
    chosen = [*drafted_by(pair, drafter), "cache.block_size=4"]
    texts = []
    for reused in (False, True):
        session = open_session(load_config(None, settings(pair, *chosen, how)), [prompt])
        [event] = collect(session, prompt)
        assert bool(event.stats.num_reused_tokens) == reused
        assert session.keep(prompt) == []
        session.check()
        texts.append(event.token_ids)
    [other] = collect(open_session(load_config(None, settings(pair, *chosen)), [prompt]), prompt)
    assert texts == [other.token_ids] * 2 and not other.stats.num_reused_tokens
    assert open_session(load_config(None, settings(pair, *chosen)), [prompt]).keep(prompt) == []


def test_prompts_on_disk_need_prefix_reuse(pair: tuple[Path, Path]) -> None:
    for how in ("cache.persist=true", "cache.prompt_cache=notes"):
        with pytest.raises(ConfigError, match="without cache"):
            session_for(pair, how, "cache.prefix_reuse=false")
