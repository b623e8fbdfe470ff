r"""
Methods of denominator degrees of freedom of tests of the fixed effects, by name.

=================== =========================================================
``containment``     nlme's inner-outer rule, the default
``between-within``  SAS' ``ddfm=bw``
``residual``        observations less fixed effects
``satterthwaite``   from the variance of a contrast's variance, see below
``kenward-roger``   with a corrected covariance, see below
``normal``          z and chi-square: infinite degrees of freedom
=================== =========================================================

Satterthwaite takes a contrast's estimated variance ``l'Phi l`` as a multiple of a
chi-square variable with ``nu = 2 (l'Phi l)^2 / Var(l'Phi l)`` degrees of
freedom; the variance follows from the delta method, here with the analytic
gradient ``-l'Phi P_i Phi l`` (Giesbrecht and Burns, 1985).  Several rows
are rotated into uncorrelated ones, whose degrees of freedom are pooled so that
the F distribution has the mean of the sum of squared t's (Fai and Cornelius,
1996).  Which uncorrelated ones, the literature leaves open: lmerTest's and SAS'
depend on how the rows are written and scaled, those taken here do not.

Kenward and Roger correct the covariance of the fixed effects for the bias of
``Phi = (X'V^-1 X)^-1`` at estimated covariance parameters,

    Phi_A = Phi + 2 Phi [sum_ij W_ij (Q_ij - P_i Phi P_j - R_ij / 4)] Phi,

``W`` being the covariance of the parameters' estimates; the F statistic is
scaled, and its denominator degrees of freedom match the first two moments of
its approximate distribution (Kenward and Roger, 1997, sections 2 and 3).
``R_ij``, with the second derivatives of ``V``, vanishes where ``V`` is linear
in the parameters.  It does not for AR(1): ``kr="full"`` has it, as SAS'
``ddfm=kr``; ``kr="linear"`` leaves it out, as ``ddfm=kr(linear)`` and pbkrtest.

With ``R_ij`` the result depends on how a nonlinear ``V`` is parametrised
(Kenward and Roger, 2009).  The parameters here are those that the results and
SAS print: variances and covariances of the random effects, ``rho`` at a distance
of one unit of time (so that the unit matters to the term), and the residual
variance.

``W`` is the inverse of the expected information, as in the paper and in
pbkrtest, or of the observed one, as in SAS unless its ``scoring`` option is
given.

References
----------
Fai, A. H.-T. and Cornelius, P. L. (1996), Approximate F-tests of multiple
degree of freedom hypotheses in generalized least squares analyses of
unbalanced split-plot experiments, Journal of Statistical Computation and
Simulation 54, 363-378.

Giesbrecht, F. G. and Burns, J. C. (1985), Two-stage analysis based on a mixed
model: large-sample asymptotic theory and small-sample simulation results,
Biometrics 41, 477-486.

Kenward, M. G. and Roger, J. H. (1997), Small sample inference for fixed
effects from restricted maximum likelihood, Biometrics 53, 983-997.

Kenward, M. G. and Roger, J. H. (2009), An improved approximation to the
precision of fixed effects from restricted maximum likelihood, Computational
Statistics and Data Analysis 53, 2583-2595.

Kuznetsova, A., Brockhoff, P. B. and Christensen, R. H. B. (2017), lmerTest
package: tests in linear mixed effects models, Journal of Statistical Software
82(13).
"""

from __future__ import annotations

import math

import numpy as np

from mixedar._types import BoolArray, FloatArray, IntArray
from mixedar.engine.precision import PrecisionDerivatives
from mixedar.exceptions import NotComputedError
from mixedar.fit import Fit
from mixedar.fit.boundary import at_end_values
from mixedar.hypotheses.df import (
    METHODS,
    ColumnDF,
    ContrastMethod,
    DFMethod,
    JointDF,
    constant_within,
    resolve_df,
)
from mixedar.inference.information import parameter_covariance


