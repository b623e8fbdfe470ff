"""
Words of R, Stata, SAS and other packages, and what is written here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pandas as pd

from mixedar.data.rows import near_matches
from mixedar.exceptions import UnknownColumnError
from mixedar.residual.variance import KnownWeights, near_function, resolve_variance

_RANDOM = (
    "random effects into the formula, as in 'y ~ x + (1 + x | id)', or pass "
    "groups='id', re_formula='~x'"
)
_RESIDUAL = "residual='ar1' (or 'car1', 'cs', 'un', ...), with time='week', groups='id'"
_GROUPS = "groups='id', the column of the groups"
_ML = "model.fit(reml=False) for maximum likelihood; fit() is REML"
_DF = "df='kr' (or 'satterthwaite') in fit.with_df('kr'), or in each test"
_ROBUST = "fit(cov_type='CR2') for cluster-robust standard errors"
_SEARCH = "options of the search in fit(): maxiter=, gtol=, start_params="

#: Of ``mixedlm``.
OF_MODELS: Mapping[str, str] = {
    **dict.fromkeys(("random", "random_effects", "re", "ranef"), _RANDOM),
    **dict.fromkeys(
        ("correlation", "corr", "structure", "type", "residuals", "cor", "rcov"),
        _RESIDUAL,
    ),
    **dict.fromkeys(("id", "cluster", "subject", "panel", "i", "group"), _GROUPS),
    "entity": _GROUPS + " (entity= is an argument of panel estimators)",
    "t": "time='week', the column of the times",
    "form": "the groups in groups= and the times in time=",
    **dict.fromkeys(("REML", "reml", "ML", "ml", "mle", "method"), _ML),
    **dict.fromkeys(("df", "ddf", "ddfm", "dfmethod"), _DF),
    **dict.fromkeys(("vce", "robust", "cov_type"), _ROBUST),
    **dict.fromkeys(("control", "start", "verbose", "nolog", "maxiter"), _SEARCH),
    **dict.fromkeys(("na_action", "na"), "missing='drop' to leave out rows with gaps"),
    **dict.fromkeys(
        ("covariance", "cov", "cov_structure"),
        "re_cov='diagonal' for independent random effects, or '(x || id)' in the "
        "formula; residual= for the correlation of residuals",
    ),
    **dict.fromkeys(
        ("weight", "varstruct", "variance"),
        "weights=: a column of precision weights, or a variance function such as "
        "VarIdent('sex') of mixedar.api",
    ),
    "family": "nothing: responses are normal; for others see limitations.md",
    "contrasts": "them in the formula, as in C(arm, Sum) or C(arm, Treatment('b'))",
}
#: Of ``fit``.
OF_FITS: Mapping[str, str] = {
    **dict.fromkeys(("REML", "ML", "ml", "mle"), "fit(reml=False) for ML"),
    **dict.fromkeys(("df", "ddf", "ddfm", "use_t"), "fit().with_df('kr')"),
    **dict.fromkeys(("vce", "cov", "robust"), _ROBUST),
    **dict.fromkeys(
        ("random", "correlation", "residual", "groups", "time", "weights"),
        "this into mixedlm(...), where the model is built",
    ),
    "type": "fit().anova(type=3)",
    **dict.fromkeys(("control", "start", "verbose", "nolog"), _SEARCH),
}
#: Of results.
OF_RESULTS: Mapping[str, str] = {
    "fixef": "fit.fe_params",
    **dict.fromkeys(("VarCorr", "getVarCov"), "fit.varcorr() or fit.cov_re"),
    "sigma": "fit.scale, its square",
    **dict.fromkeys(("logLik", "loglik"), "fit.llf"),
    "deviance": "-2 * fit.llf",
    **dict.fromkeys(("AIC", "BIC"), "fit.aic, fit.bic"),
    **dict.fromkeys(("vcov", "cov"), "fit.cov_params()"),
    **dict.fromkeys(("coefficients", "coefs"), "fit.params, or fit.coef() by group"),
    **dict.fromkeys(("std_errors", "tstats"), "fit.bse, fit.tvalues"),
    "df_model": "fit.k_fe",
    "df_residual": "fit.df_resid",
    **dict.fromkeys(("fvalue", "f_pvalue", "f_statistic"), "fit.anova()"),
    "rsquared_adj": "fit.r2(), which has no adjusted version",
    **dict.fromkeys(("confint", "intervals"), "fit.conf_int(), fit.conf_int_re()"),
    **dict.fromkeys(("emmeans", "lsmeans", "margins"), "fit.marginal_means('arm')"),
    **dict.fromkeys(("emtrends", "lstrends"), "fit.marginal_slopes('x', by='arm')"),
    **dict.fromkeys(
        ("pairs", "contrast", "pwcompare"), "fit.marginal_means('arm').pairwise()"
    ),
    "fitted": "fit.fittedvalues",
    "se": "fit.bse",
    **dict.fromkeys(("drop1", "testparm"), "fit.anova(), fit.wald_test(...)"),
    "update": "another mixedlm(...), or fit.model.with_residual(...)",
}
#: Of panel fits.
OF_PANEL_RESULTS: Mapping[str, str] = {
    **dict.fromkeys(("coef", "coefs", "coefficients"), "fit.params"),
    **dict.fromkeys(("std_errors", "se"), "fit.bse"),
    "tstats": "fit.tvalues",
    **dict.fromkeys(("cov", "vcov"), "fit.cov_params()"),
    **dict.fromkeys(("confint", "intervals"), "fit.conf_int()"),
    **dict.fromkeys(
        ("entity_effects", "estimated_effects", "fixef", "ranef"), "fit.effects"
    ),
    **dict.fromkeys(("fitted", "fitted_values"), "fit.fittedvalues"),
    **dict.fromkeys(("resids", "residuals", "idiosyncratic"), "fit.resid"),
    **dict.fromkeys(("s2", "sigma2"), "fit.scale"),
    **dict.fromkeys(("logLik", "loglik"), "fit.llf"),
    **dict.fromkeys(
        ("aic", "bic", "AIC", "BIC", "info_criteria"),
        "mixedar.api.glance(fit), which has them where there is a likelihood",
    ),
    **dict.fromkeys(("fvalue", "f_pvalue", "f_statistic"), "fit.f_slopes"),
    "df_model": "len(fit.params)",
    "compare_lr_test": "fit.wald_test('x = 0, z = 0')",
    "forecast": "fit.get_prediction(rows)",
}


class OtherWords:
    """Says what the words of other programs for a part of results are here."""

    other_words: ClassVar[Mapping[str, str]] = {}

    def __getattr__(self, name: str) -> Any:
        if name in self.other_words:
            hint = spelled_here(name, self.other_words)
            raise AttributeError(
                f"{type(self).__name__} has no attribute {name!r}{hint}"
            )
        return object.__getattribute__(self, name)


def spelled_here(name: str, words: Mapping[str, str]) -> str:
    """A sentence on what an argument is here; may be empty."""
    return f". Here write {words[name]}" if name in words else ""


def check_weights(weights: object, table: pd.DataFrame) -> None:
    """
    Raise for a text that is neither a column nor the name of a variance function.

    Raises
    ------
    UnknownColumnError
    """
    several = weights if isinstance(weights, (list, tuple)) else [weights]
    known = {*table.columns, *table.index.names}
    for text in several:
        if not isinstance(text, str):
            continue
        found = resolve_variance(text)
        if isinstance(found, KnownWeights) and found.column not in known:
            raise UnknownColumnError(
                f"weights={text!r} is neither a column of the data nor a variance "
                f"function.{near_matches(text, table.columns)}{near_function(text)}"
            )
