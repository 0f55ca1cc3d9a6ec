"""Which Events a pass gives rise to. Pure but for what was said already: the same is not said twice in a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from vfio_ap.errors import Refusal
from vfio_ap.host.diff import HostChange, changes
from vfio_ap.host.view import HostView
from vfio_ap.host.wish import Adopt, Assign, Configure, Create, EditMask, Ours, Remove, SetMigratable
from vfio_ap_agent.apply import Outcome


@dataclass(frozen=True, slots=True)
class Said:
    """One Event."""

    kind: Literal["Normal", "Warning"]
    reason: str
    message: str


def found_changed(old: HostView | None, new: HostView, ours: Ours) -> list[Said]:
    """Return Events for what somebody else changed since the end of the last pass."""
    if old is None:
        return []
    said = []
    for change in changes(old, new):
        mine = change.subject in ours.mdevs
        if change.kind == "MdevChanged" and ours.mdevs.get(change.subject) is not None:
            continue  # whoever applies tells it, whenever it is found
        if change.kind in ("MdevMade", "MdevRemoved", "MdevChanged", "MdevFiltered"):
            said.append(device_changed(change, mine=mine))
        elif change.kind == "Masks":
            said.append(Said("Warning", "ForeignMaskEdit", f"{change} (not by this agent)"))
        elif change.kind == "Adapter":
            said.append(Said("Normal", "AdapterChanged", str(change)))
    return said


def device_changed(change: HostChange, *, mine: bool, moving: bool = False) -> Said:
    """Return the Event for a device that somebody else changed; in a move that is the kernel's business (L-11)."""
    reason = "ChangedInMove" if moving else "ForeignChange" if mine else "ForeignMdev"
    text = f"mdev {change} (not by this agent)"
    return Said("Warning" if mine and not moving else "Normal", reason, text)


class Announcer:
    """Turns outcomes into Events, each refusal once while it lasts."""

    def __init__(self) -> None:
        self._told: dict[str, Refusal] = {}

    def of(self, outcome: Outcome, names: Mapping[str, str], problems: tuple[Refusal, ...]) -> list[Said]:
        """Return the Events of a pass."""
        said = [item for step in outcome.done if (item := _done(step, names)) is not None]
        said += [Said("Warning", refusal.reason, str(refusal)) for _, refusal in outcome.failures]
        current = {
            report.uuid: report.note for report in outcome.reports if report.note and report.state != "Pending"
        }
        current |= {f"problem {number}": refusal for number, refusal in enumerate(problems)}
        fresh = [refusal for key, refusal in current.items() if self._told.get(key) != refusal]
        self._told = current
        return list(dict.fromkeys([*said, *(Said("Warning", r.reason, str(r)) for r in fresh)]))


def _done(step: object, names: Mapping[str, str]) -> Said | None:
    match step:
        case Create(uuid):
            return Said("Normal", "MdevMade", f"made mdev {uuid} of matrix {names.get(uuid, '')}")
        case Configure(uuid, matrix):
            return Said("Normal", "MdevConfigured", f"mdev {uuid} holds {matrix}")
        case Assign(uuid, file, number):
            return Said("Normal", "MdevConfigured", f"mdev {uuid}: {file} {number}")
        case SetMigratable(uuid, value):
            return Said("Normal", "MigratableSet", f"mdev {uuid}: migratable {int(value)}")
        case Remove(uuid):
            return Said("Normal", "MdevRemoved", f"removed mdev {uuid}")
        case Adopt(uuid, matrix):
            return Said("Normal", "MdevAdopted", f"took over mdev {uuid} with {matrix}")
        case EditMask(file, text):
            return Said("Normal", "MaskEdited", f"{file} {text}")
    return None
