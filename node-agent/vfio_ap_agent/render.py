"""Texts of the command line for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from vfio_ap.errors import Refusal
from vfio_ap.host import grid
from vfio_ap.host.release import Release
from vfio_ap.host.report import MdevReport
from vfio_ap.host.view import HostView
from vfio_ap.host.wish import (
    Adopt,
    Assign,
    Configure,
    Create,
    EditMask,
    Override,
    Probe,
    Refilter,
    Remove,
    SetMigratable,
    Step,
    Unbind,
)
from vfio_ap.matrix import Matrix

_HANDOVER = {"Masks": "by masks", "DriverOverride": "by driver_override", "Unknown": "unknown"}


def inventory(view: HostView, names: Mapping[str, str], width: int) -> str:
    """Return a host on one screen."""
    kernel = view.kernel
    migration = {"no": "no live migration", "unknown": "live migration unknown"}
    facts = [
        ("machine", view.machine.id or "unknown"),
        ("LPAR", view.machine.lpar or "unknown"),
        ("kernel", f"{kernel.release}, {'vfio_ap loaded' if kernel.vfio_ap else 'vfio_ap NOT loaded'}"
         f", {migration.get(kernel.live_migration, f'live migration {kernel.live_migration}')}"),
        ("maximum", f"adapter {kernel.max_adapter}, domain {kernel.max_domain}"),
        ("handover", _HANDOVER[kernel.queue_control]),
        ("apmask", _mask(view.masks.adapters, "adapters")),
        ("aqmask", _mask(view.masks.domains, "domains")),
        ("control", str(view.present.control_domains) or "none"),
        ("bindings", view.bindings),
    ]  # fmt: skip
    head = "\n".join(f"{name:<9} {value}" for name, value in facts)
    return f"{head}\n\n{grid.render(view, width=width, names=names)}"


def _mask(ids: object, what: str) -> str:
    text = str(ids)
    return "everything is the host's" if text == "0-255" else f"the host's {what}: {text or 'none'}"


def steps(plan: Iterable[Step], *, done: bool = False) -> str:
    """Return the steps, numbered, each with what it is for."""
    lines = [f"{number:>3}. {_step(step)}" for number, step in enumerate(plan, 1)]
    if lines:
        return "\n".join([("done:" if done else "to do:"), *lines])
    return "nothing was to be done" if done else "nothing to do"


def _step(step: Step) -> str:
    match step:
        case Adopt(uuid, matrix):
            return f"adopt   {uuid}  {matrix}"
        case Remove(uuid):
            return f"remove  {uuid}"
        case EditMask(file, text, _, release):
            return f"{file}  {text}  ({'leave the host' if release else 'back to the host'})"
        case SetMigratable(uuid, value):
            return f"write   {uuid}  migratable {int(value)}"
        case Override(apqn, driver):
            return f"write   {apqn}  driver_override {driver or 'cleared'}"
        case Unbind(apqn, driver):
            return f"unbind  {apqn}  from {driver}"
        case Probe(apqn, driver):
            return f"probe   {apqn}  for {driver}"
        case Create(uuid):
            return f"create  {uuid}"
        case Configure(uuid, matrix):
            control = f", control {matrix.control_domains}" if matrix.control_domains else ""
            return f"write   {uuid}  {matrix}{control}"
        case Refilter(uuid, matrix):
            return f"again   {uuid}  {matrix}"
        case Assign(uuid, file, number):
            return f"write   {uuid}  {file} {number}"


def reports(found: Iterable[MdevReport]) -> str:
    """Return one line per device, and its reason under it."""
    lines = []
    for item in found:
        use = "  in use" if item.in_use else ""
        holds = item.matrix if item.matrix != Matrix() else "empty"
        lines.append(f"{item.state:<11} {item.uuid}  {item.name or '-'}  {holds}{use}")
        if item.note is not None:
            note = replace(item.note, subject="") if item.note.subject == item.uuid else item.note
            lines.append(f"{'':<11} {note.reason}: {note}")
    return "\n".join(lines) or "no mediated devices"


def release(found: Release | None) -> str:
    """Return what the masks cost, empty where nothing is released along."""
    if found is None or not found.along:
        return ""
    rows = "; ".join(f"adapter {adapter} domains {domains}" for adapter, domains in found.along)
    bound = "no masks release fewer" if found.exact else f"no masks release fewer than {found.at_least} in all"
    queues = "queue leaves" if found.along_count == 1 else "queues leave"
    return f"{found.along_count} {queues} the host along with the wanted ones ({bound}): {rows}"


def refusal(found: Refusal) -> str:
    """Return a refusal as one line with its reason."""
    return f"{found.reason}: {found}"
