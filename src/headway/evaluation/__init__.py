"""What pretraining gained, with paired intervals."""
