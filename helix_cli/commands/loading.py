"""Opens a session for a command, with a sign of life while the models load."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from helix_cli.ui.console import notice
from helix_cli.ui.progress import working

if TYPE_CHECKING:
    from helix_cli.config import Config
    from helix_cli.prompt import Prompt
    from helix_cli.session import Session


def load_session(config: Config, prompts: Sequence[Prompt] = ()) -> Session:
    """A session for `config`. Importing it brings torch, so commands do that last."""
    with working(f"Loading {config.model.path}"):
        from helix_cli.session import open_session

        session = open_session(config, prompts)
    for note in session.info.notes:
        notice(note)
    return session
