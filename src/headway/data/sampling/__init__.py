"""Shuffling, batches and splits."""
