"""Each public function, class and method has an example, which runs."""

from __future__ import annotations

import doctest
import sys
from operator import attrgetter
from pathlib import Path

import pytest

from helpers.doc_pages import difference

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from docs import reference  # noqa: E402

# Without an example as yet; what gets one leaves the list.
WAITING: set[str] = set()
EVERY = reference.explained()


class SameDigits(doctest.OutputChecker):
    """Outputs are the same if they are but for the last digit of numbers."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        if super().check_output(want, got, optionflags):
            return True
        return difference(want, got) is None


@pytest.mark.parametrize("public", EVERY, ids=attrgetter("short"))
def test_example(
    public: reference.Public, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = reference.documentation(public)
    if public.short in WAITING:
        assert ">>>" not in text, "it has an example: take it off the list"
        return
    assert ">>>" in text, f"{public.path} has no example"
    monkeypatch.chdir(tmp_path)
    example = doctest.DocTestParser().get_doctest(text, {}, public.path, None, 0)
    assert any(not each.source.startswith("import") for each in example.examples)
    runner = doctest.DocTestRunner(
        checker=SameDigits(), optionflags=doctest.NORMALIZE_WHITESPACE
    )
    printed: list[str] = []
    runner.run(example, out=printed.append)
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
    assert not runner.failures, "".join(printed)


def test_nothing_waits_that_is_not_there() -> None:
    assert {each.short for each in EVERY} >= WAITING
