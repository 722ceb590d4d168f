"""Grids: contrast nets, heads on each of their checkpoints, and the validation of each head, for all combinations of settings."""
