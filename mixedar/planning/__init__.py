"""
Power and sample size by simulation, with the tests of this package.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import stats

from mixedar._lazy import with_near_names
from mixedar._types import FloatArray, Seed, unwrapped
from mixedar.data.rows import as_frame
from mixedar.diagnostics.simulation import simulate
from mixedar.exceptions import (
    NotComputedError,
    UnknownColumnError,
    UnsupportedError,
    check_alpha,
    check_choice,
    shown,
)
from mixedar.fit import Fit
from mixedar.fit.maximise import maximise
from mixedar.hypotheses.df import CONTAINMENT, DFMethod, resolve_df
from mixedar.inference.arguments import (
    check_count,
    generator,
    progress_bar,
    understands,
)
from mixedar.mixed import MixedLMAR, MixedLMARResults
from mixedar.planning.plans import Plan
from mixedar.planning.rejections import OF_EACH, p_values
from mixedar.summary import Printed, ResultFrame, ResultsSummary, SummaryTable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# With drop-out, so many data sets differ in who leaves.
_PATTERNS = 10


@dataclass(frozen=True)
class _Study:
    """A model, and parameters at which its responses are drawn."""

    model: MixedLMAR
    fit: Fit
    params: Mapping[str, float]
    plan: Plan
    df_method: DFMethod


@dataclass(frozen=True)
class _Test:
    """What is tested, how, and at which level."""

    hypothesis: Any
    method: DFMethod
    alpha: float
    alternative: str


@with_near_names
@understands(seed="rng")
def power(
    source: Any,
    effect: Mapping[str, float | Sequence[float]] | None = None,
    *,
    n: int | Iterable[int] | None = None,
    times: int | Iterable[Any] | None = None,
    dropout: float | Iterable[float] = 0.0,
    test: Any = None,
    n_sim: int = 1000,
    alpha: float = 0.05,
    alternative: str = "two-sided",
    df: str | float | DFMethod | None = None,
    params: Mapping[str, float] | None = None,
    formula: str | None = None,
    rng: Seed = None,
    progress: bool = False,
    **options: Any,
) -> PowerResults:
    """
    Power of a test of the fixed effects, by simulation.

    Responses are drawn at stated parameters, the model is fitted to each and tested.
    Every number of groups, of times, share of drop-out and size of the effect is
    crossed with every other: curves.

    Parameters
    ----------
    source : MixedLMARResults or DataFrame
        A fit, of a pilot study say, from whose data and estimates plans are made; or
        the rows of a plan, with `formula` and `params`, the response left out.
    effect : mapping of str to float or sequence of float, optional
        Values of parameters, by the names of ``fit.params``; several for a curve (of
        several parameters the first go with the first).  Those of the fit by default.
    n : int or iterable of int, optional
        Numbers of groups.  Groups of the data are copied in their order, in
        proportion to the combinations of what divides them (arms, sites).
    times : int or iterable, optional
        Number of occasions, the first ones of the data or going on in equal steps;
        several numbers, or sequences of times, for a curve.
    dropout : float or iterable of float
        Share of the groups that have left before the last occasion; each occasion but
        the first is as likely to be the first that is missed.
    test : hypothesis, optional
        As in ``wald_test``; by default that all parameters of `effect` are zero.
    n_sim : int
        Data sets for each point.
    alpha : float
        Level of the test.
    alternative : {"two-sided", "larger", "smaller"}
        Of a test of one contrast.
    df : str, float or DFMethod, optional
        Degrees of freedom, as in ``with_df``; those of the fit by default.
        ``"containment"`` and others that a design has once for all take half a
        millisecond a data set of 30 groups of 5 with random slopes and AR(1);
        ``"satterthwaite"`` and ``"kenward-roger"``, which need derivatives at each
        estimate, some 5 to 10.
    params : mapping of str to float, optional
        The other parameters, by the names of ``fit.params`` and ``"scale"``: those of
        the fit by default, all of them for a plan.
    formula : str, optional
        Of the model, with a plan.
    rng : int, SeedSequence or Generator, optional
    progress : bool
        Show a progress bar.
    **options
        Further arguments of ``mixedlm`` for a plan, such as ``groups="id"``.

    Returns
    -------
    PowerResults

    Raises
    ------
    UnknownColumnError
        For names that are no parameters of the model.
    UnsupportedError
        For plans that cannot be made from the data; the message says why.

    See Also
    --------
    mixedar.mixed.results.MixedLMARResults.simulate : the responses alone.

    Notes
    -----
    Intervals of the power are Wilson's; where groups leave, data sets come in 10
    patterns of who does, and intervals are wider where powers differ between them.

    References
    ----------
    Green, P. and MacLeod, C. J. (2016), SIMR: an R package for power analysis of
    generalized linear mixed models by simulation, Methods in Ecology and Evolution 7,
    493-498.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> fit = mar.mixedlm("distance ~ age * sex", teeth, groups="subject").fit()
    >>> found = mar.power(fit, {"age:sex[T.Male]": 0.3}, n=[20, 60], n_sim=200, rng=1)
    >>> found.frame["n"].tolist()
    [20, 60]
    >>> bool(found.frame["power"].is_monotonic_increasing)
    True
    """
    check_choice("alternative", alternative, ("two-sided", "larger", "smaller"))
    count, random = check_count(n_sim, "n_sim"), generator(rng)
    study = _study(source, formula, params, options)
    effects = _effects(effect, study.fit)
    if formula is not None:
        _check_all_stated(study, effects[0])
    hypothesis = _default_test(effects, study.fit) if test is None else test
    method = study.df_method if df is None else resolve_df(df)
    asked = _Test(hypothesis, method, check_alpha(alpha), alternative)
    shares = [_share(value) for value in np.atleast_1d(np.asarray(dropout)).tolist()]
    # what cannot be planned is refused before anything is simulated
    plans = [
        study.plan.changed(when, number)
        for when, number in product(_times(times), _numbers(n))
    ]
    points = list(product(plans, shares, effects))
    rows = []
    for step in progress_bar(range(len(points)), progress, "power"):
        plan, share, values = points[step]
        found = _simulated(study, plan, share, values, asked, count, random)
        row = {"n": plan.n_groups, **_occasions(plan), "dropout": share, **values}
        rows.append({**row, **_rate(found, asked.alpha)})
    return PowerResults(ResultFrame(rows), asked.alpha, count, method)


def _study(
    source: Any,
    formula: str | None,
    params: Mapping[str, float] | None,
    options: Mapping[str, Any],
) -> _Study:
    """The model and its parameters, of a fit or of a plan."""
    source, stated = unwrapped(source), {} if params is None else params
    if not isinstance(stated, Mapping):
        raise UnsupportedError(
            "params= takes a mapping of names of parameters to values, such as "
            f"{{'scale': 1.0}}, not {shown(params)}"
        )
    if isinstance(source, MixedLMARResults):
        if formula is not None or options:
            raise UnsupportedError(
                "formula= and arguments of a model go with the frame of a plan; this "
                "is a fit, which has its own"
            )
        model, fit = source.model, source.fit
        if fit.robust is not None:
            raise UnsupportedError(
                "power tests without robust standard errors: pass the fit as it was "
                "before get_robustcov_results()"
            )
        return _Study(model, fit, stated, _plan(model), fit.df_method)
    if isinstance(source, MixedLMAR) or formula is None:
        raise UnsupportedError(
            "power takes a fit, or the frame of a plan with formula= and params=, not "
            f"{type(source).__name__}"
        )
    frame, response = as_frame(source), formula.partition("~")[0].strip()
    if response.isidentifier():
        # anything that varies: responses are drawn
        noise = np.random.default_rng(0).normal(size=len(frame))
        frame = frame.assign(**{response: noise})
    model = MixedLMAR.from_formula(formula, frame, **options)
    fit = maximise(model.arrays)
    return _Study(model, fit, stated, _plan(model), CONTAINMENT)


def _check_all_stated(study: _Study, effect: Mapping[str, float]) -> None:
    """Raise unless there is a value of every parameter that is not held."""
    fit, stated = study.fit, {**study.params, **effect}
    needed = [n for n, held in zip(fit.names, fit.is_held, strict=True) if not held]
    needed += [] if fit.scale_known else ["scale"]
    lacking = [name for name in needed if name not in stated]
    if lacking:
        raise UnsupportedError(
            f"params= lacks {', '.join(map(repr, lacking))}: a plan has no estimates, "
            "so state every parameter (variances on their own scale, 'scale' for that "
            "of the residuals)"
        )


def _plan(model: MixedLMAR) -> Plan:
    """The rows of a model as a plan."""
    data = model.arrays
    if model.recipe is None or data.frame is None:
        raise UnsupportedError(
            "power needs a model from a formula, which is written again for other "
            "rows; this one is of arrays, or has some of with_endog or residual_data="
        )
    if data.factor_terms:
        factor = data.factor_terms[0].factor
        raise UnsupportedError(
            f"power makes plans of groups that are independent, and the levels of "
            f"{factor!r} link them: draw with fit.simulate(newdata=plan) and fit "
            "mixedlm(...).refit_many(draws)"
        )
    read = frozenset(model.recipe.words & set(data.frame.columns))
    read -= {str(data.endog_name)}
    read |= {mark.column for mark in data.residual.marks if mark.column is not None}
    return Plan(data.frame, data.groups_name, data.time_name, frozenset(read))


def _effects(
    effect: Mapping[str, float | Sequence[float]] | None, fit: Fit
) -> list[dict[str, float]]:
    """Values of parameters, one mapping a point of the curve."""
    if effect is None:
        return [{}]
    if not isinstance(effect, Mapping):
        raise UnsupportedError(
            "effect= takes a mapping of names of parameters to values, such as "
            f"{{{fit.exog_names[-1]!r}: 0.5}}, not {shown(effect)}"
        )
    known = [*fit.names, "scale"]
    for name in effect:
        if name not in known:
            raise UnknownColumnError(
                f"effect: {shown(name)} is no parameter of the model; there are "
                f"{', '.join(map(repr, known))}"
            )
    columns = [_sizes(name, value) for name, value in effect.items()]
    longest = max((len(column) for column in columns), default=1)
    if any(len(column) not in (1, longest) for column in columns):
        raise UnsupportedError(
            "effect=: values of several parameters go together, and here are "
            f"{', '.join(str(len(column)) for column in columns)} of them"
        )
    columns = [np.resize(column, longest) for column in columns]
    rows = np.array(columns).T.reshape(longest, len(columns))
    return [dict(zip(effect, map(float, row), strict=True)) for row in rows]


def _sizes(name: str, value: float | Sequence[float]) -> FloatArray:
    """The values that a parameter is to have."""
    try:
        found = np.atleast_1d(np.asarray(value, dtype=float))
    except (TypeError, ValueError):
        found = np.empty(0)
    if found.ndim != 1 or not len(found):
        raise UnsupportedError(
            f"effect: {shown(name)} is {shown(value)}: give a number, or several for a "
            "curve"
        )
    return found


def _default_test(effects: list[dict[str, float]], fit: Fit) -> pd.DataFrame:
    """That the fixed effects of the stated values are zero."""
    names = [name for name in effects[0] if name in fit.exog_names]
    if not names:
        raise UnsupportedError(
            "there is nothing to test: name fixed effects in effect=, or a hypothesis "
            f"in test=, such as test={fit.exog_names[-1] + ' = 0'!r}"
        )
    return pd.DataFrame(np.eye(len(names)), names, names)


def _share(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise UnsupportedError(f"dropout={shown(value)} is no share of the groups")
    if not 0.0 <= value < 1.0:
        raise UnsupportedError(f"dropout={value:g}: a share of groups is in [0, 1)")
    return float(value)


def _numbers(n: int | Iterable[int] | None) -> list[int | None]:
    if n is None:
        return [None]
    values = list(n) if isinstance(n, Iterable) else [n]
    return [check_count(value, "n") for value in values]


def _times(times: Any) -> list[Any]:
    """What `times` asks for: None, numbers of occasions, or arrays of times."""
    if isinstance(times, str):
        raise UnsupportedError(
            f"times={shown(times)}: give a number of occasions, or times themselves"
        )
    if not isinstance(times, Iterable):
        return [None if times is None else check_count(times, "times")]
    return [
        np.asarray(list(each))
        if isinstance(each, Iterable)
        else check_count(each, "times")
        for each in times
    ]


def _occasions(plan: Plan) -> dict[str, int]:
    return {} if plan.time is None else {"times": plan.frame[plan.time].nunique()}


def _simulated(
    study: _Study,
    plan: Plan,
    share: float,
    values: Mapping[str, float],
    asked: _Test,
    count: int,
    random: np.random.Generator,
) -> list[FloatArray]:
    """P-values of the data sets of a point, in patterns of who leaves."""
    at = {**study.params, **values}
    patterns = min(_PATTERNS, count) if share else 1
    sizes = np.diff(np.linspace(0, count, patterns + 1).round().astype(int))
    out = []
    for size in sizes.tolist():
        rows = plan.with_dropout(share, random) if share else plan
        own = rows is study.plan
        new = None if own else rows.frame
        draws = simulate(study.fit, size, random, newdata=new, params=at)
        model = study.model if own else study.model.for_rows(rows.frame)
        found = p_values(
            model.arrays,
            draws.to_numpy(),
            asked.hypothesis,
            asked.method,
            alternative=asked.alternative,
            reml=study.fit.reml,
        )
        out.append(found)
    return out


def _rate(found: list[FloatArray], alpha: float) -> dict[str, float]:
    """Share of rejections with Wilson's interval, and how many fits failed."""
    known = [p[~np.isnan(p)] for p in found]
    rejected = np.concatenate([p < alpha for p in known])
    total = len(rejected)
    failed = sum(map(len, found)) - total
    if total == 0:
        return {"power": np.nan, "lower": np.nan, "upper": np.nan, "failed": failed}
    rate = float(rejected.mean())
    spread = max(rate * (1.0 - rate), 1e-12)
    sums = np.array([(p < alpha).sum() - rate * len(p) for p in known])
    inflation = 1.0
    if len(known) > 1:
        inflation = len(known) / (len(known) - 1) * (sums**2).sum() / total / spread
    size, z = total / max(inflation, 1.0), float(stats.norm.isf(0.025))
    middle = (rate + z**2 / (2 * size)) / (1 + z**2 / size)
    half = z * np.sqrt(rate * (1 - rate) / size + z**2 / (4 * size**2))
    half /= 1 + z**2 / size
    lower, upper = max(middle - half, 0.0), min(middle + half, 1.0)
    return {"power": rate, "lower": lower, "upper": upper, "failed": failed}


