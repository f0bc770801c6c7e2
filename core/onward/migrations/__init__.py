"""The database's history: expand in one release, contract in the next."""
