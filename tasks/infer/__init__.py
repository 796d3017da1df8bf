"""From registered models to a published catalogue."""
