"""Losses of pretext tasks, computed over the batch of all processes."""
