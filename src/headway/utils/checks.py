"""The check of numeric options."""

from headway.errors import HeadwayError


def check_at_least(minimum: int, **options: int) -> None:
    """Refuse options below a minimum. Raises HeadwayError."""
    for name, value in options.items():
        if value < minimum:
            raise HeadwayError(
                "value-out-of-range", f"--{name.replace('_', '-')} must be {minimum} or more, got {value}"
            )
