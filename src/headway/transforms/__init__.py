"""Batched image transforms on any device; random parameters are drawn for each image from its own RNG stream."""
