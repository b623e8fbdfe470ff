"""
Bootstrap of the difference between fixed and random effects, by entity.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mixedar._types import FloatArray, IntArray
from mixedar.exceptions import NotComputedError
from mixedar.panel.algebra import EntityProducts, WeightedProducts, wald

Components = Literal["baltagi-chang", "harmonic"]

_BLOCK = 5_000_000  # weights held at a time
_SINGULAR = 1e-11


@dataclass(frozen=True)
class SwamyArora:
    """
    Fixed and random effects estimates of B replicates.

    Attributes
    ----------
    fe : ndarray, shape (B, k)
        Slopes of fixed effects; NaN where there is none.
    re : ndarray, shape (B, k)
        Coefficients of random effects.
    sigma2_u, sigma2_e : ndarray, shape (B,)
        Variances of effects and errors.
    failed : ndarray of bool, shape (B,)
        Replicates in which regressors are collinear or no degrees of freedom
        are left.
    """

    fe: FloatArray
    re: FloatArray
    sigma2_u: FloatArray
    sigma2_e: FloatArray
    failed: NDArray[np.bool_]


@dataclass(frozen=True)
class BootstrapTest:
    """
    A Wald test with the bootstrap covariance of the difference.

    Attributes
    ----------
    statistic : float
    df : int
    cov : ndarray, shape (q, q)
        Bootstrap covariance of the difference.
    pvalue_bootstrap : float
        Share of replicates whose centred statistic is as large.
    draws : ndarray, shape (B, q)
        Differences, replicates that failed left out.
    failed : int
        Number of replicates that were left out.
    """

    statistic: float
    df: int
    cov: FloatArray
    pvalue_bootstrap: float
    draws: FloatArray
    failed: int


def estimates(
    products: EntityProducts, sums: WeightedProducts, components: Components
) -> SwamyArora:
    """
    Estimate both models in every replicate, variance components included.

    Parameters
    ----------
    products : EntityProducts
    sums : WeightedProducts
        Of B replicates.
    components : {"baltagi-chang", "harmonic"}
        Variance components of Swamy and Arora for entities of different
        lengths: Baltagi and Chang's, as plm's and Stata's ``sa``, or with the
        harmonic mean of the lengths, as Stata's default.  Equal for balanced
        panels.

    Returns
    -------
    SwamyArora
    """
    width = products.width
    k, y = width - 1, width - 1
    entities = sums.counts.sum(axis=1)
    nobs = sums.counts @ sums.sizes
    failed = np.zeros(len(nobs), dtype=bool)

    inside = products.within_kept
    slopes, ssr_within = _solve(sums.within, inside, y, failed)
    df_within = nobs - entities - len(inside)
    failed |= df_within <= 0
    sigma2_e = ssr_within / np.where(df_within > 0, df_within, 1.0)

    outside = products.between_kept
    weights = sums.sizes if components == "baltagi-chang" else np.ones(len(sums.sizes))
    between = np.einsum("c,bcij->bij", weights, sums.between)
    _, ssr_between = _solve(between, outside, y, failed)
    df_between = entities - len(outside)
    if components == "baltagi-chang":
        squares = np.einsum("c,bcij->bij", sums.sizes**2, sums.between)
        block = np.ix_(np.arange(len(nobs)), outside, outside)
        ratio = _inverse_times(between[block], squares[block])
        trace = np.trace(ratio, axis1=1, axis2=2)
        sigma2_u = (ssr_between - df_between * sigma2_e) / (nobs - trace)
    else:
        harmonic = entities / (sums.counts @ (1.0 / sums.sizes))
        failed |= df_between <= 0
        spread = ssr_between / np.where(df_between > 0, df_between, 1.0)
        sigma2_u = spread - sigma2_e / harmonic
    sigma2_u = np.maximum(sigma2_u, 0.0)

    positive = sigma2_e > 0.0
    failed |= ~positive
    quasi = sums.quasi_demeaned(sigma2_u / np.where(positive, sigma2_e, 1.0))
    both, _ = _solve(quasi, products.kept, y, failed)

    fe = np.full((len(nobs), k), np.nan)
    fe[:, inside] = slopes
    re = np.full((len(nobs), k), np.nan)
    re[:, products.kept] = both
    unit = products.scale[-1] / products.scale[:-1]
    square = products.scale[-1] ** 2
    return SwamyArora(
        fe * unit, re * unit, sigma2_u * square, sigma2_e * square, failed
    )


def bootstrap_test(
    products: EntityProducts,
    positions: IntArray,
    components: Components,
    difference: FloatArray,
    *,
    reps: int,
    seed: int | np.random.Generator | None,
    progress: bool,
) -> BootstrapTest:
    """
    Draw entities with replacement and test the difference of the estimates.

    Parameters
    ----------
    products : EntityProducts
    positions : ndarray of int, shape (q,)
        Which coefficients to compare.
    components : {"baltagi-chang", "harmonic"}
        As in :func:`estimates`.
    difference : ndarray, shape (q,)
        Fixed less random effects in the data.
    reps : int
        Number of replicates.
    seed : int, Generator or None
        Of the draws.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    BootstrapTest

    Raises
    ------
    NotComputedError
        If fewer replicates than twice the coefficients (and 10) could be used.
    """
    rng = np.random.default_rng(seed)
    parts, failed = [], 0
    for weights in _draws(len(products.sizes), reps, rng, progress):
        found = estimates(products, products.weighted(weights), components)
        gap = (found.fe - found.re)[:, positions]
        bad = found.failed | ~np.isfinite(gap).all(axis=1)
        failed += int(bad.sum())
        parts.append(gap[~bad])
    draws = np.concatenate(parts)
    least = max(10, 2 * len(positions))
    if len(draws) < least:
        raise NotComputedError(
            f"only {len(draws)} of {reps} bootstrap replicates could be estimated, and "
            f"{least} are needed: in the others regressors are collinear, because too "
            "few entities vary in them. Use method='mundlak-robust', or more reps"
        )
    centred = draws - draws.mean(axis=0)
    cov = centred.T @ centred / (len(draws) - 1)
    statistic, df = wald(difference, cov)
    scale = np.sqrt(np.diag(cov))
    inverse = np.linalg.pinv(cov / np.outer(scale, scale), hermitian=True)
    away = (draws - difference) / scale
    spread = np.einsum("bi,ij,bj->b", away, inverse, away)
    share = (1.0 + (spread >= statistic).sum()) / (1.0 + len(draws))
    return BootstrapTest(statistic, df, cov, float(share), draws, failed)


def _draws(
    entities: int, reps: int, rng: np.random.Generator, progress: bool
) -> Iterator[FloatArray]:
    """Counts of each entity in the replicates, block by block."""
    block = max(1, min(reps, _BLOCK // entities))
    bar = None
    if progress:
        from tqdm.auto import tqdm  # not needed without a bar

        bar = tqdm(total=reps, desc="Bootstrap", unit="rep", leave=False)
    try:
        for start in range(0, reps, block):
            count = min(block, reps - start)
            weights = np.empty((count, entities))
            for row in weights:
                drawn = rng.integers(0, entities, entities)
                row[:] = np.bincount(drawn, minlength=entities)
            yield weights
            if bar is not None:
                bar.update(count)
    finally:
        if bar is not None:
            bar.close()


def _solve(
    products: FloatArray, columns: IntArray, y: int, failed: NDArray[np.bool_]
) -> tuple[FloatArray, FloatArray]:
    """Coefficients (B, q) and residual sums of squares (B,); marks failures."""
    total = products[:, y, y]
    if len(columns) == 0:
        return np.empty((len(products), 0)), total
    rows = np.arange(len(products))
    gram = products[np.ix_(rows, columns, columns)]
    right = products[:, columns, y]
    size = np.sqrt(np.einsum("bii->bi", gram))
    bad = (size <= 0.0).any(axis=1)
    size[bad] = 1.0
    gram = gram / (size[:, :, None] * size[:, None, :])
    gram[bad] = np.eye(len(columns))
    smallest = np.linalg.eigvalsh(gram)[:, 0]
    singular = smallest < _SINGULAR
    gram[singular] = np.eye(len(columns))
    failed |= bad | singular
    along = right / size
    scaled = np.linalg.solve(gram, along[:, :, None])[:, :, 0]
    ssr = total - np.einsum("bi,bi->b", scaled, along)
    return scaled / size, np.maximum(ssr, 0.0)


def _inverse_times(a: FloatArray, b: FloatArray) -> FloatArray:
    """``a^-1 b`` for positive definite a; zeros where a is singular."""
    size = np.sqrt(np.einsum("bii->bi", a))
    size = np.where(size > 0.0, size, 1.0)
    scaled = a / (size[:, :, None] * size[:, None, :])
    good = np.linalg.eigvalsh(scaled)[:, 0] > _SINGULAR
    scaled[~good] = np.eye(a.shape[1])
    right = b / (size[:, :, None] * size[:, None, :])
    out: FloatArray = np.linalg.solve(scaled, right)
    out[~good] = 0.0
    return out
