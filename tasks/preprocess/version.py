"""Which measures and flags this code makes: part of what names the stage's folder and its finished pieces."""

MEASURES_VERSION = 2
"""Raised whenever a measure or flag changes its meaning, so that old results are not taken for new ones."""
