"""Visualization of attention: maps, statistics of attention heads, and a tutorial."""
