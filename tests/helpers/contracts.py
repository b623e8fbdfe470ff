"""
Checks that every residual structure and every results object has to pass.

A new residual structure, or a new kind of results, is done when these functions
accept it.  They raise AssertionError and know no class by name.
"""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from helpers.snapshots import assert_same_snapshot, numbers, snapshot
from mixedar.engine.residuals import (
    correlated_residuals,
    pair_correlations,
    whiten_series,
)
from mixedar.engine.rows import GroupedRows
from mixedar.residual import MarkovStructure, ResidualStructure

Array = NDArray[Any]

SIZES = (1, 2, 3, 7, 40)


def times(structure: ResidualStructure, n: int, seed: int = 0) -> Array:
    """Increasing times with gaps 1 to 5, or real ones where they are allowed."""
    rng = np.random.default_rng([seed, n])
    if structure.integer_time:
        gaps = rng.integers(1, 6, size=n).astype(float)
    else:
        gaps = rng.uniform(0.05, 5.0, size=n)
    return np.asarray(np.cumsum(gaps))


def check_structure(structure: ResidualStructure, params: Array, time: Array) -> None:
    """Whitening, drawing, log-determinant and correlation are those of one matrix."""
    n = len(time)
    params = np.asarray(params, dtype=float)
    assert structure.k_params == len(structure.param_names) == len(params)
    R = structure.correlation(time, params)
    assert R.shape == (n, n)
    np.testing.assert_array_equal(np.diag(R), np.ones(n))
    np.testing.assert_array_equal(R, R.T)
    factor: Array = np.linalg.cholesky(R)
    rows = GroupedRows(None, np.array([0, n]), np.diff(time, prepend=time[0]))
    whitened = whiten_series(
        factor, rows, structure, structure.to_unconstrained(params)
    )
    assert whitened.shape == (n, n)
    np.testing.assert_allclose(whitened, np.eye(n), atol=1e-9)
    drawn = correlated_residuals(np.eye(n), rows, structure, params)
    np.testing.assert_allclose(drawn, factor, atol=1e-9)
    # R^-1 = L^-T L^-1
    inverse_root = whiten_series(
        np.eye(n), rows, structure, structure.to_unconstrained(params)
    )
    np.testing.assert_allclose(inverse_root.T @ inverse_root @ R, np.eye(n), atol=1e-8)
    if isinstance(structure, MarkovStructure):
        u = structure.to_unconstrained(params)
        terms = structure.precision_coefficients(rows.gaps[1:], u, derivatives=False)
        np.testing.assert_allclose(
            terms.logdet.sum(), np.linalg.slogdet(R)[1], rtol=1e-10, atol=1e-10
        )


def check_whitening_leaves_input(structure: ResidualStructure, params: Array) -> None:
    """The argument is not written to, and one column is treated like several."""
    time = times(structure, 7)
    rows = GroupedRows(None, np.array([0, 7]), np.diff(time, prepend=time[0]))
    x = np.random.default_rng(1).normal(size=(7, 3))
    before = x.copy()
    whitened = whiten_series(x, rows, structure, structure.to_unconstrained(params))
    np.testing.assert_array_equal(x, before)
    for j in range(3):
        one = whiten_series(
            x[:, j], rows, structure, structure.to_unconstrained(params)
        )
        np.testing.assert_allclose(one, whitened[:, j], rtol=1e-13)


def check_pair_correlations(
    structure: ResidualStructure, params: Array, time: Array
) -> None:
    """Correlations with other times are blocks of the joint matrix."""
    n = len(time)
    step = 1.0 if structure.integer_time else 0.37
    after = time[-1] + step * np.arange(1, 5)
    joint = structure.correlation(np.concatenate([time, after]), params)
    a, b = np.repeat(time, 4)[:, None], np.tile(after, n)[:, None]
    for pairs in ((a, b), (b, a)):
        cross = pair_correlations(structure, *pairs, params).reshape(n, 4)
        np.testing.assert_allclose(cross, joint[:n, n:], rtol=1e-13)