def between_within_df(exog: FloatArray, groups: IntArray) -> FloatArray:
    """
    Between-within degrees of freedom of each fixed-effects column.

    The ``n - p`` residual degrees of freedom are split into a part between
    groups, for columns that vary in no group, the intercept among them (number
    of groups less the number of such columns), and the rest within groups
    (Schluchter and Elashoff, 1990; SAS' ``ddfm=bw``).

    Parameters
    ----------
    exog : ndarray, shape (n, p)
        Fixed-effects design of full rank.
    groups : ndarray of int, shape (n,)
        Codes ``0 ... m - 1``.

    Returns
    -------
    ndarray, shape (p,)
        May be zero or less: no t test exists there.

    Raises
    ------
    NotComputedError
        With one group only.

    References
    ----------
    Schluchter, M. D. and Elashoff, J. T. (1990), Small-sample adjustments to
    tests with unbalanced repeated measures assuming several covariance
    structures, Journal of Statistical Computation and Simulation 37, 69-87.
    """
    constant = constant_within(exog, groups)
    return _between_within(constant, int(groups.max()) + 1, len(exog))


def _between_within(constant: BoolArray, count: int, n: int) -> FloatArray:
    """The same from the columns that vary in no group, and numbers of groups, rows."""
    if count == 1:
        raise NotComputedError(
            "between-within degrees of freedom need several groups, and there is one; "
            "use df='satterthwaite'"
        )
    between = float(count - constant.sum())
    return np.where(constant, between, n - len(constant) - between)


def contrast_method(
    fit: Fit, df: str | float | DFMethod | None = None
) -> ContrastMethod:
    """
    A method of degrees of freedom at a fit's estimate; computed once.

    Parameters
    ----------
    fit : Fit
    df : str, float or DFMethod, optional
        That of the fit by default.

    Returns
    -------
    ContrastMethod

    Raises
    ------
    NotComputedError
        If the method is not defined for the fit; the message says why.
    """
    method = fit.df_method if df is None else resolve_df(df)
    known = fit.contrast_methods
    if method not in known:
        known[method] = _contrast_method(fit, method)
    return known[method]


def _contrast_method(fit: Fit, method: DFMethod) -> ContrastMethod:
    cov = fit.cov_beta
    if fit.robust is not None:
        if method.name == "kenward-roger":
            raise NotComputedError(
                "Kenward-Roger corrects the covariance of the model, and this fit has "
                "robust standard errors; use df='satterthwaite', which is theirs"
            )
        if method.name == "satterthwaite":
            return fit.robust
        cov = fit.robust.cov
    if method.name == "containment":
        return ColumnDF(cov, fit.df_containment)
    same = {"normal": np.inf, "given": method.value, "residual": fit.nobs - fit.k_fe}
    if method.name in same:
        return ColumnDF(cov, np.full(fit.k_fe, float(same[method.name])))
    if method.name == "between-within":
        constant = fit.data.constant_columns
        return ColumnDF(cov, _between_within(constant, fit.n_groups, fit.nobs))
    if method.name == "kenward-roger" and not fit.reml:
        raise NotComputedError(
            "Kenward-Roger is defined for REML estimates, and this is an ML fit; refit "
            "with fit(reml=True), or use df='satterthwaite'"
        )
    fit.check_maximum(f"df={method.name!r}")
    derivatives = fit.precision_derivatives
    w = parameter_covariance(derivatives, method.information)
    found: ContrastMethod
    if method.name == "kenward-roger":
        found = KenwardRogerDF(derivatives, w, full=method.kr == "full")
    else:
        found = SatterthwaiteDF(derivatives, w, cov)
    found.notes.extend(_boundary_notes(fit, method))
    return found


def _boundary_notes(fit: Fit, method: DFMethod) -> list[str]:
    name, notes = f"{METHODS[method.name]} degrees of freedom", []
    if fit.singular and method.information == "observed":
        notes.append(
            f"{name} take variances of zero, and other directions in which the "
            "covariance is singular, as known."
        )
    elif fit.singular:
        notes.append(
            f"{name} count all covariance parameters, those on the boundary too."
        )
    if fit.estimate.residual_at_boundary:
        names = ", ".join(map(repr, at_end_values(fit)))
        which = f" {names}, which is at the end of its"
        if fit.estimate.at_end.sum() > 1:
            which = f"s {names}, which are at the end of their"
        notes.append(f"{name} take the residual parameter{which} range, as known.")
    return notes


