"""What a drafter makes of a vocabulary that is not its target's: contexts, laws, and proposals in the target's ids."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from helix_cli.cache.table import BlockTable
from helix_cli.core import Draft, SamplingParams, Sequence, Wanted
from helix_cli.draft.vocabulary import ByText, SameIds, SharedTokens
from helix_cli.engine.engine import EMPTY_DRAFT
from helix_cli.sampling import probabilities
from helix_cli.stats import Trace
from helix_cli.tokenizer import Side, Tokenizer
from helix_cli.tokenizer import pair as pair_up
from helix_cli.verify import RULES
from tests.harness import EOS, SMALL, build, requests
from tests.pairs import WAYS, Pair, draft_tokenizer, target_tokenizer, tiny_pair
from tests.tokenizer.samples import byte_level, declare, sentence_piece

V = SMALL["vocab_size"]


def sequence(tokens: list[int], rule: str = "token", **params: Any) -> Sequence:
    """A sequence that is decoding."""
    sampling = SamplingParams(**({"temperature": 1.0, "ignore_eos": True} | params))
    return Sequence(0, tokens, 1, sampling, 0, 0, 0, RULES[rule], BlockTable(), Trace(1, 4, 0.0))


def ids(pair: Pair, *words: str) -> list[int]:
    """Target ids of some entries."""
    return [pair.tokenizers()[0].vocabulary()[word] for word in words]


def test_a_vocabulary_of_another_size_is_cut_or_filled() -> None:
    logits = torch.arange(6.0).view(2, 3)
    assert SameIds(2, EOS).fit(logits).tolist() == [[0.0, 1.0], [3.0, 4.0]]
    assert SameIds(4, EOS).fit(logits).tolist() == [[0, 1, 2, -math.inf], [3, 4, 5, -math.inf]]


@pytest.mark.parametrize("way", ["mapped", "shared"])
def test_the_law_is_the_drafts_own_over_the_shared_tokens_renormalised(way: str) -> None:
    pair = tiny_pair(way)
    vocabulary = SharedTokens(*pair.tokenizers(), pair.pairing, V, EOS)
    logits = torch.randn(3, pair.draft.architecture.vocab_size, generator=torch.Generator().manual_seed(0))
    own, fitted = probabilities(logits), probabilities(vocabulary.fit(logits))
    assert fitted.shape == (3, V)
    kept = own[:, list(pair.pairing.to_draft.values())].sum(-1)
    for token in range(V):
        paired = pair.pairing.to_draft.get(token)
        wanted = torch.zeros(3) if paired is None else own[:, paired] / kept
        torch.testing.assert_close(fitted[:, token], wanted)
    if way == "shared":
        assert kept.max() < 1.0 and (fitted == 0.0).any(), "this pair is meant to have tokens that are not shared"


@pytest.mark.parametrize("way", ["mapped", "shared"])
def test_drafts_come_with_the_law_in_the_targets_ids(way: str) -> None:
    pair = tiny_pair(way)
    bench = build("model", target=pair.target, draft=pair.draft, vocabulary_of=pair.vocabulary_of(way))
    draft = bench.engine.drafter.propose([Wanted(sequence(ids(pair, "ab", "Ġ", "cd")), 4)])[0]
    assert draft.length == 4 and draft.probs is not None and draft.probs.shape == (4, V)
    torch.testing.assert_close(draft.probs.sum(-1), torch.ones(4))
    unshared = [token for token in range(V) if token not in pair.pairing.to_draft]
    assert float(draft.probs[:, unshared].sum()) == 0.0
    assert set(draft.tokens.tolist()) <= set(pair.pairing.to_draft)
    bench.engine.drafter.forget(0)


def test_ids_that_are_only_permuted_cost_nothing() -> None:
    """The target with its ids in another order, as its own draft: everything is accepted."""
    pair = tiny_pair("mapped", noise=0.0)
    cases: list[dict[str, Any]] = [
        {},
        {"temperature": 1.0, "seed": 3},
        {"temperature": 1.0, "top_p": 0.8, "repetition_penalty": 1.3},
    ]
    for params in cases:
        bench = build("model", 4, target=pair.target, draft=pair.draft, vocabulary_of=pair.vocabulary_of("mapped"))
        for outcome in bench.run(requests(3, max_tokens=21, ignore_eos=True, **params)):
            assert outcome.sequence.trace.accepted == outcome.sequence.trace.drafted == [4, 4, 4, 4]


@pytest.mark.parametrize("way", WAYS)
def test_drafts_do_not_depend_on_what_was_drafted_before(way: str) -> None:
    """The committed text may be told in other tokens than the draft once wrote: its cache must notice."""
    pair = tiny_pair(way)
    settings: dict[str, Any] = {"target": pair.target, "draft": pair.draft, "max_step_tokens": 128}
    lasting = build("model", **settings, vocabulary_of=pair.vocabulary_of(way)).engine.drafter
    one = sequence(ids(pair, "ab", "Ġ", "c", "d"))
    for num_accepted, words in ((0, "a"), (2, "b Ġ"), (4, "cd"), (1, "d a"), (3, "Ġa"), (0, "b c d"), (4, "Ġab")):
        proposed = lasting.propose([Wanted(one, 4)]).get(0, EMPTY_DRAFT)
        fresh = build("model", **settings, vocabulary_of=pair.vocabulary_of(way)).engine.drafter
        again = fresh.propose([Wanted(one, 4)]).get(0, EMPTY_DRAFT)
        assert proposed.tokens.tolist() == again.tokens.tolist()
        if way != "text":
            assert proposed.probs is not None and again.probs is not None
            # The law shows what the cache holds; the drawn token alone may hide a stale position.
            torch.testing.assert_close(proposed.probs, again.probs, atol=1e-5, rtol=1e-4)
        lasting.check()  # type: ignore[attr-defined]
        one.tokens += [*proposed.tokens[:num_accepted].tolist(), *ids(pair, *words.split())]


def test_text_is_proposed_in_the_targets_tokens_and_joined_to_what_is_committed() -> None:
    pair = tiny_pair("text")
    target, draft = pair.tokenizers()
    vocabulary = ByText(target, draft, pair.pairing, V, EOS)
    one = sequence(ids(pair, "ab", "Ġ"), temperature=0.0)
    reading = vocabulary.read(one)
    assert reading is not None and draft.decode(reading.tokens) == "ab "
    assert vocabulary.prefix(one, reading) == reading.tokens, "what is drawn is penalised in the draft's own ids"

    def proposed(*words: str) -> list[str | None]:
        drawn = [draft.vocabulary()[word] for word in words]
        found = vocabulary.proposal(one, reading, drawn)
        assert found is not None
        return [target.token(token) for token in found]

    # "Ġ" is committed, so the word after it has no space of its own.
    assert proposed("c", "d", "▁ab") == ["cd", "Ġab"]
    assert proposed("bcd", "</s>") == ["b", "cd", "<end>"], "an end that the draft writes is the target's"
    assert vocabulary.ends(one, draft.vocabulary()["</s>"]) and not vocabulary.ends(one, draft.vocabulary()["c"])


def by_text(target: Path, draft: Path) -> tuple[ByText, Tokenizer, Tokenizer]:
    """The way between two checkpoints' tokenizers, whose texts end as they declare."""
    mine, theirs = Tokenizer(target), Tokenizer(draft)
    ends = frozenset({mine.vocabulary()[mine.special_tokens["eos_token"]]})
    pairing = pair_up(Side(mine, 1000), Side(theirs, 1000), "ab")
    return ByText(mine, theirs, pairing, 1000, ends), mine, theirs


