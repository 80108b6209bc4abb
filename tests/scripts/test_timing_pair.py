"""The timing pair: text without loops, a draft that is the target's beginning, and the acceptance asked for."""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen3Config

from helix_cli.config import load_config
from helix_cli.core import FinishedEvent
from helix_cli.prompt import Prompt
from helix_cli.session import open_session
from helix_cli.tokenizer import Tokenizer
from scripts import make_timing_pair, timing_acceptance
from scripts import timing_tokenizer as words
from scripts import timing_weights as weights
from scripts.demo_report import repeated_share
from scripts.timing_prompts import PROMPTS

SMALL = weights.SHAPES["small"]
QWEN = Qwen3Config(
    vocab_size=1024,
    hidden_size=128,
    intermediate_size=384,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=64,
    max_position_embeddings=512,
    rope_parameters={"rope_type": "default", "rope_theta": 1000000.0},
    tie_word_embeddings=True,
    **weights.SPECIAL,
)
MODELS = {"llama": SMALL, "qwen3": QWEN}
TEXTS = (
    "The lighthouse keeper climbed the stairs.",
    "Two  spaces, a\nnew line, 1234 and naïve ☃ 漢字 🦀!",
    "x",
)


@pytest.fixture(scope="module", params=MODELS)
def target(request: pytest.FixtureRequest) -> Any:
    """A target of each family, its later layers at full strength."""
    return weights.new_target(MODELS[request.param], seed=0)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small pair as the command writes it."""
    out = tmp_path_factory.mktemp("pair")
    make("--shape", "small", "--accept", "0.6", "--tokens", "64", str(out))
    return out


def make(*arguments: str) -> None:
    """Run the command; it exits with 1 where a pair misses what was asked for, which the tests look at themselves."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["make_timing_pair", *arguments])
        with pytest.raises(SystemExit):
            make_timing_pair.main()


def greedy(model: Any, tokens: int, prompts: int = 8) -> list[list[int]]:
    """Continue random prompts."""
    starts = torch.randint(words.FIRST_WORD_PIECE, 1024, (prompts, 8), generator=torch.Generator().manual_seed(1))
    out = model.generate(
        starts, attention_mask=torch.ones_like(starts), do_sample=False, min_new_tokens=tokens, max_new_tokens=tokens
    )
    texts: list[list[int]] = out[:, 8:].tolist()
    return texts


@pytest.mark.parametrize("size", [400, 1024, 5000])
def test_a_vocabulary_has_the_size_asked_for_and_no_entry_twice(size: int) -> None:
    pieces = words.vocabulary(size)
    assert len(set(pieces)) == len(pieces) == size
    assert all(piece.isprintable() for piece in pieces[words.FIRST_WORD_PIECE :])


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_every_reader_gives_the_same_tokens_and_any_text_comes_back(tmp_path: Path, family: str) -> None:
    words.write_tokenizer(tmp_path, 5000, 512)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": family}))
    theirs, ours = AutoTokenizer.from_pretrained(tmp_path), Tokenizer(tmp_path)
    assert len(theirs) == 5000
    for text in TEXTS:
        ids = theirs(text)["input_ids"]
        assert ids == ours.encode(text)
        assert ids[0] == SMALL.bos_token_id
        assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=True) == text
    assert len(ours.encode(TEXTS[0])) < 0.7 * len(TEXTS[0])


def fields(content: bytes) -> Iterator[tuple[int, Any]]:
    """Read a protocol buffer: numbers of fields with their bytes or integers."""
    place = 0

    def varint() -> int:
        nonlocal place
        value = shift = 0
        while True:
            byte = content[place]
            place, value, shift = place + 1, value | (byte & 127) << shift, shift + 7
            if byte < 128:
                return value

    while place < len(content):
        number, kind = divmod(varint(), 8)
        if kind == 0:
            yield number, varint()
        else:
            length = varint() if kind == 2 else 4
            yield number, content[place : place + length]
            place += length


def test_the_sentencepiece_model_lists_the_same_pieces() -> None:
    pieces = words.vocabulary(1024)
    model = list(fields(words.sentencepiece_model(pieces)))
    entries = [dict(fields(value)) for number, value in model if number == 1]
    assert [entry[1].decode() for entry in entries] == pieces
    assert Counter(entry[3] for entry in entries) == {1: 1024 - 259, 2: 1, 3: 2, 6: 256}
    assert [dict(fields(value)) for number, value in model if number == 2] == [{3: 2, 4: 1024, 35: 1}]


def test_acceptance_is_counted_along_rounds() -> None:
    yes, no = True, False
    count = timing_acceptance.accepted_share
    assert count([[yes, yes, no, yes, no, no, yes]], k=2) == 3 / 6
    assert count([[yes] * 9], k=4) == 1
    assert count([[no] * 4, [yes] * 4], k=4) == 4 / 8


@pytest.mark.parametrize(("accept", "k"), [(0.72, 4), (0.3, 1), (0.9, 8)])
def test_the_agreement_behind_an_acceptance(accept: float, k: int) -> None:
    agreement = timing_acceptance.agreement_for(accept, k)
    assert sum(agreement**i for i in range(1, k + 1)) / k == pytest.approx(accept)


def test_a_correction_points_the_right_way_and_is_bounded() -> None:
    correct = timing_acceptance.correction
    assert correct(0.7, 0.7, 4) == pytest.approx(1)
    assert 1 < correct(0.7, 0.8, 4) < 4
    assert 0.25 < correct(0.8, 0.7, 4) < 1
    assert correct(0.5, 1.0, 4) == 4
    assert correct(0.999, 0.1, 4) == 0.25


