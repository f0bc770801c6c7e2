"""Services report changes: to a secret address, as hints of whom to read again."""
