"""The pull: when a connection's contacts are read, and what becomes of them."""
