"""
The same model as a latent growth curve: moments of the waves, and lavaan's syntax.

Random effects are latent variables whose loadings are the columns of ``Z``; fixed
effects are their means, and their regressions on covariates (Curran, P. J., 2003, Have
multilevel models been structural equation models all along?, Multivariate Behavioral
Research 38, 529-569).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from mixedar._types import FloatArray, IntArray
from mixedar.by_group.factors import group_covariance
from mixedar.engine.search import Optimum
from mixedar.exceptions import UnsupportedError, listing
from mixedar.fit import Fit
from mixedar.summary import Printed, ResultsSummary, SummaryTable

_SAME = 1e-9
_STEP = 1e-5
_MOST_WAVES = 60


@dataclass(frozen=True, eq=False, repr=False)
class ImpliedMoments(Printed):
    """
    Means and covariances of the waves: the model's, and the sample's.

    Attributes
    ----------
    mean : DataFrame
        By wave: ``implied``, ``std_error``, ``sample``.
    covariance, covariance_se, sample_covariance : DataFrame, waves x waves
        The sample's with the divisor of the number of groups.
    n_groups : int
        Groups with all waves, of which sample and covariates are.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> fit = mar.mixedlm("distance ~ age", teeth, groups="subject", time="age").fit()
    >>> fit.implied_moments().covariance.shape
    (4, 4)
    """

    mean: pd.DataFrame
    covariance: pd.DataFrame
    covariance_se: pd.DataFrame
    sample_covariance: pd.DataFrame
    n_groups: int

    def summary(self) -> ResultsSummary:
        """
        All of them.

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> model = mar.mixedlm("distance ~ age", teeth, groups="subject", time="age")
        >>> page = model.fit().implied_moments().summary().as_text()
        """
        tables = [
            SummaryTable(self.mean, "Mean", name="mean"),
            SummaryTable(self.covariance, "Implied covariance", name="covariance"),
            SummaryTable(self.covariance_se, "Std.Err.", name="covariance_se"),
            SummaryTable(self.sample_covariance, "Sample covariance", name="sample"),
        ]
        header = {"No. groups:": self.n_groups, "No. waves:": len(self.mean)}
        return ResultsSummary("Moments of the waves", header, tables)


@dataclass(frozen=True)
class _Waves:
    """Rows of the groups, (groups, waves), -1 where there is none; one has all."""

    times: list[Any]
    rows: IntArray
    group: int

    @property
    def complete(self) -> IntArray:
        """The rows of the groups that have all waves."""
        return self.rows[(self.rows >= 0).all(axis=1)]

    def of_rows(self, values: FloatArray) -> FloatArray:
        """Values of rows by group and wave, NaN where there is none."""
        out = np.full((*self.rows.shape, *values.shape[1:]), np.nan)
        seen = self.rows >= 0
        out[seen] = values[self.rows[seen]]
        return out

    @classmethod
    def of(cls, fit: Fit, times: Iterable[Any] | None) -> _Waves:
        """The waves of a fit, or raise."""
        data = fit.data
        if data.time is None:
            raise UnsupportedError(
                "waves: the model has no time; name its column, time='...'"
            )
        if data.terms or fit.k_vc:
            raise UnsupportedError(
                "waves: random effects of several factors, smooths and variance "
                "components are no latent variables of one group's waves; they are of "
                "models with groups= and re_formula= alone"
            )
        time = pd.Series(data.time).reset_index(drop=True)
        wanted = sorted(time.unique()) if times is None else list(times)
        unknown = [value for value in wanted if value not in set(time)]
        if unknown or not 1 <= len(wanted) <= _MOST_WAVES:
            raise UnsupportedError(
                f"times: {listing(list(map(str, unknown[:5])))} is no time of the data"
                if unknown
                else f"times: {len(wanted)} waves, where there may be 1 to "
                f"{_MOST_WAVES}; name some"
            )
        frame = pd.DataFrame({"g": data.codes, "t": time, "row": range(data.nobs)})
        frame = frame[frame["t"].isin(wanted)]
        if frame.duplicated(["g", "t"]).any():
            raise UnsupportedError("waves: a group has several rows of one time")
        wide = frame.pivot(index="g", columns="t", values="row")[wanted]
        whole = wide.notna().all(axis=1)
        if whole.sum() < 2:
            raise UnsupportedError(
                "waves: fewer than two groups have all of these times; name others, "
                "times=[...], that groups share"
            )
        found = wide.fillna(-1).to_numpy().astype(np.intp)
        waves = cls(wanted, found, int(wide.index[int(np.argmax(whole))]))
        marks = data.grouped.marks
        parts = [] if data.exog_re is None else [("random effects", data.exog_re)]
        if marks is not None:
            parts.append(("residual variances", data.grouped.unsort(marks)))
        for what, columns in parts:
            own = waves.of_rows(columns)
            typical = columns[waves.complete[0]]
            if not _same(own, typical):
                raise UnsupportedError(
                    f"waves: the columns of the {what} differ between groups at one "
                    "time; moments of waves, and latent variables, are of groups "
                    "observed at the same times"
                )
        return waves

    def covariance(self, fit: Fit, part: str = "marginal") -> FloatArray:
        """Covariance of the waves given the covariates, shape (waves, waves)."""
        label = fit.data.group_labels[self.group]
        frame = group_covariance(fit, label, part)
        return np.asarray(frame.loc[self.times, self.times].to_numpy())


def implied_moments(
    fit: Fit, times: Iterable[Any] | None = None, *, covariates: str = "sample"
) -> ImpliedMoments:
    """
    Means and covariances of the waves, with standard errors, beside the sample's.

    Parameters
    ----------
    fit : Fit
    times : sequence, optional
        Times that are waves; all of the data by default.
    covariates : {"sample", "given"}
        The covariance with what the covariates' variation between groups adds, as of
        lavaan's ``fitted``, or given the covariates.

    Returns
    -------
    ImpliedMoments

    Raises
    ------
    UnsupportedError
        If groups are not observed in waves.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> fit = mar.mixedlm("distance ~ age", teeth, groups="subject", time="age").fit()
    >>> fit.implied_moments().mean.round(1)["implied"].tolist()
    [22.0, 23.4, 24.7, 26.0]
    """
    if covariates not in ("sample", "given"):
        raise UnsupportedError(
            f"covariates={covariates!r}: there are 'sample' and 'given'"
        )
    waves, data = _Waves.of(fit, times), fit.data
    rows = waves.complete
    x = data.exog[rows]  # (groups, waves, p)
    offset = 0.0 if data.offset is None else np.asarray(data.offset)[rows]
    mean_x = x.mean(axis=0)
    beta, best = fit.fe_params, fit.estimate
    y = data.endog[rows]

    def between(beta: FloatArray) -> FloatArray:
        fitted = x @ beta + offset
        if covariates == "given":
            return np.zeros((len(waves.times),) * 2)
        apart = fitted - fitted.mean(axis=0)
        return np.asarray(apart.T @ apart / len(fitted))

    whole = waves.covariance(fit) + between(beta)
    slopes = _slopes(fit, waves)
    variance = np.einsum("aij,ab,bij->ij", slopes, best.cov_theta, slopes)
    if covariates == "sample":
        steps = _STEP * np.maximum(1.0, np.abs(beta))
        units = np.diag(steps)
        by_beta = np.stack(
            [
                (between(beta + unit) - between(beta - unit)) / (2.0 * step)
                for unit, step in zip(units, steps, strict=True)
            ]
        )
        variance += np.einsum("aij,ab,bij->ij", by_beta, fit.cov_beta, by_beta)
    names = pd.Index(waves.times, name=data.time_name or "time")
    mean_variance = np.einsum("ta,ab,tb->t", mean_x, fit.cov_beta, mean_x)
    mean = pd.DataFrame(
        {
            "implied": (x @ beta + offset).mean(axis=0),
            "std_error": np.sqrt(mean_variance),
            "sample": y.mean(axis=0),
        },
        index=names,
    )
    centred = y - y.mean(axis=0)

    def square(values: FloatArray) -> pd.DataFrame:
        return pd.DataFrame(values, index=names, columns=names)

    return ImpliedMoments(
        mean,
        square(whole),
        square(np.sqrt(variance)),
        square(centred.T @ centred / len(y)),
        len(y),
    )


def _slopes(fit: Fit, waves: _Waves) -> FloatArray:
    """Derivatives of the waves' covariance by variances, residual parameters, scale."""
    best, k = fit.estimate, fit.layout.k_cov
    values = np.concatenate([best.cov_values, best.residual_params, [best.scale]])
    out = np.zeros((len(values), len(waves.times), len(waves.times)))
    for j, value in enumerate(values):
        step = _STEP * max(abs(value), 1e-3)
        ends = []
        for sign in (-1.0, 1.0):
            moved = values.copy()
            moved[j] += sign * step
            cov, scale = fit.layout.matrix(moved[:k]), moved[-1]
            estimate = replace(
                best,
                cov_values=moved[:k],
                psi=cov / scale,
                residual_params=moved[k:-1],
                scale=scale,
            )
            modes = (Optimum(estimate, fit.modes[0].search),)
            ends.append(waves.covariance(replace(fit, modes=modes)))
        out[j] = (ends[1] - ends[0]) / (2.0 * step)
    return out


