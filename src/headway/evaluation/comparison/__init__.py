"""The comparison of pretext tasks with one another and with training from scratch, over seeds and label draws."""
