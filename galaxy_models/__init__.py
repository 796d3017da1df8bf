"""The science: networks, physics, metrics. Usable by itself on a GPU machine."""
