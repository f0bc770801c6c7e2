"""One module per step; each names the release it came with."""