def test_a_seed_decides_the_weights() -> None:
    first, again, other = (weights.new_target(SMALL, seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first if first[name].dim() == 2)


@torch.no_grad()
def test_the_next_token_hangs_on_the_last_four_only(target: Any) -> None:
    """More than one, so that text does not turn in circles; no more, so that long contexts change nothing."""
    draft = weights.draft_of(target, 1)
    generator = torch.Generator().manual_seed(2)
    rows = torch.randint(words.FIRST_WORD_PIECE, 1024, (64, 40), generator=generator)
    before = draft(rows).logits[:, -1].argmax(-1)
    changed = []
    for back in range(1, 16):
        other = rows.clone()
        other[:, -back] = torch.randint(words.FIRST_WORD_PIECE, 1024, (64,), generator=generator)
        changed.append((draft(other).logits[:, -1].argmax(-1) != before).float().mean().item())
    assert min(changed[:4]) > 0.25
    assert max(changed[8:]) < 0.1


@torch.no_grad()
def test_greedy_text_is_varied_and_has_no_end(target: Any) -> None:
    texts = greedy(target, 96)
    assert sum(repeated_share(text) for text in texts) / len(texts) < 0.2
    assert len({token for text in texts for token in text}) > 100
    assert all(token >= words.FIRST_WORD_PIECE for text in texts for token in text)


@torch.no_grad()
def test_stronger_later_layers_lower_the_acceptance(target: Any) -> None:
    texts = timing_acceptance.draft_texts(weights.draft_of(target, 1), seed=0)
    found = []
    weights.strengthen(target, 1e-4)
    for factor in (1.0, 1e4, 4.0):
        weights.strengthen(target, factor)
        found.append(timing_acceptance.estimate(target, texts, k=4))
    weights.strengthen(target, 0.25)
    assert found[0] == 1
    assert found[0] > found[1] > found[2] > 0


@torch.no_grad()
def test_a_draft_is_the_beginning_of_its_target(target: Any) -> None:
    """Its logits are those of the target once the later layers add nothing."""
    draft = weights.draft_of(target, 2)
    assert len(draft.model.layers) == 2
    rows = torch.arange(300, 340)[None]
    kept = target.model.layers
    target.model.layers = kept[:2]
    shortened = target(rows, use_cache=False).logits
    target.model.layers = kept
    assert torch.equal(draft(rows).logits, shortened)
    assert draft.model.layers[1].mlp.down_proj.weight.data_ptr() == kept[1].mlp.down_proj.weight.data_ptr()


def test_the_command_writes_a_pair_that_accepts_what_was_asked_for(pair: Path) -> None:
    facts = json.loads((pair / "timing_pair.json").read_text())
    found = facts["measured"]["float32"]
    assert found["acceptance"] == pytest.approx(0.6, abs=0.05)
    assert 0.3 < found["lowest_of_a_prompt"] < found["acceptance"] < found["highest_of_a_prompt"] < 0.9
    assert found["repeated_4_grams"] < 0.1
    assert (facts["shape"], facts["k"], facts["requested_acceptance"]) == ("small", 4, 0.6)
    for name, layers in (("target", SMALL.num_hidden_layers), ("draft", 1)):
        model: Any = AutoModelForCausalLM.from_pretrained(pair / name)
        assert (model.dtype, model.config.num_hidden_layers) == (torch.bfloat16, layers)
        assert model.num_parameters() == facts["parameters"][name]


def test_an_early_exit_drafts_what_the_draft_does(pair: Path) -> None:
    """The draft is the target's first layer, so both drafters must count alike, and write what no drafter writes."""
    drafters = {
        "draft": ["draft.kind=model", f"draft.path={pair / 'draft'}", "draft.weights=float32", "draft.dtype=float32"],
        "early exit": ["draft.kind=early_exit", "draft.layers=1"],
    }
    drafters = {name: [*settings, "draft.k=4"] for name, settings in drafters.items()} | {"none": ["draft.kind=none"]}
    fixed = [f"model.path={pair / 'target'}", "model.dtype=float32", "model.weights=float32"]
    fixed += ["sampling.temperature=0", "sampling.max_tokens=48"]
    done: dict[str, list[FinishedEvent]] = {}
    for name, settings in drafters.items():
        session = open_session(load_config(None, [*fixed, *settings]))
        events = session.stream([Prompt(place, text) for place, text in enumerate(PROMPTS[:4])])
        finished = [event for event in events if isinstance(event, FinishedEvent)]
        done[name] = sorted(finished, key=lambda event: event.index)
    texts = {name: [event.token_ids for event in events] for name, events in done.items()}
    counts = {name: [event.stats.num_accepted for event in events] for name, events in done.items()}
    assert texts["draft"] == texts["early exit"] == texts["none"]
    assert counts["draft"] == counts["early exit"]
    assert sum(counts["draft"]) > 40


@pytest.mark.parametrize("wrong", [["--accept", "1"], ["--draft-layers", "4"]])
def test_what_cannot_be_made_is_refused_at_once(
    wrong: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["make_timing_pair", str(tmp_path / "pair"), "--shape", "small", *wrong])
    with pytest.raises(SystemExit) as caught:
        make_timing_pair.main()
    assert caught.value.code == 2
    assert not (tmp_path / "pair").exists()
