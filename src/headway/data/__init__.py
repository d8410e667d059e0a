"""Image data: decoding, sources, decoded data sets, shuffling and splits, and inspection."""
