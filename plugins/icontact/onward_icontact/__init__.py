"""iContact for Onward."""
