"""Group server: there is none yet, and this says so until there is."""

from __future__ import annotations

from importlib.util import find_spec

from helix_cli.checks.check import Check, Outcome, Skip, judged
from helix_cli.checks.subject import Subject

PACKAGE = "helix_cli.server"


def present(subject: Subject) -> Outcome:
    """A server that nothing here checks would be a gap."""
    if find_spec(PACKAGE) is None:
        raise Skip("Helix has no server yet.")
    return judged(False, "there is a server, and no check looks at it")


CHECKS = (Check("server.present", "A server, once there is one, is checked too.", present),)
