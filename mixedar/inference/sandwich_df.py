"""
Degrees of freedom of cluster-robust tests.

References
----------
Bell, R. M. and McCaffrey, D. F. (2002), Bias reduction in standard errors for
linear regression with multi-stage samples, Survey Methodology 28, 169-181.

Pustejovsky, J. E. and Tipton, E. (2018), Small-sample methods for
cluster-robust variance estimation and hypothesis testing in fixed effects
models, Journal of Business and Economic Statistics 36, 672-683.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixedar.exceptions import NotComputedError
from mixedar.inference.contrasts import ContrastMethod, JointDF

__all__ = ["SandwichDF"]

FloatArray = NDArray[np.float64]


class SandwichDF(ContrastMethod):
    """
    Satterthwaite's approximation to the distribution of a robust variance.

    Single contrasts have Bell and McCaffrey's degrees of freedom, joint tests
    Hotelling's T-squared with Pustejovsky and Tipton's (HTZ).

    Parameters
    ----------
    sandwich : Sandwich
    """

    def __init__(self, sandwich: Any) -> None:
        self.sandwich = sandwich
        self.cov = sandwich.cov
        self.notes: list[str] = []

    def single(self, matrix: FloatArray) -> FloatArray:
        """See :meth:`ContrastMethod.single`."""
        return np.asarray(self.sandwich.satterthwaite(matrix))

    def joint(self, matrix: FloatArray, rank: int) -> JointDF:
        """
        See :meth:`ContrastMethod.joint`.

        Raises
        ------
        NotComputedError
            If there are too few groups for so many restrictions.
        """
        lengths = np.sqrt(np.einsum("cx,xy,cy->c", matrix, self.sandwich.bread, matrix))
        _, _, rows = np.linalg.svd(matrix / lengths[:, None], full_matrices=False)
        _, eta = self.sandwich.hotelling(rows[:rank])
        if not eta > rank - 1:
            raise NotComputedError(
                f"{rank} restrictions leave no degrees of freedom with "
                f"{self.sandwich.n_clusters} groups ({eta:.3g} for the covariance); "
                "test fewer at a time"
            )
        freedom = eta - rank + 1.0
        return JointDF(freedom, freedom / eta)
