"""The conditions of an APNode and the one word of its State column. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from vfio_ap.errors import Refusal
from vfio_ap.host.release import HOST_RESERVED
from vfio_ap.host.report import MdevReport
from vfio_ap.host.view import HostView

_LONGEST = 2000


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known about node and wish at the end of a pass."""

    view: HostView | None
    """The host as read back; None when it could not be read."""
    reports: tuple[MdevReport, ...] = ()
    problems: tuple[Refusal, ...] = ()
    """What is wrong with spec, state directory or the pass as a whole."""
    unreadable: Refusal | None = None
    """Why there is no view."""
    stuck: Refusal | None = None
    """Which file did not answer, and for how long."""
    wished: bool = True
    """Whether anybody has written a wish yet."""


def conditions(facts: Facts, generation: int) -> list[dict[str, Any]]:
    """Return Ready, Applied, SysfsResponsive and DriverLoaded, without their transition times."""
    found = [_ready(facts), _applied(facts), _responsive(facts), _driver(facts)]
    return [{**condition, "observedGeneration": generation} for condition in found]


def state(facts: Facts) -> str:
    """Return one word, with the reason in parentheses where there is one."""
    ready, applied = _ready(facts), _applied(facts)
    if ready["status"] != "True":
        return f"NotReady ({ready['reason']})"
    if applied["status"] == "False":
        return f"Degraded ({applied['reason']})"
    return "Ready"


def _condition(
    kind: str, status: Literal["True", "False", "Unknown"], reason: str, message: str = ""
) -> dict[str, Any]:
    return {"type": kind, "status": status, "reason": reason, "message": message[:_LONGEST]}


def _ready(facts: Facts) -> dict[str, Any]:
    """Tell whether the node can hold matrices; a single device that cannot be made does not make it unready."""
    for problem in (facts.stuck, facts.unreadable):
        if problem is not None:
            return _condition("Ready", "False", problem.reason, str(problem))
    if facts.view is None:
        return _condition("Ready", "Unknown", "NotReadYet", "the host has not been read yet")
    if not facts.view.kernel.vfio_ap:
        return _condition("Ready", "False", "DriverNotLoaded", "vfio_ap is not loaded; modprobe vfio_ap")
    return _condition("Ready", "True", "Ready")


def _applied(facts: Facts) -> dict[str, Any]:
    if facts.view is None:
        return _condition(
            "Applied", "Unknown", "NotReadYet", "nothing is changed while the host cannot be read whole"
        )
    if not facts.wished:
        return _condition("Applied", "Unknown", "NoSpec", "nobody has written spec.mdevs yet")
    if facts.problems:
        return _condition("Applied", "False", facts.problems[0].reason, _joined(facts.problems))
    unmet = [report for report in facts.reports if report.state not in ("Ready", "Foreign")]
    notes = [report.note for report in unmet if report.note is not None]
    # A device that stands keeps what was reserved later, maybe for a guest: Ready, but the wish is not met.
    notes += [r.note for r in facts.reports if r.state == "Ready" and r.note and r.note.reason == HOST_RESERVED]
    if notes:
        return _condition("Applied", "False", notes[0].reason, _joined(notes))
    if unmet:
        return _condition("Applied", "False", unmet[0].state, f"{unmet[0].uuid} is {unmet[0].state.lower()}")
    return _condition("Applied", "True", "Applied")


def _joined(refusals: Iterable[Refusal]) -> str:
    return "; ".join(dict.fromkeys(str(refusal) for refusal in refusals))


def _responsive(facts: Facts) -> dict[str, Any]:
    if facts.stuck is not None:
        return _condition("SysfsResponsive", "False", facts.stuck.reason, str(facts.stuck))
    return _condition("SysfsResponsive", "True", "Responsive")


def _driver(facts: Facts) -> dict[str, Any]:
    if facts.view is None:
        return _condition("DriverLoaded", "Unknown", "NotReadYet")
    if facts.view.kernel.vfio_ap:
        return _condition("DriverLoaded", "True", "Loaded")
    return _condition("DriverLoaded", "False", "DriverNotLoaded", "vfio_ap is not loaded; modprobe vfio_ap")
