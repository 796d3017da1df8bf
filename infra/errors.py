"""The one exception that reaches a user as a message and not as a traceback."""

from __future__ import annotations


class GalaxyError(Exception):
    """Something the user can mend: what happened, to which object or key, and what to do.

    The command line prints the message alone and exits with status 1; a flow run shows it as
    the reason of its failure.
    """