def df_of_rows(method: ContrastMethod, matrix: FloatArray) -> FloatArray:
    """Degrees of freedom of rows of fixed parts, infinite where there is none."""
    out = np.full(len(matrix), np.inf)
    used = np.abs(matrix).max(axis=1, initial=0.0) > 0.0
    if used.any():
        out[used] = method.single(matrix[used])
    return out


def shared_covariance(fit: Fit, cov: FloatArray) -> FloatArray:
    """
    Covariance of the coefficients that all rows share, by that of the fixed effects.

    Of a fit with robust standard errors it is robust too.
    """
    robust = fit.robust
    if robust is not None and robust.shared is not None:
        known = np.nan_to_num(robust.cov)
        if np.array_equal(known, np.nan_to_num(cov)):
            return robust.shared
    return fit.population.covariance(cov)


def covariance(fit: Fit) -> FloatArray:
    """
    Covariance of all parameters, that of the fixed effects by the fit's method.

    Parameters
    ----------
    fit : Fit

    Returns
    -------
    ndarray, shape (k, k)
        Zero for parameters that are held, NaN on the boundary.
    """
    p, k = fit.k_fe, len(fit.names)
    cov = np.zeros((k, k))
    cov[p:, p:] = fit.estimate.cov_theta[:-1, :-1]
    cov[fit.is_held] = cov[:, fit.is_held] = 0.0
    cov[:p, :p] = contrast_method(fit).cov
    return cov


def df_notes(fit: Fit) -> list[str]:
    """What a reader of the tests has to know about their DF."""
    notes = []
    method = fit.df_method
    if method.name == "given":
        notes.append(f"t tests of the fixed effects use {method.value:g} DF.")
    elif method.name == "normal":
        notes.append("Tests of the fixed effects use the normal distribution.")
    else:
        notes.append(
            "t tests of the fixed effects use "
            f"{METHODS[method.name]} degrees of freedom."
        )
    if fit.robust is not None:
        notes.append(
            f"Standard errors of the fixed effects are robust ({fit.robust.cov_type}, "
            f"clusters are the {fit.robust.clusters})."
        )
    if method.name == "kenward-roger":
        term = "with" if method.kr == "full" else "without"
        notes.append(
            "Standard errors hold the Kenward-Roger correction, "
            f"{term} its second-order term."
        )
    found = contrast_method(fit)
    notes.extend(found.notes)
    if fit.robust is not None and found is not fit.robust:
        notes.extend(fit.robust.notes[1:])  # the first is about its DF
    df = found.single(np.eye(fit.k_fe))
    spent = [name for name, value in zip(fit.exog_names, df, strict=True) if value <= 0]
    if spent:
        notes.append(
            f"No degrees of freedom are left for {', '.join(spent)}: there is no "
            "test of this kind."
        )
    return notes


def satterthwaite_df(
    contrasts: FloatArray, phi: FloatArray, p: FloatArray, w: FloatArray
) -> FloatArray:
    """
    Degrees of freedom of single contrasts.

    Parameters
    ----------
    contrasts : ndarray, shape (c, p)
    phi : ndarray, shape (p, p)
        Covariance of the fixed effects.
    p : ndarray, shape (k, p, p)
        Derivatives of its inverse by the covariance parameters.
    w : ndarray, shape (k, k)
        Covariance of the covariance parameters.

    Returns
    -------
    ndarray, shape (c,)
        Infinite where the variance does not depend on the parameters.
    """
    half = contrasts @ phi
    variance = np.einsum("cx,cx->c", half, contrasts)
    gradient = np.einsum("kcx,cx->ck", half @ p, half)
    uncertainty = np.einsum("ck,kl,cl->c", gradient, w, gradient)
    with np.errstate(divide="ignore"):
        return 2.0 * variance**2 / uncertainty


