"""Tests of errors assert on their codes and on what they name, not on their wording."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from headway.errors import HeadwayError


@contextmanager
def raises(code: str, *mentions: object) -> Iterator[pytest.ExceptionInfo[HeadwayError]]:
    """Within the context, an error with this code is raised, whose text contains these names and numbers."""
    with pytest.raises(HeadwayError) as caught:
        yield caught
    assert caught.value.code == code, f"{caught.value.code}: {caught.value}"
    for mention in mentions:
        assert str(mention) in str(caught.value)
