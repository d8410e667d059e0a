"""Decode encoded bytes to pixels: one file per format."""
