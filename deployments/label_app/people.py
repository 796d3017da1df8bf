"""Who does something, and what they may do."""

from __future__ import annotations

import getpass
from dataclasses import dataclass

from deployments.label_app.tables import NAME_LENGTH

ROLES = ("viewer", "labeller", "admin")
"""Each may do what those before it may: look; search and label; start runs."""


@dataclass(frozen=True)
class Person:
    """Somebody with a role, one of ROLES."""

    name: str
    role: str

    def may(self, role: str) -> bool:
        """Whether they may do what `role` may."""
        return ROLES.index(self.role) >= ROLES.index(role)


def local_person() -> Person:
    """Whoever works on this machine, where nobody signs in."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        name = "local"
    return Person(name[:NAME_LENGTH], "admin")
