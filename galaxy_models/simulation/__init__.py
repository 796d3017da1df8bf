"""Galaxies and arcs drawn from physics."""
