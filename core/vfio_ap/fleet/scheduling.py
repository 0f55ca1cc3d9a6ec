"""Whether a pod may run on a node, as far as that can be said before the scheduler is asked.

Taints, node selector and required node affinity decide; resources and volumes are the scheduler's to judge, and a
pod that it cannot place gets another node prepared. An expression that is not understood counts as not fulfilled:
unknown is never yes. Semantics are those of the scheduler's NodeAffinity and TaintToleration plugins.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

_BLOCKING = ("NoSchedule", "NoExecute")


@dataclass(frozen=True, slots=True)
class Taint:
    """A taint of a node."""

    key: str
    effect: str
    value: str = ""


@dataclass(frozen=True, slots=True)
class Toleration:
    """A toleration of a pod; the empty key with ``Exists`` tolerates everything, the empty effect each."""

    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""

    def covers(self, taint: Taint) -> bool:
        """Tell whether it tolerates the taint."""
        if self.effect and self.effect != taint.effect:
            return False
        if self.operator == "Exists":
            return self.key in ("", taint.key)
        return self.operator == "Equal" and self.key == taint.key and self.value == taint.value


@dataclass(frozen=True, slots=True)
class Expression:
    """One expression of a node selector term."""

    key: str
    operator: str
    values: tuple[str, ...] = ()
    on_field: bool = False
    """It is about the field ``metadata.name`` and not about a label."""

    def holds(self, name: str, labels: Mapping[str, str]) -> bool:
        """Tell whether it is true of a node."""
        known = {"metadata.name": name} if self.on_field else labels
        found = known.get(self.key)
        match self.operator:
            case "In":
                return found is not None and found in self.values
            case "NotIn":
                return found not in self.values
            case "Exists":
                return found is not None
            case "DoesNotExist":
                return found is None
            case "Gt" | "Lt":
                return self._compares(found)
        return False

    def _compares(self, found: str | None) -> bool:
        try:
            left, right = int(found or ""), int(self.values[0])
        except (ValueError, IndexError):
            return False
        return left > right if self.operator == "Gt" else left < right


@dataclass(frozen=True, slots=True)
class Constraints:
    """Where a pod may run."""

    selector: Mapping[str, str] = field(default_factory=dict)
    terms: tuple[tuple[Expression, ...], ...] = ()
    """Required node affinity: one of the terms must hold, all expressions of it; none means anywhere."""
    tolerations: tuple[Toleration, ...] = ()

    def refusal(self, name: str, labels: Mapping[str, str], taints: tuple[Taint, ...]) -> str:
        """Return why the pod cannot run on a node, the empty text when nothing speaks against it."""
        for key, value in self.selector.items():
            if labels.get(key) != value:
                return f"the node has not the label {key}={value}"
        if self.terms and not any(term and all(e.holds(name, labels) for e in term) for term in self.terms):
            return "the node does not fulfil the pod's required node affinity"
        for taint in taints:
            if taint.effect in _BLOCKING and not any(t.covers(taint) for t in self.tolerations):
                return f"the node has the taint {taint.key}:{taint.effect}"
        return ""
