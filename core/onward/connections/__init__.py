"""The accounts we push to: declared, verified, opened, paused."""
