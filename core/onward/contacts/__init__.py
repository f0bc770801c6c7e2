"""Who we know: contacts, identities, consent, suppressions."""
