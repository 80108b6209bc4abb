"""Which tokens of two vocabularies say the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers, trainers

from helix_cli.tokenizer import Side, Tokenizer, pair
from helix_cli.tokenizer.contents import entries_by_content
from tests.tokenizer.samples import CORPUS, byte_level, declare, save, sentence_piece
from tests.tokenizer.test_difference import changed

TEXT = "The quick brown fox. Hello there! 12345"
LARGE = 10**6


def word_piece(folder: Path) -> Path:
    """A vocabulary of whole words and ends of words, as BERT has."""
    tokenizer = Backend(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(cleanup=False)
    tokenizer.train_from_iterator(CORPUS, trainers.WordPieceTrainer(vocab_size=200, special_tokens=["[UNK]"]))
    return save(tokenizer, folder)


KINDS: dict[str, Callable[[Path], Path]] = {
    "byte_level": byte_level,
    "sentence_piece": sentence_piece,
    "word_piece": word_piece,
}


@pytest.fixture(scope="module", params=KINDS)
def one(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """A tokenizer of each kind."""
    return Tokenizer(KINDS[request.param](tmp_path_factory.mktemp("one")))


def side(tokenizer: Tokenizer, size: int = LARGE, *eos_ids: int) -> Side:
    return Side(tokenizer, size, eos_ids)


def test_what_an_entry_says_is_its_text_in_company(one: Tokenizer) -> None:
    found = entries_by_content(one, LARGE)
    anchor = one.encode_rendered("a")
    before = one.decode(anchor, skip_special_tokens=False)
    assert len(found) > 100
    for content, id in found.items():
        assert id not in one.special_ids
        try:
            text = content.decode()
        except UnicodeDecodeError:
            continue  # part of a character, which has no text of its own
        assert one.decode([*anchor, id], skip_special_tokens=False) == before + text


def test_spaces_belong_to_what_is_said_however_they_are_spelled(tmp_path: Path) -> None:
    tokenizers = {kind: Tokenizer(make(tmp_path / kind)) for kind, make in KINDS.items()}
    spelled = {"byte_level": "Ġt", "sentence_piece": "▁t", "word_piece": "t"}
    for kind, entry in spelled.items():
        tokenizer = tokenizers[kind]
        assert tokenizer.token(entries_by_content(tokenizer, LARGE)[b" t"]) == entry
    assert tokenizers["word_piece"].token(entries_by_content(tokenizers["word_piece"], LARGE)[b"e"]) == "##e"


def test_bytes_of_a_fallback_give_way_to_text(tmp_path: Path) -> None:
    tokenizer = Tokenizer(sentence_piece(tmp_path))
    found = entries_by_content(tokenizer, LARGE)
    assert tokenizer.token(found[b"e"]) == "e" and tokenizer.token(found[b"\x00"]) == "<0x00>"


@pytest.mark.parametrize(("kind", "added"), [("byte_level", " t"), ("sentence_piece", "\N{REPLACEMENT CHARACTER}")])
def test_added_entries_that_say_nothing_new_change_nothing(kind: str, added: str, tmp_path: Path) -> None:
    """Of those that say the same the first counts; one that is a broken character may be any."""
    folder = KINDS[kind](tmp_path)
    before = entries_by_content(Tokenizer(folder), LARGE)
    backend = Backend.from_file(str(folder / "tokenizer.json"))
    assert backend.add_tokens([added]) == 1
    assert entries_by_content(Tokenizer(save(backend, folder)), LARGE) == before


def test_the_same_tokenizer_is_the_same(one: Tokenizer) -> None:
    found = pair(side(one, 300), side(one, 320), TEXT)
    assert (found.relation, found.coverage, found.difference, str(found)) == ("same", 1.0, None, "same")
    assert found.to_draft == {id: id for id in range(300)}


def test_other_ids_of_the_same_words_are_mapped(tmp_path: Path) -> None:
    (tmp_path / "original").mkdir()
    (tmp_path / "changed").mkdir()
    original = Tokenizer(byte_level(tmp_path / "original"))

    def reverse(content: dict[str, Any]) -> None:
        words = content["model"]["vocab"]
        content["model"]["vocab"] = {word: len(words) - 1 - id for word, id in words.items()}
        content["added_tokens"].pop()  # <think>

    other = changed(original, tmp_path / "changed", reverse)
    found = pair(side(original), side(other), TEXT)
    assert found.relation == "mapped" and found.coverage == 1.0
    assert found.difference is not None and found.difference.part == "vocabulary"
    for id, paired in found.to_draft.items():
        assert original.token(id) == other.token(paired)
    assert found.num_shared == found.draft_size == found.target_size - 1
    assert original.vocabulary()["<think>"] not in found.to_draft
    cut = pair(side(original, 200), side(other, 250), TEXT)
    assert cut.relation == "mapped" and max(cut.to_draft) < 200 and max(cut.to_draft.values()) < 250
    assert (cut.target_size, cut.draft_size) == (200, 250)


def test_other_ways_to_split_share_what_says_the_same(tmp_path: Path) -> None:
    target = Tokenizer(byte_level(tmp_path / "target"))
    draft = Tokenizer(sentence_piece(tmp_path / "draft"))
    found = pair(side(target), side(draft), TEXT)
    assert found.relation == "shared" and found.difference is not None
    assert len(set(found.to_draft.values())) == len(found.to_draft) >= 256
    named = {target.token(id): draft.token(paired) for id, paired in found.to_draft.items()}
    assert named["Ġt"] == "▁t" and named["e"] == "e" and named["ā"] == "<0x01>"
    assert 0.0 < found.coverage <= 1.0 and f"{found.num_shared} of {found.target_size}" in str(found)


def test_ids_that_a_model_has_no_rows_for_are_left_out(tmp_path: Path) -> None:
    target = Tokenizer(byte_level(tmp_path / "target"))
    draft = Tokenizer(sentence_piece(tmp_path / "draft"))
    found = pair(side(target, 100), side(draft, 200), TEXT)
    assert max(found.to_draft) < 100 and max(found.to_draft.values()) < 200
    assert (found.target_size, found.draft_size) == (100, 200)


def test_special_tokens_pair_by_text_then_by_the_part_they_play(tmp_path: Path) -> None:
    target = declare(byte_level(tmp_path / "target"), eos_token="<|im_end|>", bos_token="<|endoftext|>")
    draft = declare(sentence_piece(tmp_path / "draft"), "llama", tokenizer_class="LlamaTokenizer")
    mine, theirs = Tokenizer(target), Tokenizer(draft)
    found = pair(side(mine), side(theirs), TEXT)
    named = {mine.token(id): theirs.token(paired) for id, paired in found.to_draft.items() if id in mine.special_ids}
    assert named == {"<|im_end|>": "</s>", "<|endoftext|>": "<s>"}


def test_a_token_of_two_parts_ends_texts_and_has_one_partner(tmp_path: Path) -> None:
    """GPT-2's one special token begins and ends; a draft that stops matters more than one that begins."""
    both = Tokenizer(declare(byte_level(tmp_path / "one"), eos_token="<|endoftext|>", bos_token="<|endoftext|>"))
    apart = Tokenizer(declare(sentence_piece(tmp_path / "two"), "llama", tokenizer_class="LlamaTokenizer"))
    for mine, theirs, wanted in ((both, apart, ("<|endoftext|>", "</s>")), (apart, both, ("</s>", "<|endoftext|>"))):
        found = pair(side(mine), side(theirs), TEXT).to_draft
        special = [(mine.token(id), theirs.token(other)) for id, other in found.items() if id in mine.special_ids]
        assert special == [wanted]


def test_a_generation_config_may_name_the_ends(tmp_path: Path) -> None:
    """Chat models often end a turn with a token that their tokenizer does not call the end."""
    mine = Tokenizer(byte_level(tmp_path / "target"))
    content = json.loads((byte_level(tmp_path / "draft") / "tokenizer.json").read_text())
    for token in content["added_tokens"]:
        token["content"] = token["content"].replace("im_end", "eot").replace("im_start", "begin")
    (tmp_path / "draft" / "tokenizer.json").write_text(json.dumps(content))
    theirs = Tokenizer(tmp_path / "draft")
    ends = mine.vocabulary()["<|im_end|>"], theirs.vocabulary()["<|eot|>"]
    assert ends[0] not in pair(side(mine), side(theirs), TEXT).to_draft
    # Ends that have a partner already, and ends that are ordinary tokens, are passed over.
    for others in ((), (mine.vocabulary()["<|endoftext|>"],), (mine.vocabulary()["e"],)):
        found = pair(side(mine, LARGE, *others, ends[0]), side(theirs, LARGE, ends[1]), TEXT).to_draft
        assert found[ends[0]] == ends[1] and list(found.values()).count(ends[1]) == 1