def check_parameters(structure: ResidualStructure, params: Array) -> None:
    """Parameters survive the way to the real line and back."""
    u = structure.to_unconstrained(params)
    assert u.shape == (structure.k_free,)
    np.testing.assert_allclose(structure.from_unconstrained(u), params, rtol=1e-12)
    natural = structure.natural(u)
    np.testing.assert_allclose(natural.value, params, rtol=1e-12)
    assert natural.first.shape == (structure.k_free, structure.k_params)
    for k in range(structure.k_free):
        step = np.zeros(structure.k_free)
        step[k] = 1e-6
        slope = (
            structure.from_unconstrained(u + step)
            - structure.from_unconstrained(u - step)
        ) / 2e-6
        np.testing.assert_allclose(natural.first[k], slope, rtol=1e-7, atol=1e-10)
    assert not structure.at_boundary(params)


def check_extremes(structure: ResidualStructure) -> None:
    """No step of an optimiser, however long, leaves the parameter space."""
    if structure.k_free == 0:
        return
    for size in (1.0, 10.0, 1e3, 1e300):
        for sign in (1.0, -1.0):
            u = np.full(structure.k_free, sign * size)
            params = structure.from_unconstrained(u)
            assert np.isfinite(params).all()
            R = structure.correlation(times(structure, 7), params)
            assert np.isfinite(R).all()
            if size > 10.0:
                assert structure.at_boundary(params)
    for end, sign in zip(structure.ends, (-1.0, 1.0), strict=True):
        known = np.isfinite(end)
        there, beyond, before = (
            structure.from_unconstrained(np.where(known, u, 0.0))
            for u in (end, sign * 1e300, end - sign)
        )
        np.testing.assert_array_equal(there, beyond)
        assert not known.any() or (there != before).any()


def check_starts(structure: ResidualStructure) -> None:
    """Starting values are free parameters inside the space, and distinct."""
    grid = structure.start_grid()
    assert len(grid) >= 1
    for u in grid:
        assert u.shape == (structure.k_free,)
        assert np.isfinite(u).all()
        params = structure.from_unconstrained(u)
        assert params.shape == (structure.k_params,)
        assert structure.k_free == 0 or not structure.at_boundary(params)
    if structure.k_free:
        assert len({tuple(np.round(u, 12)) for u in grid}) == len(grid) > 1


def check_derivatives(structure: MarkovStructure, u: Array, gaps: Array) -> None:
    """Derivatives of a step and of the precision agree with differences."""
    h = 1e-5
    value = structure.step(gaps, u)
    params = structure.from_unconstrained(u)
    np.testing.assert_allclose(
        value.phi,
        structure.correlations(gaps[:, None], params),
        rtol=1e-11,
        atol=1e-300,
    )
    np.testing.assert_allclose(value.complement, 1.0 - value.phi**2, rtol=1e-7)
    here = structure.precision_coefficients(gaps, u, derivatives=True)
    plain = structure.precision_coefficients(gaps, u, derivatives=False)
    # what alpha and beta mean
    np.testing.assert_allclose(here.alpha[0], value.phi**2 / value.complement)
    np.testing.assert_allclose(here.beta[0], -value.phi / (1.0 + value.phi))
    np.testing.assert_allclose(here.logdet[0], np.log(value.complement))
    for name in ("alpha", "beta", "logdet"):
        np.testing.assert_array_equal(getattr(plain, name)[0], getattr(here, name)[0])
        assert len(getattr(plain, name)) == 1
    if structure.k_free == 0:
        assert len(here.alpha) == 1
        return
    up, down = structure.step(gaps, u + h), structure.step(gaps, u - h)
    close_to_difference(value.d1, up.phi, down.phi, h)
    close_to_difference(value.d2, up.d1, down.d1, h)
    above = structure.precision_coefficients(gaps, u + h, derivatives=True)
    below = structure.precision_coefficients(gaps, u - h, derivatives=True)
    for name in ("alpha", "beta", "logdet"):
        values = getattr(here, name)
        assert values.shape == (3, len(gaps))
        for order in (1, 2):
            close_to_difference(
                values[order],
                getattr(above, name)[order - 1],
                getattr(below, name)[order - 1],
                h,
            )


def close_to_difference(derivative: Array, up: Array, down: Array, h: float) -> None:
    """Compare with a central difference, whose own error is of order h squared."""
    difference = (np.asarray(up) - np.asarray(down)) / (2.0 * h)
    size = np.maximum(np.abs(np.asarray(up)), np.abs(difference)).max(initial=0.0)
    np.testing.assert_allclose(
        derivative, difference, rtol=2e-6, atol=1e-8 * max(float(size), 1.0)
    )


