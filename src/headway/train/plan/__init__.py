"""How a run will be trained: what is measured, and what is decided from that."""
