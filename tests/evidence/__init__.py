"""What the models can do, measured on real galaxies: `make evidence`."""