def _same(a: FloatArray, b: FloatArray) -> bool:
    """Whether values are the same where both are known."""
    a, b = np.broadcast_arrays(a, b)
    known = np.isfinite(a) & np.isfinite(b)
    return bool(np.allclose(a[known], b[known], rtol=_SAME, atol=_SAME))


@dataclass(frozen=True)
class LatentGrowth:
    """
    A model in the syntax of programs for structural equations, and its data.

    Attributes
    ----------
    syntax : str
        For ``lavaan::growth``.
    data : DataFrame, a row a group
        Waves and covariates by the names of the syntax, NaN where a group has no such
        wave: fit by full information, ``missing = "fiml"``.  `one` is a column of ones.
    paths : DataFrame, a row a path
        ``lhs``, ``op`` and ``rhs`` as of lavaan's ``parameterEstimates``, with ``~1``
        for means, and the `value` that this fit found, or that loadings have.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> fit = mar.mixedlm("distance ~ age", teeth, groups="subject", time="age").fit()
    >>> list(fit.to_lavaan().data)
    ['y1', 'y2', 'y3', 'y4', 'one']
    """

    syntax: str
    data: pd.DataFrame
    paths: pd.DataFrame

    def __str__(self) -> str:
        return self.syntax

    @property
    def semopy(self) -> str:
        """
        The same for ``semopy.ModelMeans``.

        Means of latent variables are regressions on `one`, those of the waves are held
        at zero, and constraints have their own command.

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> model = mar.mixedlm(
        ...     *("distance ~ age", teeth), groups="subject", re_formula="~age",
        ...     time="age", residual="independent",
        ... )
        >>> model.fit(reml=False).to_lavaan().semopy.splitlines()[2]
        'i ~ one'
        """
        lines = []
        for line in self.syntax.splitlines():
            free = re.fullmatch(r"(\w+) ~ 1", line)
            if free:
                lines.append(f"{free[1]} ~ one")
            elif "==" in line or ">" in line:
                lines.append(f"CONSTRAINT({line.replace('==', '=')})")
            elif not line.endswith(" ~ 0*1"):
                lines.append(line)
        waves = [name for name in self.data if re.fullmatch(r"y\d+", str(name))]
        return "\n".join([*lines, *(f"{wave} ~ 0*1" for wave in waves)])


