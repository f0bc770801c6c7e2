"""Saved filters over contacts: dynamic segments, counted, reused and pushed."""
