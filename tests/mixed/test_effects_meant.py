"""Random effects that are easily written otherwise than meant."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mixedar.formula.api as mar
from mixedar import MixedLMAR
from mixedar.exceptions import GroupError


@cache
def pupils() -> pd.DataFrame:
    """Pupils in classes in schools; must not be changed."""
    rng = np.random.default_rng(13)
    school, rest = np.divmod(np.arange(240), 24)
    data = pd.DataFrame(
        {"school": school, "class": rest // 6, "seat no": rest // 2 % 3}
    )
    levels = rng.normal(size=10)[school] + rng.normal(size=40)[np.arange(240) // 6]
    data["y"] = 5.0 + levels + rng.normal(size=240)
    data["x"] = rng.normal(size=240)
    return data


def nested(data: pd.DataFrame) -> Any:
    """The two levels written out with labels of one's own."""
    parts = {"class": "0 + C(room)"}
    own = data.assign(room=data["class"])
    return mar.mixedlm("y ~ 1", own, groups="school", re_formula="1", vc_formula=parts)


SEVERAL: dict[str, Any] = {
    "list": lambda d: ["school", "class"],
    "tuple": lambda d: ("school", "class"),
    "slash": lambda d: "school/class",
    "label of combinations": lambda d: "school / class",
    "frame": lambda d: d[["school", "class"]],
    "list of columns": lambda d: [d["school"], d["class"]],
    "index": lambda d: pd.MultiIndex.from_frame(d[["school", "class"]]),
}


@pytest.mark.parametrize("how", SEVERAL)
def test_several_columns_of_groups_are_refused_with_a_remedy(how: str) -> None:
    data = pupils()
    with pytest.raises(GroupError, match="groups= takes one column") as caught:
        mar.mixedlm("y ~ 1", data, groups=SEVERAL[how](data))
    remedy = re.search(r"mixedlm\(\.\.\., (.*)\)\. If", str(caught.value))
    assert remedy is not None
    found = eval(f"mar.mixedlm('y ~ 1', data, {remedy[1]})").fit()
    assert found.llf == pytest.approx(nested(data).fit().llf, abs=1e-8)
    made = re.search(r"(data\[.*?\] = .*), and pass (groups='.*')", str(caught.value))
    assert made is not None
    space = {"data": data.copy()}
    exec(made[1], space)
    one = eval(f"mar.mixedlm('y ~ 1', data, {made[2]})", {**space, "mar": mar})
    assert one.n_groups == 40


@pytest.mark.parametrize("how", ["frame", "list of columns", "index"])
def test_arrays_of_several_columns_are_refused(how: str) -> None:
    data = pupils()
    given = SEVERAL[how](data)
    for groups in (given, np.column_stack([data["school"], data["class"]])):
        with pytest.raises(GroupError, match="groups= takes one column"):
            MixedLMAR(data["y"], np.ones(240), groups=groups)
        with pytest.raises(GroupError, match="entity= takes one column"):
            mar.PooledOLS(data["y"], data[["x"]], entity=groups)


def test_three_levels_and_awkward_names() -> None:
    data = pupils()
    with pytest.raises(GroupError) as caught:
        mar.mixedlm("y ~ 1", data, groups=["school", "class", "seat no"])
    remedy = re.search(r"mixedlm\(\.\.\., (.*)\)\. If", str(caught.value))
    assert remedy is not None
    model = eval(f"mar.mixedlm('y ~ 1', data, {remedy[1]})")
    assert model.exog_vc.names == ["class", "seat no"]
    assert [len(set(row.nonzero()[1])) for row in model.exog_vc.mats[1]] == [12] * 10


@pytest.mark.parametrize("entity", [["school", "class"], "school/class"])
def test_entities_of_several_columns_are_refused(entity: Any) -> None:
    with pytest.raises(GroupError, match=r"entity= takes one.*entity='school_class'"):
        mar.fixed_effects("y ~ x", pupils(), entity=entity)


def test_a_list_or_frame_of_one_column_is_the_column() -> None:
    data = pupils()
    expected = mar.mixedlm("y ~ 1", data, groups="school")
    for groups in (["school"], data[["school"]]):
        found = mar.mixedlm("y ~ 1", data, groups=groups)
        assert found.group_labels == expected.group_labels
    assert mar.fixed_effects("y ~ x", data, entity=["school"]).fit().nobs == 240
