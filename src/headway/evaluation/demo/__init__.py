"""The comparison of one pretraining with training from scratch, within a time budget."""
