"""The configuration: what is accepted, what is refused and in which words, and which drafter wins."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from helix_cli.config import SECTIONS, Config, load_config
from helix_cli.drafter_choice import DEMO, DRAFTERS_USING
from helix_cli.errors import ConfigError
from helix_cli.sections import DraftSection

CONFIGS = Path(__file__).parents[1] / "configs"


def write(folder: Path, text: str) -> Path:
    """A config file with this text."""
    file = folder / "config.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def test_defaults_are_what_the_demo_file_spells_out() -> None:
    demo = load_config(CONFIGS / "demo.yaml")
    assert demo.effective() == Config().effective() == load_config(None).effective()
    assert (demo.model.path, demo.draft.kind, demo.draft.path) == (DEMO, "model", DEMO)
    for name, section in SECTIONS.items():
        written = (CONFIGS / "demo.yaml").read_text(encoding="utf-8").partition(f"\n{name}:")[2].partition("\n\n")[0]
        assert [key for key in section.model_fields if f"{key}:" not in written] == []


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.yaml")), ids=lambda file: file.stem)
def test_every_shipped_config_loads_and_survives_a_round_trip(file: Path, tmp_path: Path) -> None:
    config = load_config(file)
    copy = tmp_path / "copy.yaml"
    copy.write_text(json.dumps(config.effective()), encoding="utf-8")
    assert load_config(copy).effective() == config.effective()
    assert file.read_text(encoding="utf-8").startswith("# ")


def test_effective_config_of_every_drafter_is_a_valid_config() -> None:
    for overrides in (
        ["draft.kind=none"],
        ["draft.kind=ngram"],
        ["draft.kind=early_exit"],
        ["draft.kind=auto"],
        ["cache.blocks=9"],
    ):
        config = load_config(None, overrides)
        assert Config.model_validate(config.effective()).effective() == config.effective()
        assert json.loads(json.dumps(config.effective())) == config.effective()


def test_every_setting_has_a_sentence_and_a_rule_for_drafters() -> None:
    for section in SECTIONS.values():
        for name, field in section.model_fields.items():
            assert field.description and field.description.endswith("."), name
    assert {*DRAFTERS_USING, "kind"} == set(DraftSection.model_fields)


def test_a_config_does_not_change() -> None:
    with pytest.raises(Exception, match="frozen"):
        Config().draft.k = 5


def test_file_and_overrides_together(tmp_path: Path) -> None:
    file = write(tmp_path, "draft:\n  k: 6\nsampling:\n  temperature: 1e-2\n  stop: ['a: b', \"\\n\"]\nengine:\n")
    config = load_config(file, ["draft.k=2", "sampling.top_p=1", "backend.device=cuda:1"])
    assert config.draft.k == 2 and config.draft.path == DEMO
    assert config.sampling.temperature == 0.01 and config.sampling.top_p == 1
    assert config.sampling.stop == ("a: b", "\n")
    assert config.backend.device == "cuda:1"


def test_an_empty_file_is_the_demo(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, "# nothing\n")).effective() == Config().effective()


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("draft:\n  kk: 3\n", "There is no setting draft.kk in FILE.", "Did you mean draft.k?"),
        ("k: 3\n", "There is no setting k in FILE.", "Did you mean draft.k?"),
        ("sampling:\n  temprature: 1\n", "no setting sampling.temprature", "Did you mean sampling.temperature?"),
        ("sampling:\n  block_size: 1\n", "no setting sampling.block_size", "Did you mean cache.block_size?"),
        ("zzz: 3\n", "There is no setting zzz in FILE.", "The sections are model, draft, sampling"),
        ("engine:\n  zzz: 3\n", "no setting engine.zzz", "The settings of engine are max_step_tokens, max_sequences."),
        ("draft: 4\n", "draft in FILE must be a section", "Its settings are kind, path"),
        ("- a\n", "FILE does not hold sections of settings.", "Write lines such as"),
        ("draft:\n  k: [\n", "FILE, line 3, column 1 does not parse as YAML", "Mend the YAML"),
        ("draft:\n  k: 1\n  k: 2\n", "FILE, line 3, column 3 does not parse as YAML: k is set twice.", "Mend"),
        ("a: \x01\n", "FILE does not parse as YAML: it holds a character", "Mend"),
        (
            "draft:\n  k: 99\n",
            "draft.k in FILE must be auto or a whole number from 0 to 64, not 99.",
            "draft.k: The most",
        ),
        ("draft:\n  k: true\n", "draft.k in FILE must be auto or a whole number from 0 to 64, not true.", "draft.k: "),
        ("draft:\n  kind: magic\n", "draft.kind in FILE must be one of none, ngram, model, early_exit", "draft.kind"),
        ("sampling:\n  top_p: 0\n", "must be a number above 0 and at most 1, not 0.", "sampling.top_p: "),
        ("sampling:\n  temperature: .nan\n", "must be a number of at least 0, not NaN.", "sampling.temperature: "),
        ("sampling:\n  stop: x\n", 'must be a list of texts that are not empty, not "x".', "sampling.stop: "),
        ("sampling:\n  ignore_eos: 1\n", "must be true or false, not 1.", "sampling.ignore_eos: "),
        ("cache:\n  block_size: 24\n", "must be one of 1, 2, 4, 8, 16, 32, 64, 128, 256, not 24.", "cache.block"),
        ("cache:\n  memory_share: 1\n", "must be a number above 0 and at most 0.95, not 1.", "cache.memory_share"),
        ("backend:\n  device: gpu\n", "must be auto, cpu, cuda, mps or directml", "backend.device: "),
        ("model:\n  path: 7\n", "model.path in FILE must be a text that is not empty, not 7.", "model.path: "),
    ],
)
def test_mistakes_in_a_file(tmp_path: Path, text: str, message: str, hint: str) -> None:
    file = write(tmp_path, text)
    with pytest.raises(ConfigError) as error:
        load_config(file)
    assert message.replace("FILE", str(file)) in error.value.message
    assert error.value.hint.startswith(hint)
    assert "\n" not in error.value.message + error.value.hint
    assert "pydantic" not in error.value.message


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_config(tmp_path / "missing.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"model:\n  path: \xe9\n")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_config(tmp_path / "latin.yaml")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["draft.k"], "'draft.k' does not set anything."),
        (["k=3"], "There is no setting k."),
        (["=3"], "There is no setting ."),
        (["draft.k=[3"], "The value of draft.k, line 1, column 3 does not parse as YAML"),
        (["draft.k=3", "draft.k=4"], "draft.k is given twice, as 3 and as 4."),
        (["draft.k=65"], "draft.k must be auto or a whole number from 0 to 64, not 65."),
        (["model.path="], "model.path must be a text that is not empty, not null."),
        (["draft.kind=none", "draft.path=x"], "draft.path cannot take effect with drafter none."),
        (["draft.kind=none", "draft.k=3"], "draft.k cannot take effect with drafter none."),
        (["draft.kind=ngram", "draft.path=x"], "draft.path cannot take effect with drafter ngram."),
        (["draft.kind=ngram", "draft.dtype=float32"], "draft.dtype cannot take effect with drafter ngram."),
        (["draft.kind=early_exit", "draft.path=x"], "draft.path cannot take effect with drafter early_exit."),
        (["draft.layers=2"], "draft.layers cannot take effect with drafter model."),
        (["draft.ngram_max=5"], "draft.ngram_max cannot take effect with drafter model."),
        (["draft.kind=ngram", "draft.ngram_min=9"], "draft.ngram_min is 9 but draft.ngram_max is 8."),
        (["model.path=x", "draft.kind=model"], "Drafter model needs a draft model."),
        (["model.path=x", "draft.kind=auto"], "Drafter auto needs a draft model."),
        (["draft.kind=none", "draft.k=auto"], "draft.k cannot take effect with drafter none."),
        (["draft.k=-1"], "draft.k must be auto or a whole number from 0 to 64, not -1."),
        (["draft.k=deep"], 'draft.k must be auto or a whole number from 0 to 64, not "deep".'),
        (["draft.k=2.5"], "draft.k must be auto or a whole number from 0 to 64, not 2.5."),
        (["draft.kind=auto", "draft.layers=2"], "draft.layers cannot take effect with drafter auto."),
        (["verify.rule=greedy", "sampling.temperature=0.5"], "Rule greedy cannot work at temperature 0.5."),
        (["cache.blocks=9", "cache.memory_share=0.2"], "cache.memory_share cannot take effect"),
        (["engine.max_step_tokens=20", "draft.k=20"], "A step of 20 tokens cannot check 20 drafted ones."),
        (["engine.max_step_tokens=16"], "A step of 16 tokens has no room for 16 texts and a prompt."),
    ],
)
def test_overrides_that_cannot_take_effect(overrides: list[str], message: str) -> None:
    notes: list[str] = []
    with pytest.raises(ConfigError) as error:
        load_config(None, overrides, notes.append)
    assert message in error.value.message
    assert error.value.hint and not notes


@pytest.mark.parametrize("overrides", [["draft.k=3", "draft.k=3"], ["draft.kind=none", "engine.max_step_tokens=17"]])
def test_overrides_that_do_no_harm(overrides: list[str]) -> None:
    assert load_config(None, overrides)


FILE_WITH_A_DRAFT = "model: {path: org/target}\ndraft: {kind: model, path: org/draft, dtype: float32, k: 7}\n"


@pytest.mark.parametrize(
    ("overrides", "draft", "num_notes"),
    [
        (
            [],
            {"kind": "model", "path": "org/draft", "dtype": "float32", "weights": "auto", "vocabulary": "auto", "k": 7},
            0,
        ),
        (
            ["draft.k=2"],
            {"kind": "model", "path": "org/draft", "dtype": "float32", "weights": "auto", "vocabulary": "auto", "k": 2},
            0,
        ),
        (
            ["draft.path=x"],
            {"kind": "model", "path": "x", "dtype": "float32", "weights": "auto", "vocabulary": "auto", "k": 7},
            0,
        ),
        (["draft.kind=none"], {"kind": "none"}, 0),
        (["draft.kind=early_exit"], {"kind": "early_exit", "k": 7, "layers": None}, 0),
        (
            ["model.path=org/target"],
            {"kind": "model", "path": "org/draft", "dtype": "float32", "weights": "auto", "vocabulary": "auto", "k": 7},
            0,
        ),
        (["model.path=other"], {"kind": "ngram", "k": 7, "ngram_max": 8, "ngram_min": 2}, 1),
        (["model.path=other", "draft.kind=none"], {"kind": "none"}, 0),
        (
            ["model.path=other", "draft.path=x"],
            {"kind": "model", "path": "x", "dtype": "float32", "weights": "auto", "vocabulary": "auto", "k": 7},
            0,
        ),
        (
            ["model.path=demo"],
            {"kind": "model", "path": DEMO, "dtype": "float32", "weights": "auto", "vocabulary": "auto", "k": 7},
            0,
        ),
    ],
)
def test_command_line_replaces_the_drafter_of_a_file(
    tmp_path: Path, overrides: list[str], draft: dict[str, object], num_notes: int
) -> None:
    notes: list[str] = []
    config = load_config(write(tmp_path, FILE_WITH_A_DRAFT), overrides, notes.append)
    assert config.effective()["draft"] == draft
    assert len(notes) == num_notes


def test_a_foreign_target_does_not_keep_the_demo_draft(tmp_path: Path) -> None:
    notes: list[str] = []
    assert load_config(None, ["model.path=org/target"], notes.append).draft.kind == "ngram"
    assert notes == ["No draft model was given for org/target, so n-grams of the text itself propose tokens."]
    assert load_config(write(tmp_path, "model: {path: org/target}\n")).draft.kind == "ngram"
    assert load_config(write(tmp_path, "draft: {path: org/draft}\n")).draft.kind == "model"
    with pytest.raises(ConfigError, match="needs a draft model"):
        load_config(write(tmp_path, "model: {path: org/target}\ndraft: {kind: model}\n"))


def test_a_target_keeps_a_drafter_that_is_not_a_model(tmp_path: Path) -> None:
    file = write(tmp_path, "model: {path: a}\ndraft: {kind: early_exit, layers: 2}\n")
    notes: list[str] = []
    assert load_config(file, ["model.path=b"], notes.append).draft.layers == 2
    assert not notes


def test_configuration_imports_no_torch() -> None:
    code = "import sys, helix_cli.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
