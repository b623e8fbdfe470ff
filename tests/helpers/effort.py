"""What a computation takes, in counts that do not depend on the machine."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from types import FrameType
from typing import Any


def calls(action: Callable[[], Any]) -> tuple[Any, Counter[str]]:
    """
    Run an action and count the Python functions that it calls, by name.

    What is looped over groups calls some function for each of them; and
    ``cluster_sums`` is called once for each pass of the likelihood over the data.
    """
    found: Counter[str] = Counter()

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call":
            found[frame.f_code.co_name] += 1

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        result = action()
    finally:
        sys.setprofile(before)
    return result, found
