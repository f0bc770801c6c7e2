"""What happened to contacts, and what follows from it in the same transaction."""
