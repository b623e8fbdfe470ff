"""Calls are counted, and nothing is left switched on."""

from __future__ import annotations

import sys

import pytest

from helpers.effort import calls


def inner() -> int:
    return 1


def test_calls_are_counted() -> None:
    result, found = calls(lambda: sum(inner() for _ in range(5)))
    assert result == 5
    assert found["inner"] == 5
    assert sys.getprofile() is None


def test_an_error_ends_the_count() -> None:
    with pytest.raises(ZeroDivisionError):
        calls(lambda: 1 / 0)
    assert sys.getprofile() is None