def check_results(fit: Any) -> None:
    """Shapes, names and relations between the numbers of a results object."""
    model = fit.model
    p, q, k_vc = model.k_fe, model.k_re, model.k_vc
    k_cov = q * (q + 1) // 2 + k_vc
    k_residual = model.residual.k_params
    k = p + k_cov + k_residual

    names = list(model.data.param_names)
    assert len(names) == len(set(names)) == k
    assert names[k - k_residual :] == list(model.residual.param_names)
    lengths = {"params": k, "bse": k, "tvalues": k, "pvalues": k}
    lengths |= {"fe_params": p, "bse_fe": p}
    for attribute, length in lengths.items():
        values = getattr(fit, attribute)
        assert np.shape(values) == (length,), attribute
        if has_names(fit):
            assert list(values.index) == names[:length], attribute
    assert list(fit.df.index) == names[:p]
    assert np.isfinite(fit.fe_params).all()
    assert (fit.bse_fe > 0).all()

    # parameters are on the scale of the data, variances row by row
    params = np.asarray(fit.params)
    rows, columns = np.tril_indices(q)
    np.testing.assert_allclose(
        params[p : p + k_cov - k_vc], np.asarray(fit.cov_re)[rows, columns], rtol=1e-12
    )
    np.testing.assert_allclose(
        params[p + k_cov - k_vc : p + k_cov], np.asarray(fit.vcomp), rtol=1e-12
    )
    np.testing.assert_array_equal(params[:p], fit.fe_params)
    assert np.shape(fit.cov_re) == (q, q)
    if q and has_names(fit):
        assert list(fit.cov_re.index) == list(fit.cov_re.columns)
    if q:
        assert np.linalg.eigvalsh(fit.cov_re).min() > -1e-10 * np.trace(fit.cov_re)
    assert len(fit.vcomp) == k_vc
    assert (np.asarray(fit.vcomp) >= 0).all()
    assert fit.scale > 0
    assert isinstance(fit.residual_params, pd.Series)
    assert list(fit.residual_params.index) == list(model.residual.param_names)
    np.testing.assert_array_equal(fit.residual_params, params[p + k_cov :])

    cov = np.asarray(fit.cov_params())
    assert cov.shape == (k, k)
    np.testing.assert_array_equal(cov, cov.T)
    np.testing.assert_allclose(fit.bse_fe, np.sqrt(np.diag(cov)[:p]), rtol=1e-12)
    np.testing.assert_allclose(fit.tvalues[:p], fit.fe_params / fit.bse_fe, rtol=1e-12)
    interval = fit.conf_int()
    if has_names(fit):
        assert list(interval.index) == names
    interval = np.asarray(interval)
    assert interval.shape == (k, 2)
    inside = np.isfinite(interval).all(axis=1)
    assert inside[:p].all()
    if not fit.at_boundary and not model.residual.fixed:
        free = np.diag(np.asarray(fit.cov_params())) > 0.0
        assert inside[free].all()
    if fit.at_boundary and model.residual.at_boundary(fit.residual_params):
        ends = model.residual.at_end(fit.residual_params)
        assert not inside[p + k_cov :][ends].any()
    assert (interval[inside, 0] < params[inside]).all()
    assert (params[inside] < interval[inside, 1]).all()
    wide = np.asarray(fit.conf_int(alpha=0.01))
    assert (wide[inside, 0] < interval[inside, 0]).all()
    assert (wide[inside, 1] > interval[inside, 1]).all()

    # information criteria
    assert isinstance(fit.converged, bool)
    assert isinstance(fit.at_boundary, bool)
    k_estimated = fit.df_modelwc
    n_effective = fit.nobs - p if fit.reml else fit.nobs
    np.testing.assert_allclose(fit.aic, 2 * k_estimated - 2 * fit.llf, rtol=1e-14)
    np.testing.assert_allclose(
        fit.bic, np.log(n_effective) * k_estimated - 2 * fit.llf, rtol=1e-14
    )
    assert fit.modes["llf"].iloc[0] == fit.llf
    assert (fit.modes["llf"].diff().dropna() <= 0).all()
    np.testing.assert_array_equal(fit.modes.iloc[0][names], params)

    check_rows(fit)
    check_summary(fit)


