"""transformers without its progress bars and warnings: what is wrong is found out here, and said in one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

LONGEST = 160
"""Characters of somebody else's message that are shown."""


@contextmanager
def quiet() -> Iterator[None]:
    """While it lasts, transformers says nothing."""
    from transformers.utils import logging as told

    logging: Any = told
    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()


def briefly(error: BaseException) -> str:
    """An error's message in one line without its full stop; transformers' go on for pages."""
    text = " ".join(str(error).split()) or type(error).__name__
    return (text if len(text) <= LONGEST else f"{text[:LONGEST].rsplit(' ', 1)[0]} ...").rstrip(".:")