def test_a_proposal_goes_on_where_a_target_marks_the_beginning_of_a_text(tmp_path: Path) -> None:
    """Neither tokenizer may take the proposed text for a text of its own, be there one committed token or many."""
    (tmp_path / "words").mkdir()
    (tmp_path / "bytes").mkdir()
    words, plain = draft_tokenizer(tmp_path / "words"), target_tokenizer(tmp_path / "bytes")
    for num_committed in (1, 20):
        vocabulary, target, draft = by_text(words, plain)
        one = sequence([target.vocabulary()["▁ab"]] * num_committed)
        reading = vocabulary.read(one)
        assert reading is not None
        for word, wanted in (("cd", "cd"), ("Ġab", "▁ab")):
            assert vocabulary.proposal(one, reading, [draft.vocabulary()[word]]) == [target.vocabulary()[wanted]]
    vocabulary, target, draft = by_text(plain, words)
    one = sequence([target.vocabulary()["ab"]])
    reading = vocabulary.read(one)
    assert reading is not None
    assert vocabulary.proposal(one, reading, [draft.vocabulary()["▁ab"]]) == [target.vocabulary()["Ġab"]]


def bytes_and_pieces(folder: Path) -> tuple[ByText, Tokenizer, Tokenizer]:
    """A target of bytes, and a draft of pieces with an entry for each byte."""
    return by_text(
        declare(byte_level(folder / "target"), eos_token="<|im_end|>"),
        declare(sentence_piece(folder / "draft"), "llama", tokenizer_class="LlamaTokenizer"),
    )