def pooled_df(nu: FloatArray) -> float:
    """
    Denominator degrees of freedom from those of independent components.

    Parameters
    ----------
    nu : ndarray, shape (r,)

    Returns
    -------
    float
        ``2 E / (E - r)`` with ``E = sum nu / (nu - 2)``; 2 if a component has
        no more than that, as in lmerTest.
    """
    if len(nu) == 1 or not np.isfinite(nu).any() or float(np.ptp(nu)) < 1e-8:
        return float(nu.mean())
    if (nu <= 2.0).any():
        return 2.0
    # E - r = sum 2 / (nu - 2), without cancellation and with infinite nu
    excess = float((2.0 / (nu - 2.0)).sum())
    return 2.0 * (excess + len(nu)) / excess


class SatterthwaiteDF(ContrastMethod):
    """
    Satterthwaite's method at the estimate of a fit.

    Parameters
    ----------
    derivatives : PrecisionDerivatives
    w : ndarray, shape (k, k)
        Covariance of the covariance parameters.
    cov : ndarray, shape (p, p)
        Covariance of the fixed effects on the user's scale.
    """

    def __init__(
        self, derivatives: PrecisionDerivatives, w: FloatArray, cov: FloatArray
    ) -> None:
        self.derivatives = derivatives
        self.w = w
        self.cov = cov
        self.notes: list[str] = []

    def single(self, matrix: FloatArray) -> FloatArray:
        """See :meth:`ContrastMethod.single`."""
        d = self.derivatives
        return satterthwaite_df(d.contrasts(matrix), d.phi, d.p, self.w)

    def joint(self, matrix: FloatArray, rank: int) -> JointDF:
        """
        Fai and Cornelius' degrees of freedom, pooled over principal contrasts.

        Those are uncorrelated in the fitted model and would be so if errors were
        independent with one variance: a basis that depends on neither coding nor
        units.  Where it is not unique, as in balanced designs, contrasts whose
        uncertainties are uncorrelated are taken.
        """
        d = self.derivatives
        # X'X is a multiple of the identity in the internal coordinates
        rows = d.contrasts(matrix)
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        rows = np.linalg.svd(rows, full_matrices=False)[2][:rank]
        variances, vectors = np.linalg.eigh(rows @ d.phi @ rows.T)
        rows = vectors.T @ rows
        apart = np.diff(variances) > 1e-6 * variances[-1]
        for same in np.split(np.arange(rank), np.flatnonzero(apart) + 1):
            half = rows[same] @ d.phi
            slopes = half @ d.p @ half.T
            spread = np.einsum("kl,kab,lbc->ac", self.w, slopes, slopes, optimize=True)
            rows[same] = np.linalg.eigh(spread)[1].T @ rows[same]
        return JointDF(pooled_df(satterthwaite_df(rows, d.phi, d.p, self.w)), 1.0)


def adjusted_covariance(
    phi: FloatArray, p: FloatArray, q: FloatArray, r: FloatArray | None, w: FloatArray
) -> FloatArray:
    """
    Bias-corrected covariance of the fixed effects.

    Parameters
    ----------
    phi : ndarray, shape (p, p)
        ``(X'V^-1 X)^-1``.
    p : ndarray, shape (k, p, p)
    q : ndarray, shape (k, k, p, p)
    r : ndarray, shape (k, k, p, p), optional
        Left out for the linear adjustment.
    w : ndarray, shape (k, k)

    Returns
    -------
    ndarray, shape (p, p)
    """
    middle = np.einsum("ij,ijxy->xy", w, q)
    middle -= (np.tensordot(w, p, (0, 0)) @ (phi @ p)).sum(axis=0)
    if r is not None:
        middle -= 0.25 * np.einsum("ij,ijxy->xy", w, r)
    return np.asarray(phi + phi @ (middle + middle.T) @ phi)


