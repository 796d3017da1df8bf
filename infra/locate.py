"""Finds the definitions that are shipped as package data, and a user's own by path."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from infra.errors import GalaxyError


def locate(kind: str, name_or_file: str) -> Path:
    """The TOML file of a survey or profile.

    Parameters
    ----------
    kind
        `surveys` or `profiles`: the folder of the package `deployments`.
    name_or_file
        Name of a shipped one, or a path that ends in `.toml`.

    Raises
    ------
    GalaxyError
        If there is no such file; the message lists the shipped names.
    """
    if name_or_file.endswith(".toml"):
        path = Path(name_or_file).expanduser()
        if not path.is_file():
            raise GalaxyError(f"no file {path}; give the path of a TOML file or one of: {', '.join(shipped(kind))}")
        return path
    path = _folder(kind) / f"{name_or_file}.toml"
    if not path.is_file():
        raise GalaxyError(
            f"unknown {kind.removesuffix('s')} {name_or_file!r}; shipped are: {', '.join(shipped(kind))}. "
            "Your own is given by the path of its TOML file"
        )
    return path


def shipped(kind: str) -> list[str]:
    """Names of the shipped surveys or profiles."""
    return sorted(path.stem for path in _folder(kind).glob("*.toml"))


def _folder(kind: str) -> Path:
    return Path(str(files("deployments"))) / kind