def to_lavaan(fit: Fit, times: Iterable[Any] | None = None) -> LatentGrowth:
    """
    The model in lavaan's syntax, if its design allows.

    Random effects are latent variables.  A fixed effect is the mean of one, or its
    regression on a covariate; a time course that has no random effect is a latent
    variable without variance.

    Parameters
    ----------
    fit : Fit
    times : sequence, optional
        Times that are waves; all of the data by default.

    Returns
    -------
    LatentGrowth
        ``print(...)`` shows the syntax; its `semopy` is that of semopy.

    Raises
    ------
    UnsupportedError
        If groups are not observed in waves; a fixed effect is not the product of a time
        course that all groups share with a covariate that is constant within groups;
        parameters are held or linked; or residuals are neither independent, with equal
        or free variances, nor AR(1).

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> model = mar.mixedlm(
    ...     *("distance ~ age", teeth), groups="subject", re_formula="~age", time="age",
    ...     residual="independent",
    ... )
    >>> print(str(model.fit(reml=False).to_lavaan()).splitlines()[0])
    i =~ 1*y1 + 1*y2 + 1*y3 + 1*y4
    """
    waves, data = _Waves.of(fit, times), fit.data
    _check_free(fit)
    y = [f"y{k + 1}" for k in range(len(waves.times))]
    outcome = data.endog if data.offset is None else data.endog - data.offset
    wide = pd.DataFrame(waves.of_rows(outcome), columns=y)
    wide["one"] = 1.0
    names = list(data.random_names)
    z = np.empty((data.nobs, 0)) if data.exog_re is None else data.exog_re
    courses = list(z[waves.complete[0]].T)
    q, paths = len(courses), []
    for name, x in zip(
        fit.exog_names, np.moveaxis(waves.of_rows(data.exog), 2, 0), strict=True
    ):
        target, covariate = _path(courses, x, name)
        label = None
        if covariate is not None:
            parts = [part for part in name.split(":") if part not in names]
            text = re.sub(r"\W+", "_", "_".join(parts)).strip("_")
            label = _known(wide, text, covariate)
        paths.append((target, label))
    latent = _latent_names(courses, q)
    lines = []
    for name, course in zip(latent, courses, strict=True):
        loadings = zip(course, y, strict=True)
        terms = " + ".join(f"{value:.15g}*{wave}" for value, wave in loadings)
        lines.append(f"{name} =~ {terms}")
    for j, name in enumerate(latent):
        on = [label for target, label in paths if target == j and label is not None]
        lines += [f"{name} ~ " + " + ".join(on)] if on else []
    for j, name in enumerate(latent):
        lines.append(f"{name} ~ 1" if (j, None) in paths else f"{name} ~ 0*1")
    for i, name in enumerate(latent):
        for j in range(i + 1):
            free = i < q and fit.layout.is_free[fit.layout.entry(i, j)]
            lines.append(f"{name} ~~ {'' if free else '0*'}{latent[j]}")
    lines += _residual_lines(fit, waves, y)
    found = _found_paths(fit, waves, y, latent, courses, paths)
    return LatentGrowth("\n".join(lines), wide, found)