def moments_to_f(a1: float, a2: float, rank: int) -> JointDF:
    """
    Denominator degrees of freedom and scaling of a joint F statistic.

    Parameters
    ----------
    a1, a2 : float
        Kenward and Roger's ``A_1`` and ``A_2``.
    rank : int
        Numerator degrees of freedom.

    Returns
    -------
    JointDF

    Raises
    ------
    NotComputedError
        If no F distribution has these moments.
    """
    if a2 <= 0.0:  # the covariance parameters do not matter, or are known
        return JointDF(math.inf, 1.0)
    if rank == 1:  # what the formulas below come to
        return JointDF(2.0 / a2, 1.0)
    b = (a1 + 6.0 * a2) / (2.0 * rank)
    g = ((rank + 1.0) * a1 - (rank + 4.0) * a2) / ((rank + 2.0) * a2)
    denominator = 3.0 * rank + 2.0 * (1.0 - g)
    c1, c2 = g / denominator, (rank - g) / denominator
    c3 = (rank + 2.0 - g) / denominator
    # V* / (2 E*^2) = rho; the zeros of 1 - A2 / q and 1 - c2 B coincide in
    # balanced designs, where their ratio is one
    above, below = 1.0 - a2 / rank, 1.0 - c2 * b
    ratio = 1.0 if max(abs(above), abs(below)) < 1e-10 else _divide(above, below)
    rho = ratio**2 * _divide(1.0 + c1 * b, 1.0 - c3 * b) / rank
    df = 4.0 + _divide(rank + 2.0, rank * rho - 1.0)
    if not df > 0.0:
        raise NotComputedError(
            "no F distribution has the approximate moments of this statistic "
            f"(A1 = {a1:.4g}, A2 = {a2:.4g}): the sample is too small for a joint "
            "Kenward-Roger test; use df='satterthwaite', or test fewer rows"
        )
    if math.isinf(df):
        return JointDF(df, above)
    # the mean of F does not exist at 2 degrees of freedom; pbkrtest does not
    # scale there either
    scaling = 1.0 if abs(df - 2.0) < 1e-2 else df * above / (df - 2.0)
    if not scaling > 0.0:
        raise NotComputedError(
            f"the Kenward-Roger scaling of this F statistic is {scaling:.3g}, not "
            "positive: the sample is too small for the joint test; use "
            "df='satterthwaite', or test fewer rows"
        )
    return JointDF(df, scaling)


def _divide(a: float, b: float) -> float:
    return a / b if b != 0.0 else math.copysign(math.inf, a)


class KenwardRogerDF(SatterthwaiteDF):
    """
    Kenward and Roger's method at the estimate of a fit.

    For one row its degrees of freedom are Satterthwaite's.

    Parameters
    ----------
    derivatives : PrecisionDerivatives
    w : ndarray, shape (k, k)
        Covariance of the covariance parameters.
    full : bool
        With the second-order term ``R_ij``.

    Raises
    ------
    NotComputedError
        If the corrected covariance is not positive definite.
    """

    def __init__(
        self, derivatives: PrecisionDerivatives, w: FloatArray, *, full: bool
    ) -> None:
        d = derivatives
        adjusted = adjusted_covariance(d.phi, d.p, d.q, d.r if full else None, w)
        spectrum = np.linalg.eigvalsh(adjusted)
        if not (spectrum > 0.0).all():
            raise NotComputedError(
                "the Kenward-Roger covariance of the fixed effects is not positive "
                "definite: the covariance parameters are too uncertain for the "
                "correction; leave out its second-order term (kr='linear'), or use "
                "df='satterthwaite'"
            )
        super().__init__(d, w, d.to_user(adjusted))

    def joint(self, matrix: FloatArray, rank: int) -> JointDF:
        """See :meth:`ContrastMethod.joint`."""
        d = self.derivatives
        middle = matrix @ d.to_inner
        # an orthonormal basis in the metric of Phi: Theta = basis' basis
        root = np.linalg.cholesky(d.phi)
        rows = middle @ root
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        _, _, vectors = np.linalg.svd(rows, full_matrices=False)
        half = vectors[:rank] @ root.T
        whitened = half @ d.p @ half.T
        traces = np.trace(whitened, axis1=1, axis2=2)
        a1 = float(traces @ self.w @ traces)
        flat = whitened.reshape(len(whitened), -1)
        a2 = float((self.w * (flat @ flat.T)).sum())
        return moments_to_f(a1, a2, rank)
