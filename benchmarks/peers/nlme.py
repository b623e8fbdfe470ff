"""nlme (R): the reference for residual structures with random effects."""

from __future__ import annotations

from benchmarks.peers.base import Facts
from benchmarks.peers.rpeer import RPeer

#: nlme forms an n x n correlation factor a cluster; R indexes it by integers.
_LARGEST = 10_000


class NLME(RPeer):
    """``lme`` with ``corAR1`` or ``corCAR1`` and its default optimiser.

    Without random effects ``gls``, with ``corSymm`` and ``varIdent`` or ``corARMA``.

    Where that fails on a single fit, only the time of ``opt = "optim"`` counts
    and the report says so; in a series of refits a failure is counted.
    """

    name = "nlme"
    package = "nlme"
    residuals = ("ar1", "car1", "un", "arma11")

    def refuse(self, facts: Facts) -> str | None:
        """Clusters that are too long for a dense factor each."""
        if facts.largest_cluster <= _LARGEST:
            return None
        gigabytes = 8 * facts.clusters * facts.largest_cluster**2 / 2**30
        return f"forms an n x n factor a cluster: {gigabytes:,.0f} GiB in all"


PEER = NLME()
