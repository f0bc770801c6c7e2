"""Reproducible figures: each is a ratio against a named reference, in one run."""
