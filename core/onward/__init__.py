"""Onward pushes marketing contacts to the services their owner uses."""
