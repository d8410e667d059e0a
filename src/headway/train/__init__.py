"""Training: plan, engine, loop, checkpoints, log."""
