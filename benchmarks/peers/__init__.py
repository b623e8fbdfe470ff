"""One adapter module per rival; the order is the order of the report.

Mixed models, those of several factors, residual structures and panel regressions
have rivals of their own; mixedar is in all.
"""

from __future__ import annotations

from benchmarks.panel_problems import PANEL_WORKLOADS
from benchmarks.peers import (
    bambi,
    glmm,
    glmmtmb,
    gpboost,
    interlace_lme,
    linearmodels,
    lme4,
    lme_python,
    mgcv,
    mixedar,
    mixedar_panel,
    mixedlm,
    mixedlm_rs,
    nlme,
    plm,
    statsmodels_mixedlm,
)
from benchmarks.peers.base import Peer
from benchmarks.problems import LEVELS_RIVALS, PLAIN, SMOOTHS
from benchmarks.related_problems import RELATED_WORKLOADS
from benchmarks.structure_problems import MANY_WAVES, STRUCTURE_WORKLOADS

__all__ = [
    "PANEL_PEERS",
    "PEERS",
    "PLAIN_PEERS",
    "SMOOTH_PEERS",
    "STRUCTURE_PEERS",
    "peers_of",
]

PEERS: dict[str, Peer] = {
    module.PEER.name: module.PEER
    for module in (
        mixedar,
        nlme,
        glmmtmb,
        interlace_lme,
        lme4,
        mixedlm_rs,
        mixedlm,
        statsmodels_mixedlm,
    )
}

PANEL_PEERS: dict[str, Peer] = {
    module.PEER.name: module.PEER for module in (mixedar_panel, linearmodels, plm)
}

#: Those of models with independent residuals, which all of them fit.
PLAIN_PEERS: dict[str, Peer] = PEERS | {
    module.PEER.name: module.PEER for module in (glmm, lme_python, gpboost, bambi)
}

#: Those with smooths.
SMOOTH_PEERS: dict[str, Peer] = {"mixedar": mixedar.PEER, "mgcv": mgcv.PEER}

#: Those with residual structures beyond AR(1); the others have nothing like them.
STRUCTURE_PEERS: dict[str, Peer] = {
    name: PEERS[name] for name in ("mixedar", "nlme", "glmmTMB")
}


def peers_of(workload: str) -> dict[str, Peer]:
    """The adapters that know what a workload asks for.

    Parameters
    ----------
    workload : str
        Key of the workload.

    Returns
    -------
    dict of str to Peer
    """
    if workload in LEVELS_RIVALS:
        names = ("mixedar", *LEVELS_RIVALS[workload])
        return {name: PEERS[name] for name in names}
    if workload in STRUCTURE_WORKLOADS:
        if STRUCTURE_WORKLOADS[workload].waves >= MANY_WAVES:
            return {"mixedar": mixedar.PEER}
        return STRUCTURE_PEERS
    if workload in PLAIN:
        return PLAIN_PEERS
    if workload in SMOOTHS:
        return SMOOTH_PEERS
    if workload in RELATED_WORKLOADS:
        return {"mixedar": mixedar.PEER}
    return PANEL_PEERS if workload in PANEL_WORKLOADS else PEERS
