"""Writing the choice into a file of settings, and leaving the rest of it alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from helix_cli.bench.sweep.saving import check_target, save
from helix_cli.config import Config, load_config
from helix_cli.errors import ConfigError, InputError

FILE = """\
# My settings.
model:
  path: demo      # the small one
  exact: on

draft:
  kind: ngram     # copies
  # The longest ending that is looked up.
  ngram_max: 6    # six

# How texts are drawn.
sampling:
  max_tokens: 64  # enough
  stop: ["\\n\\n", 'x']
"""


def config(kind: str, k: int) -> Config:
    return load_config(None, [f"draft.kind={kind}", f"draft.k={k}"])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "x.yaml"
    path.write_text(FILE, encoding="utf-8")
    return path


def test_only_the_choice_changes(file: Path) -> None:
    save(file, config("ngram", 3))
    assert file.read_text() == FILE.replace("draft:\n", "draft:\n  k: 3\n")
    save(file, config("ngram", 5))
    assert file.read_text() == FILE.replace("draft:\n", "draft:\n  k: 5\n")


def test_another_drafter_takes_the_settings_of_the_old_one_away(file: Path) -> None:
    save(file, config("model", 4))
    written = file.read_text()
    assert load_config(file).draft == config("model", 4).draft
    assert "ngram" not in written and "six" not in written
    kept = ("# My settings.", "# the small one", "exact: on", "# copies", "# How texts are drawn.", "# enough", "'x'")
    assert all(comment in written for comment in kept), written
    assert written.index("# How texts are drawn.") < written.index("sampling:")


def test_depth_zero_keeps_the_drafter(file: Path) -> None:
    save(file, config("model", 0))
    assert file.read_text() == FILE.replace("draft:\n", "draft:\n  k: 0\n")
    file.write_text("draft:\n  kind: none # never\n")
    save(file, config("model", 0))
    assert file.read_text() == "draft:\n  kind: none # never\n"


def test_a_new_file_holds_the_choice(tmp_path: Path) -> None:
    file = tmp_path / "new.yaml"
    check_target(file, config("model", 4))
    save(file, config("model", 4))
    assert file.read_text() == "model:\n  path: demo\ndraft:\n  kind: model\n  path: demo\n  k: 4\n"
    assert os.listdir(tmp_path) == ["new.yaml"]


@pytest.mark.parametrize("content", ["", "# nothing yet\n", "draft:\n", "verify:\n  rule: token\n"])
def test_a_file_without_a_drafter_gets_one(file: Path, content: str) -> None:
    file.write_text(content)
    save(file, config("ngram", 2))
    assert (load_config(file).draft.kind, load_config(file).draft.k) == ("ngram", 2)
    assert content.strip() in file.read_text()


def test_permissions_and_links_stay(file: Path, tmp_path: Path) -> None:
    file.chmod(0o640)
    link = tmp_path / "link.yaml"
    link.symlink_to(file)
    save(link, config("ngram", 3))
    assert link.is_symlink() and load_config(file).draft.k == 3
    assert file.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("name", sorted(Path("configs").glob("*.yaml")), ids=lambda path: path.name)
def test_the_files_that_ship_keep_every_comment(name: Path, tmp_path: Path) -> None:
    before = name.read_text()
    copy = tmp_path / name.name
    copy.write_text(before)
    kind = load_config(copy).draft.kind
    target = load_config(copy, [f"draft.kind={kind}", "draft.k=7"])
    save(copy, target)
    changed = set(copy.read_text().splitlines()) ^ set(before.splitlines())
    assert all(" k:" in line or "path:" in line for line in changed), changed
    assert load_config(copy).draft.k == 7


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("draft: [", "does not parse as YAML"),
        ("draft:\n  kind: magic\n", "magic"),
        ("model:\n  path: ./other\n", "is for ./other, and what is measured is demo"),
    ],
)
def test_what_cannot_take_the_choice_is_refused_before(file: Path, content: str, message: str) -> None:
    file.write_text(content)
    with pytest.raises(ConfigError, match=message):
        check_target(file, config("model", 4))
    assert file.read_text() == content


def test_a_place_that_is_none_is_refused_before(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written"):
        check_target(tmp_path / "no" / "such.yaml", config("model", 4))


def test_a_failed_write_leaves_the_old_file(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*names: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("helix_cli.bench.sweep.saving.os.replace", full)
    with pytest.raises(OSError, match="no space"):
        save(file, config("ngram", 3))
    assert file.read_text() == FILE and os.listdir(tmp_path) == ["x.yaml"]
