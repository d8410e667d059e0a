"""Supervised training of a head, and of the backbone below it."""