@dataclass(frozen=True, eq=False, repr=False)
class PowerResults(Printed):
    """
    Power at the points of a plan; made by :func:`power`.

    Attributes
    ----------
    frame : DataFrame
        A row a point: ``n`` groups, ``times``, ``dropout``, the values of the effect;
        ``power``, its 95% Monte Carlo interval ``lower`` to ``upper``, and how many
        of the data sets ``failed`` to have a maximum, which are left out.
    alpha : float
        Level of the test.
    n_sim : int
        Data sets a point.
    df_method : DFMethod

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> fit = mar.mixedlm("distance ~ age * sex", teeth, groups="subject").fit()
    >>> found = mar.power(fit, {"age:sex[T.Male]": [0.2, 0.4]}, n_sim=100, rng=1)
    >>> found.frame["age:sex[T.Male]"].tolist()
    [0.2, 0.4]
    """

    frame: pd.DataFrame
    alpha: float
    n_sim: int
    df_method: DFMethod

    @property
    def _plan(self) -> list[str]:
        results = ("power", "lower", "upper", "failed")
        return [name for name in self.frame.columns if name not in results]

    def sample_size(self, power: float = 0.8) -> pd.DataFrame:
        """
        Number of groups that reach a power.

        A probit of the power, linear in the root of the number of groups, is fitted
        to all points of a curve.

        Parameters
        ----------
        power : float

        Returns
        -------
        DataFrame
            A row a curve: its times, drop-out and effect, and ``n`` with the 95%
            Monte Carlo interval ``lower`` to ``upper``; NaN where no point of the
            curve is below the power, or none above it.

        Raises
        ------
        NotComputedError
            If no curve has two numbers of groups, or none meets the power.

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> fit = mar.mixedlm("distance ~ age * sex", teeth, groups="subject").fit()
        >>> effect = {"age:sex[T.Male]": 0.3}
        >>> found = mar.power(fit, effect, n=[20, 40, 80], n_sim=200, rng=1)
        >>> size = found.sample_size(0.8)["n"].iloc[0]
        >>> bool(20 < size < 80)
        True
        """
        if not 0.0 < power < 1.0:
            raise UnsupportedError(f"power={shown(power)} is not between 0 and 1")
        rows = []
        for point, curve in self._curves("n"):
            found = _crossing(curve, power)
            names = ("n", "lower", "upper")
            rows.append({**point, **dict(zip(names, found, strict=True))})
        out = ResultFrame(rows)
        if out["n"].isna().all():
            low, high = self.frame["power"].min(), self.frame["power"].max()
            raise NotComputedError(
                f"powers go from {low:.2f} to {high:.2f}, and {power:g} has to lie "
                "between those of two numbers of groups: pass several to power(n=...)"
            )
        return out

    def _curves(self, along: str) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
        """The points that differ in one quantity only."""
        others = [name for name in self._plan if name != along]
        for key, curve in self.frame.groupby(others, sort=False, dropna=False):
            yield dict(zip(others, key, strict=True)), curve.sort_values(along)

    def summary(self) -> ResultsSummary:
        """
        The points, printed.

        Returns
        -------
        ResultsSummary

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> fit = mar.mixedlm("distance ~ age * sex", teeth, groups="subject").fit()
        >>> found = mar.power(fit, {"age:sex[T.Male]": 0.3}, n_sim=100, rng=1)
        >>> page = found.summary().as_text()
        """
        numbers = dict.fromkeys(("power", "lower", "upper"), ".3f")
        table = SummaryTable(self.frame, title="Point", name="power", formats=numbers)
        notes = [
            "lower and upper are the 95% Monte Carlo interval of the power.",
            f"Degrees of freedom: {self.df_method.label}.",
        ]
        if self.df_method.name in OF_EACH:
            notes.append("They were computed for every data set.")
        header = {"Level:": self.alpha, "Data sets a point:": self.n_sim}
        return ResultsSummary("Power by simulation", header, [table], notes=notes)

    def plot(self, along: str | None = None, *, ax: Axes | None = None) -> Axes:
        """
        Draw the power along one quantity, a line for each value of the others.

        Parameters
        ----------
        along : str, optional
            A column of :attr:`frame`; the first that varies by default.
        ax : Axes, optional

        Returns
        -------
        Axes

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> fit = mar.mixedlm("distance ~ age * sex", teeth, groups="subject").fit()
        >>> effect = {"age:sex[T.Male]": [0.2, 0.4]}
        >>> found = mar.power(fit, effect, n=[20, 40], n_sim=50, rng=1)
        >>> ax = found.plot("n")
        """
        from mixedar.plotting.power import plot_power

        varying = [name for name in self._plan if self.frame[name].nunique() > 1]
        along = along or (varying[0] if varying else "n")
        check_choice("along", along, self._plan)
        curves = {
            ", ".join(f"{k} = {v:g}" for k, v in point.items() if k in varying): curve
            for point, curve in self._curves(along)
        }
        return plot_power(curves, along, self.alpha, ax)


def _crossing(curve: pd.DataFrame, power: float) -> tuple[float, float, float]:
    """Where a curve meets a power: number of groups and its interval."""
    rates = curve["power"].to_numpy()
    if not (len(curve) > 1 and rates.min() <= power <= rates.max()):
        return np.nan, np.nan, np.nan
    z = float(stats.norm.isf(0.025))
    # as many data sets as make an interval of that width
    width = (curve["upper"] - curve["lower"]).to_numpy() / (2 * z)
    inside = np.clip(rates, 1e-3, 1 - 1e-3)
    probit = stats.norm.ppf(inside)
    weights = (stats.norm.pdf(probit) / np.maximum(width, 1e-6)) ** 2
    x = np.column_stack([np.ones(len(curve)), np.sqrt(curve["n"].to_numpy())])
    cov = np.linalg.inv(x.T @ (weights[:, None] * x))
    a, b = cov @ (x.T @ (weights * probit))
    root = (stats.norm.ppf(power) - a) / b
    slope = np.array([-1.0, -root]) / b
    half = z * float(np.sqrt(slope @ cov @ slope))
    low, high = max(root - half, 0.0) ** 2, (root + half) ** 2
    return float(np.ceil(root**2)), float(np.floor(low)), float(np.ceil(high))
