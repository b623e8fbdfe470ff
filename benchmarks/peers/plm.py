"""plm (R): the reference for panel regressions."""

from __future__ import annotations

from typing import ClassVar

from benchmarks.panel_problems import REPLICATES
from benchmarks.peers.base import Job
from benchmarks.peers.panel import PanelPeer
from benchmarks.peers.rpeer import RPeer
from benchmarks.specs import PanelSpec

#: Replicates of the bootstrap that are done; 999 would take hours.
_DONE = 2
_AUGMENTED = (
    'plm(model="random") with Between(x) added, vcovHC(type="sss"); Wald test by hand'
)


class PLM(PanelPeer, RPeer):
    """plm with its fast mode (collapse), as it is by default."""

    name = "plm"
    package = "plm"
    script = "plm.R"
    stands_on = ("collapse",)
    computes: ClassVar[dict[str, str]] = {
        "fe": 'plm(model="within"), summary; no constant',
        "re": 'plm(model="random"), summary',
        "hausman": 'phtest(method="aux", vcov=vcovHC(type="sss"))',
        "hausman_mundlak": _AUGMENTED,
        "mundlak": _AUGMENTED,
        "bootstrap": "by hand: a loop that draws entities and fits within and random; "
        f"{_DONE} of {REPLICATES} turns done, times scaled up",
    }

    def arguments(self, job: Job) -> dict[str, object]:
        """The task and the regressors."""
        model = job.facts.model
        if not isinstance(model, PanelSpec):
            raise TypeError(f"{self.name} fits panel regressions only")
        return {
            "task": model.task,
            "regressors": " ".join(model.fixed),
            "done": _DONE,
            "replicates": REPLICATES,
        }


PEER = PLM()
