"""Pictures: where they lie, how they are decoded, and in which order they are dealt."""
