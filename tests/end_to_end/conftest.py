"""One tiny survey run, shared by the tests that look at what it left."""

from __future__ import annotations

import pytest

from tests.end_to_end.home import Home, make_home


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home in which the whole chain has run undisturbed."""
    home = make_home(tmp_path_factory.mktemp("finished"))
    home.run()
    return home