def _found_paths(
    fit: Fit,
    waves: _Waves,
    y: list[str],
    latent: list[str],
    courses: list[FloatArray],
    effects: list[tuple[int, str | None]],
) -> pd.DataFrame:
    """Loadings, means, regressions and covariances, with what the fit found."""
    rows: list[tuple[str, str, str, float]] = []
    for name, course in zip(latent, courses, strict=True):
        rows += [(name, "=~", *pair) for pair in zip(y, course, strict=True)]
    for (target, label), value in zip(effects, fit.fe_params, strict=True):
        rows.append((latent[target], "~" if label else "~1", label or "", value))
    for names, cov in (
        (latent[: fit.k_re], fit.layout.matrix(fit.estimate.cov_values)),
        (y, waves.covariance(fit, "residual")),
    ):
        pairs = [(i, j) for i in range(len(names)) for j in range(i, len(names))]
        rows += [(names[i], "~~", names[j], cov[i, j]) for i, j in pairs if cov[i, j]]
    return pd.DataFrame(rows, columns=["lhs", "op", "rhs", "value"])


def _check_free(fit: Fit) -> None:
    """Raise if covariance parameters are held at values, or linked."""
    held = fit.layout.fixed[~fit.layout.is_free].any()
    if fit.scale_known or held or not fit.parameters.is_free.all():
        raise UnsupportedError(
            "to_lavaan(): parameters of the covariance are held at their values, which "
            "it does not write; estimate them"
        )
    if fit.layout.compound:
        raise UnsupportedError(
            "to_lavaan(): compound symmetry of the random effects links their "
            "variances, which it does not write; let them be unstructured or diagonal"
        )


def _latent_names(courses: list[FloatArray], q: int) -> list[str]:
    """Names of latent variables: i and s, as lavaan's manual, or f1, f2, ..."""
    if len(courses) <= 2 and np.ptp(courses[0]) == 0.0:
        return ["i", "s"][: len(courses)]
    fixed = range(1, len(courses) - q + 1)
    return [*(f"f{j + 1}" for j in range(q)), *(f"m{j}" for j in fixed)]


