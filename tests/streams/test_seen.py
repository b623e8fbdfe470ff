"""Rows are told from others by sums of what is made of their values."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from mixedar.exceptions import SourceError
from mixedar.streams import Seen

FRAME = pd.DataFrame(
    {
        "id": np.repeat(["a", "b", "c"], 4),
        "y": np.linspace(0.0, 1.0, 12),
        "visit": np.tile([1, 2, 3, 4], 3),
        "day": pd.date_range("2020-01-01", periods=12),
        "arm": pd.Categorical(np.repeat(["x", None, "z"], 4)),
        "late": np.tile([True, False], 6),
    }
)


def test_order_batches_and_types_do_not_matter() -> None:
    mixed = FRAME.sample(frac=1.0, random_state=1)
    head = mixed.iloc[:5].astype({"arm": object, "visit": float, "late": object})
    parts = [Seen.of(part, "id", True) for part in (head, mixed.iloc[5:])]
    Seen.of(FRAME, "id", True).check(Seen.merged(parts))


@pytest.mark.parametrize(
    ("column", "change"),
    [
        ("y", lambda c: c + 1e-15),
        ("y", lambda c: c.iloc[::-1].to_numpy()),
        ("visit", lambda c: c.where(c != 4, 5)),
        ("visit", lambda c: c.where(c != 4)),
        ("day", lambda c: c + pd.Timedelta(1, "ns")),
        ("arm", lambda c: c.cat.rename_categories({"z": "w"})),
        ("late", lambda c: c | True),
    ],
)
def test_changed_values_are_named(
    column: str, change: Callable[[pd.Series], object]
) -> None:
    other = FRAME.assign(**{column: change(FRAME[column])})
    with pytest.raises(SourceError, match=f"other values of {column!r}"):
        Seen.of(FRAME, "id", True).check(Seen.of(other, "id", True))


def test_only_columns_that_were_read_both_times_are_compared() -> None:
    Seen.of(FRAME[["id", "visit"]], "id", True).check(Seen.of(FRAME, "id", True))
    with pytest.raises(SourceError, match="12 rows the first time and 11 the second"):
        Seen.of(FRAME, "id", False).check(Seen.of(FRAME.iloc[1:], "id", False))
