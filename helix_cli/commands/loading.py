"""Opens a session for a command, with a sign of life while the models load."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from helix_cli.phases import Phases
from helix_cli.ui.console import notice
from helix_cli.ui.progress import working

if TYPE_CHECKING:
    from helix_cli.config import Config
    from helix_cli.prompt import Prompt
    from helix_cli.session import Session


def load_session(config: Config, prompts: Sequence[Prompt] = (), phases: Phases | None = None) -> Session:
    """A session for `config`. Importing it brings torch, so commands do that last; `phases` times the start."""
    phases = phases or Phases()
    with working(f"Loading {config.model.path}"):
        with garbage_ignored():
            from helix_cli.session import open_session
        phases.end("import")
        session = open_session(config, prompts, phases)
    for note in session.info.notes:
        notice(note)
    return session


@contextmanager
def garbage_ignored() -> Iterator[None]:
    """Inside, and for what was made inside, Python looks for no garbage, if torch is still to be imported.

    Its import makes some two hundred thousand objects that stay; searching them over and over is a tenth of its time.
    """
    if "torch" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
