"""The type of functions that follow a long computation."""

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Called with the number of parts that are done and their total."""