def test_what_cannot_be_told_is_not_read(tmp_path: Path) -> None:
    """A part of a character, and a beginning alone for a draft that begins texts with nothing."""
    vocabulary, target, _ = bytes_and_pieces(tmp_path)
    tokens = target.encode("a\N{BUG}")
    assert vocabulary.read(sequence(tokens[:-1])) is None and vocabulary.read(sequence(tokens)) is not None
    (tmp_path / "words").mkdir()
    (tmp_path / "bytes").mkdir()
    other, target, _ = by_text(draft_tokenizer(tmp_path / "words"), target_tokenizer(tmp_path / "bytes"))
    assert other.read(sequence(list(target.leading_ids))) is None


def test_an_end_comes_after_whole_characters_and_nothing_after_it(tmp_path: Path) -> None:
    vocabulary, target, draft = bytes_and_pieces(tmp_path)
    one, ids, (end,) = sequence(target.encode("Hello")), draft.vocabulary(), vocabulary.eos_ids
    reading = vocabulary.read(one)
    assert reading is not None
    assert vocabulary.proposal(one, reading, [ids["e"], ids["</s>"]]) == [target.vocabulary()["e"], end]
    assert vocabulary.proposal(one, reading, [ids["<0xF0>"], ids["</s>"]]) == []
    spelled = vocabulary.proposal(one, reading, draft.encode_rendered("<|im_end|>The"))
    assert spelled == [*target.encode_rendered(" "), end], "the letters of an end are one to the target"


def test_what_is_proposed_as_text_is_the_likeliest_whatever_is_asked_for() -> None:
    pair = tiny_pair("text")
    bench = build("model", target=pair.target, draft=pair.draft, vocabulary_of=pair.vocabulary_of("text"))
    drafter, committed = bench.engine.drafter, ids(pair, "ab", "Ġ", "cd")
    drafts: list[Draft] = []
    for rule in RULES:
        drafts += drafter.propose([Wanted(sequence(committed, rule, temperature=5.0), 4)]).values()
        drafter.forget(0)
    drafts += drafter.propose([Wanted(sequence(committed, temperature=0.0), 4)]).values()
    assert len({tuple(one.tokens.tolist()) for one in drafts}) == 1 and all(one.probs is None for one in drafts)


def test_rows_of_the_draft_that_are_no_tokens_are_not_written() -> None:
    """Checkpoints pad their embeddings."""
    pair = tiny_pair("text")
    target, draft = pair.tokenizers()
    logits = torch.arange(len(draft.vocabulary()) + 3.0)[None]
    assert torch.equal(ByText(target, draft, pair.pairing, V, EOS).fit(logits), logits[:, :-3])


@pytest.mark.parametrize(("way", "num_open"), [("mapped", 0), ("shared", 3)])
def test_what_will_not_change_is_settled(way: str, num_open: int) -> None:
    """Mapped tokens at once, a text that is told anew not before it is long: what begins it is all until then."""
    pair = tiny_pair(way)
    reading = SharedTokens(*pair.tokenizers(), pair.pairing, V, EOS).read(sequence(ids(pair, "ab", "Ġ", "d")))
    assert reading is not None and len(reading.tokens) - reading.num_settled == num_open


@pytest.mark.parametrize("way", WAYS)
def test_a_drafted_end_is_the_targets(way: str) -> None:
    pair = tiny_pair(way)
    _, draft = pair.tokenizers()
    end = draft.vocabulary()["</s>" if way != "mapped" else "<end>"]
    assert pair.pairing.to_draft[2] == end
    bench = build("model", target=pair.target, draft=pair.draft, vocabulary_of=pair.vocabulary_of(way), num_blocks=400)
    bench.run(requests(16, max_tokens=12, temperature=3.0), "token")
    drafts = [one.draft.tokens.tolist() for output in bench.outputs for one in output.committed if one.draft]
    if way != "text":
        assert any(tokens and tokens[-1] == 2 for tokens in drafts), "no draft met an end"
    assert all(not EOS & set(tokens[:-1]) for tokens in drafts)


@pytest.mark.parametrize("way", WAYS)
def test_forgetting_leaves_nothing(way: str) -> None:
    pair = tiny_pair(way)
    bench = build("model", target=pair.target, draft=pair.draft, vocabulary_of=pair.vocabulary_of(way))
    drafter: Any = bench.engine.drafter
    one = sequence(ids(pair, "ab", "Ġ", "cd"))
    drafter.propose([Wanted(one, 4)])
    vocabulary = drafter.vocabulary_of(one)
    assert vocabulary._told
    for _ in range(2):
        drafter.forget(0)
    assert not vocabulary._told and not drafter._held and drafter.cache.pool.num_used == 0
