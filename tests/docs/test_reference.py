"""What the reference says of a name: its parameters, and links that lead somewhere."""

from __future__ import annotations

import inspect
import re
import sys
from operator import attrgetter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from docs import reference  # noqa: E402

EVERY = reference.explained()
CLASSES = [each for module in reference.MODULES for each in reference.classes(module)]
SHOWN = {
    *reference.MODULES,
    "mixedar.exceptions",
    *(each.path for each in [*EVERY, *reference.exceptions()]),
    *(
        one.path
        for cls in [*CLASSES, *reference.returned()]
        for kind in (reference.members, reference.attributes, reference.inherited)
        for one in kind(cls)
    ),
}
# Made by the package alone: their attributes are documented in place of parameters.
MADE = {each.path for each in reference.returned()} | {
    "mixedar.api.ByGroupResults",
    "mixedar.api.MixedLMARResults",
    "mixedar.api.PanelResults",
}


def documented(text: str) -> set[str]:
    """Return the names of a docstring's parameters, other parameters, attributes."""
    found = set()
    for section in re.findall(
        r"^(?:Other )?Parameters\n-+\n(.*?)(?=^\w[^\n]*\n---|\Z)", text, re.M | re.S
    ):
        for line in re.findall(r"^(\*{0,2}\w[^\n]*)$", section, re.M):
            names = line.partition(" : ")[0].split(", ")
            found |= {name.lstrip("*") for name in names}
    return found


@pytest.mark.parametrize("public", EVERY, ids=attrgetter("short"))
def test_every_parameter_is_documented(public: reference.Public) -> None:
    if public.path in MADE:
        return
    needed = {
        name
        for name, parameter in inspect.signature(public.value).parameters.items()
        # a method of results is a function of a fit, which the reference leaves out;
        # a class names its options one by one
        if name not in ("self", "cls", "fit")
        and not (public.is_class and parameter.kind is parameter.VAR_KEYWORD)
    }
    missing = needed - documented(reference.documentation(public))
    assert not missing, f"{public.path}: {sorted(missing)}"


@pytest.mark.parametrize("public", EVERY, ids=attrgetter("short"))
def test_links_lead_to_the_reference(public: reference.Public) -> None:
    owner = public.module if public.member else public.path
    text = reference.documentation(public)
    for link in re.findall(r":(?:func|class|meth|attr|mod|data):`~?([^`]+)`", text):
        known = f"{owner}.{link}" in SHOWN or any(
            path == link or path.endswith(f".{link}") for path in SHOWN
        )
        assert known or link.startswith("statsmodels."), f"{public.path}: {link}"
