"""Files, locks, hashes, threads and serialization."""
