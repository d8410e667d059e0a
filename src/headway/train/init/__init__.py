"""What a run begins with: images, weights, a parent run."""