def _path(
    courses: list[FloatArray], x: FloatArray, name: str
) -> tuple[int, FloatArray | None]:
    """
    Which latent variable a fixed effect is of, and the covariate, if it is no mean.

    `x` has the column's values, shape (groups, waves), NaN where there is no row.  A
    time course that no latent variable has is added to theirs.
    """
    seen = np.isfinite(x)
    whole = x[seen.all(axis=1)]
    largest = whole[np.argmax(np.abs(whole).max(axis=1))]
    for k, course in enumerate([*courses, largest]):
        covariate = None
        if not _same(x, course):
            with np.errstate(invalid="ignore"):
                size = (np.where(seen, course, 0.0) ** 2).sum(axis=1)
                covariate = np.where(seen, x * course, 0.0).sum(axis=1) / size
            if not _same(x, covariate[:, None] * course):
                continue
        if k == len(courses):
            courses.append(largest)
        return k, covariate
    raise UnsupportedError(
        f"to_lavaan(): {name!r} is not the product of a time course that all groups "
        "share with a covariate that is constant within groups, so that it is no mean "
        "and no regression of a latent variable; leave it out"
    )


def _known(wide: pd.DataFrame, label: str, covariate: FloatArray) -> str:
    """A name for a covariate: the one that it has already, or a new one."""
    for name in wide.columns.drop("one"):
        if not re.fullmatch(r"y\d+", name) and _same(wide[name].to_numpy(), covariate):
            wide[name] = wide[name].fillna(pd.Series(covariate))
            return str(name)
    label = label or "x"
    while label in wide or re.fullmatch(r"[isfm]\d*|y\d+", label):
        label += "_"
    wide[label] = covariate
    return label


def _residual_lines(fit: Fit, waves: _Waves, y: list[str]) -> list[str]:
    """Variances and covariances of the residuals, with their constraints."""
    cov, n = waves.covariance(fit, "residual"), len(y)
    names = list(fit.structure.param_names)
    sd, correlated = np.sqrt(np.diag(cov)), "rho" in names
    lags = np.abs(np.subtract.outer(range(n), range(n)))
    rho = cov[0, 1] / (sd[0] * sd[1]) if correlated and n > 1 else 0.0
    kinds = [int(np.flatnonzero(np.isclose(sd, value, rtol=1e-9))[0]) for value in sd]
    count = len(set(kinds))
    if (
        not np.allclose(cov, np.outer(sd, sd) * rho**lags, rtol=1e-8)
        or len(names) != count - 1 + correlated
    ):
        raise UnsupportedError(
            f"to_lavaan(): residuals are {fit.structure.label}; it writes independent "
            "ones and AR(1) at even times, with variances that are equal or free "
            "(VarIdent)"
        )
    labels = [f"v{kind + 1}" if count > 1 else "c0" for kind in kinds]
    if not correlated:
        free = count == n > 1
        return [
            f"{w} ~~ {'' if free else f'{v}*'}{w}"
            for w, v in zip(y, labels, strict=True)
        ]
    lines = [f"{w} ~~ {v}*{w}" for w, v in zip(y, labels, strict=True)]
    bounds = [f"{v} > 0" for v in dict.fromkeys(labels)]
    pairs = [(k, k + lag) for lag in range(1, n) for k in range(n - lag)]
    if count == 1:
        lines += [f"{y[j]} ~~ c{k - j}*{y[k]}" for j, k in pairs]
        powers = [f"c{lag} == c1^{lag} / c0^{lag - 1}" for lag in range(2, n)]
        return [*lines, *bounds, *powers]
    lines += [f"{y[j]} ~~ c{j + 1}_{k + 1}*{y[k]}" for j, k in pairs]
    one = f"(c1_2 / sqrt({labels[0]} * {labels[1]}))"
    powers = [
        f"c{j + 1}_{k + 1} == {one}^{k - j} * sqrt({labels[j]} * {labels[k]})"
        for j, k in pairs[1:]
    ]
    return [*lines, *bounds, *powers]
