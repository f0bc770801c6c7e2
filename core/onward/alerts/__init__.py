"""Tell a person what they should know of: once when it begins, once when it ends."""
