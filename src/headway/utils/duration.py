"""Durations as a person types them."""

import re

from headway.errors import HeadwayError


def parse_duration(text: str | float) -> float:
    """Seconds in a duration such as "90s", "2m", "1h30m" or a plain number of seconds. Raises HeadwayError."""
    match = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?", str(text).strip().lower())
    if not match or not any(match.groups()):
        raise HeadwayError("value-unreadable", f"cannot read the duration '{text}'; write 90s, 2m or 1h30m")
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return hours * 3600 + minutes * 60 + seconds
