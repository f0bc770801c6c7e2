"""From a waiting row to the truth about it."""