def has_names(fit: Any) -> bool:
    """Whether the model was given pandas objects, so that results carry labels."""
    return fit.model.data.row_labels is not None


def model_names(fit: Any) -> list[str]:
    """Names of all parameters."""
    return list(fit.model.data.param_names)


def check_rows(fit: Any) -> None:
    """Values of observations and groups in the caller's order."""
    model = fit.model
    n = model.nobs
    assert fit.nobs == n == len(model.endog)
    for attribute in ("fittedvalues", "fitted_marginal", "resid"):
        values = getattr(fit, attribute)
        assert len(values) == n, attribute
        assert np.isfinite(values).all(), attribute
        if has_names(fit):
            index = pd.Index(model.data.row_labels)
            pd.testing.assert_index_equal(values.index, index)
    y = np.asarray(model.endog)
    np.testing.assert_allclose(
        fit.fittedvalues + np.asarray(fit.resid), y, atol=1e-9 * np.abs(y).max()
    )
    np.testing.assert_allclose(
        fit.fitted_marginal, model.exog @ np.asarray(fit.fe_params)
    )
    raw = fit.residuals()
    np.testing.assert_array_equal(raw, fit.resid)
    relative = raw / np.sqrt(fit.scale) / fit.residuals(kind="pearson")
    if not hasattr(model.residual, "variance"):
        np.testing.assert_allclose(relative, 1.0, rtol=1e-12)
    assert (relative > 0.0).all()  # a variance function's standard deviations
    assert len(fit.residuals(kind="normalized")) == n
    assert fit.n_groups == len(model.group_labels)
    effects, covariances = fit.random_effects, fit.random_effects_cov
    assert list(effects) == list(covariances) == list(model.group_labels)
    for label, b in effects.items():
        assert isinstance(b, pd.Series)
        cov = covariances[label]
        assert list(cov.index) == list(cov.columns) == list(b.index)
        assert np.isfinite(b).all()
        if len(b):
            assert np.linalg.eigvalsh(cov).min() > -1e-10 * max(np.trace(cov), 1.0)


def check_summary(fit: Any) -> None:
    """The summary renders everywhere and names every parameter."""
    summary = fit.summary()
    text, html, latex = summary.as_text(), summary.as_html(), summary.as_latex()
    assert str(summary) == text
    assert max(len(line) for line in text.splitlines()) <= 80
    for name in model_names(fit)[: fit.k_fe]:
        assert name in text or len(name) > 20  # long names may be shortened
    assert "<table" in html
    assert "<table" in summary._repr_html_()
    assert "tabular" in latex
    assert "nan" not in text.lower().split()
    assert len(summary.tables) > 1
    frames = (
        summary.to_frames() if hasattr(summary, "to_frames") else summary.to_frame()
    )
    assert frames is not None


def check_frozen(fit: Any, other_reml: bool) -> None:
    """Another fit of the same model changes nothing here."""
    before = snapshot(fit)
    text = str(fit.summary())
    fit.model.fit(reml=other_reml)
    assert_same_snapshot(snapshot(fit), before)
    assert str(fit.summary()) == text


def check_copies(fit: Any, folder: Path) -> None:
    """Pickles, copies and files hold the same numbers."""
    before = snapshot(fit)
    twins = [
        pickle.loads(pickle.dumps(fit)),
        copy.deepcopy(fit),
        copy.copy(fit),
    ]
    path = folder / "fit.pickle"
    fit.save(path)
    twins.append(type(fit).load(path) if hasattr(type(fit), "load") else _load(path))
    for twin in twins:
        assert type(twin) is type(fit)
        assert_same_snapshot(snapshot(twin), before)
        assert str(twin.summary()) == str(fit.summary())


def _load(path: Path) -> Any:
    from statsmodels.iolib.smpickle import load_pickle

    return load_pickle(path)


def check_removed(fit: Any, folder: Path) -> None:
    """Without its data a fit still has its numbers; `fit` loses its data."""
    text = str(fit.summary())
    before = numbers(fit)
    full = len(pickle.dumps(fit))
    fit.remove_data()
    assert str(fit.summary()) == text
    assert_same_snapshot(numbers(fit), before)
    path = folder / "small.pickle"
    fit.save(path)
    assert len(path.read_bytes()) < full
    twin = _load(path)
    assert str(twin.summary()) == text
    assert_same_snapshot(numbers(twin), before)
