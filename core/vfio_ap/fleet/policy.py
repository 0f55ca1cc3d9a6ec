"""Which policy stands for a matrix, and what it says of waits, budgets and failures.

A matrix without a policy has the defaults. Nothing here decides where a VM goes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from vfio_ap.errors import Refusal
from vfio_ap.fleet.views import MatrixView


@dataclass(frozen=True, slots=True)
class Budgets:
    """How many evacuations may be under way at once."""

    per_source: int = 2
    per_target: int = 2
    cluster: int = 5


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds after which a wait is given up."""

    prepare: float = 180.0
    hold: float = 300.0


@dataclass(frozen=True, slots=True)
class PolicyView:
    """One APMigrationPolicy; without a name, the defaults."""

    name: str = ""
    selector: Mapping[str, str] = field(default_factory=dict)
    """Labels of the matrices that it is for."""
    modes: tuple[Literal["Live", "Reattach", "Restart"], ...] = ("Live",)
    adapter_type: Literal["SameOrNewer", "Same"] = "SameOrNewer"
    master_keys: Literal["Require", "Warn", "Ignore"] = "Warn"
    evacuation: Literal["Operator", "KubeVirt"] = "Operator"
    budgets: Budgets = field(default_factory=Budgets)
    limits: Limits = field(default_factory=Limits)
    retries: bool = True
    """A failed evacuation is tried again."""
    keep_source: float = 0.0
    """Seconds that the source keeps its device after a move."""
    invalid: Refusal | None = None
    """Why its spec makes no sense; it then stands for nothing."""
    created: str = ""

    def selects(self, matrix: MatrixView) -> bool:
        """Tell whether it is for the matrix."""
        return all(matrix.labels.get(key) == value for key, value in self.selector.items())

    def rank(self) -> tuple[int, str, str]:
        """Return what orders policies for one matrix; the smallest stands."""
        return (-len(self.selector), self.created, self.name)


def policy_of(matrix: MatrixView, policies: Iterable[PolicyView], default: PolicyView) -> PolicyView:
    """Return the policy that stands for the matrix, ``default`` where none selects it."""
    found = [p for p in policies if p.invalid is None and p.selects(matrix)]
    return min(found, key=PolicyView.rank, default=default)


def overruled(
    policy: PolicyView, matrices: Iterable[MatrixView], policies: Iterable[PolicyView]
) -> Refusal | None:
    """Return why a policy stands for nothing, or None when it does stand for a matrix or is harmlessly unused.

    Two policies with equally many labels that select the same matrices contradict each other where they say
    different things; the older one stands.
    """
    if policy.invalid is not None:
        return policy.invalid
    mine = [matrix for matrix in matrices if policy.selects(matrix)]
    if not mine:
        return Refusal("SelectsNothing", policy.name, "no APMatrix has the labels of spec.selector", "label one")
    everyone = list(policies)
    winners = {policy_of(matrix, everyone, policy).name for matrix in mine}
    if policy.name in winners:
        return None
    first = sorted(winners)[0]
    text = f"all {len(mine)} matrices that it selects are under another policy, {first} among them"
    return Refusal("Overruled", policy.name, text, "delete one of the two, or let this one select by more labels")
