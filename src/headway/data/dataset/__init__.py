"""Decoded images, in memory or in a memory-mapped file, and their statistics."""
