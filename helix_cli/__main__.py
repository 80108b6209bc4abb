"""`python -m helix_cli` and the console script `helix`. Nothing is imported before Ctrl-C is taken care of."""

import os
import signal
import sys
from types import FrameType

INTERRUPTED = 128 + signal.SIGINT


def main() -> None:
    """Run the program; it ends in SystemExit."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, leave)
    # A stream that the caller has closed is None; everything that writes would have to ask.
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - it lives as long as the program
    from helix_cli.phases import Phases, process_age
    from helix_cli.ui.console import debugging, notice

    phases = Phases(process_age(), notice if debugging() else None)
    phases.end("interpreter")
    from helix_cli.app import app

    phases.end("import")
    app(prog_name="helix", obj=phases)


def leave(number: int, frame: FrameType | None) -> None:
    """Ctrl-C while modules and models load: nothing to keep, and an exception inside torch's start would abort."""
    os.write(2, b"Interrupted.\n")
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    main()
