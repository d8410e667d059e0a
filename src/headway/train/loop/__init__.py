"""The training loop, its checkpoints, and what watches it."""
