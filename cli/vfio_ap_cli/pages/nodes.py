"""Pages of ``kubectl ap nodes``."""

from __future__ import annotations

from collections.abc import Sequence

from vfio_ap_cli.pages import out
from vfio_ap_cli.pages.picture import drawn
from vfio_ap_cli.questions.nodes import KeyRow, NodeAnswer, NodeRow

_COLUMNS = ("NODE", "MACHINE", "LPAR", "ADAPTERS", "HOST", "GUEST", "MDEVS", "LIVE", "AGENT", "STATE")
_WIDE = ("KERNEL", "QUEUES BY", "KEY SETS", "MATRICES")
_MIGRATION = {"no": "no", "unknown": "not known before the node holds a device"}


def listing(rows: Sequence[NodeRow], *, wide: bool = False) -> str:
    """Return all nodes, one a line."""
    if not rows:
        return "no node has an AP bus that an agent has told of; see kubectl ap doctor"
    columns = (*_COLUMNS, *_WIDE) if wide else _COLUMNS
    return out.table(columns, (_cells(row, wide=wide) for row in rows), sentence=not wide)


def _cells(row: NodeRow, *, wide: bool) -> list[str]:
    cells = [
        row.name,
        row.machine if wide else _short(row.machine),
        row.lpar,
        row.adapters,
        str(row.host_queues),
        str(row.guest_queues),
        row.mdevs,
        row.live,
        row.agent,
        row.state,
    ]
    if wide:
        cells += [row.kernel, row.queue_control, str(row.key_sets), ",".join(row.matrices)]
    return cells


def _short(machine: str) -> str:
    """Return a machine's name without the zeros that fill its sequence code."""
    maker, _, sequence = machine.rpartition("-")
    return f"{maker}-{sequence.lstrip('0')}" if maker else machine


def one(answer: NodeAnswer) -> list[str]:
    """Return a node's page: what it is, its grid, its devices, its keys."""
    row, status = answer.row, answer.status
    control = {"Masks": "by masks", "DriverOverride": "by driver_override"}.get(
        status.kernel.queue_control, "unknown"
    )
    parts: list[str] = [
        out.facts(
            (
                ("node", row.name),
                (
                    "machine",
                    ", model ".join(part for part in (row.machine, status.machine.model) if part) or "unknown",
                ),
                ("LPAR", row.lpar or "unknown"),
                ("kernel", f"{row.kernel or 'unknown'}, queues leave the host {control}"),
                ("migration", _MIGRATION.get(row.live, f"live, {row.live} of the kernel's code")),
                ("maximum", _maximum(answer)),
                (
                    "host queues",
                    f"{row.host_queues} of {row.host_queues + row.guest_queues + status.driverless_queues}",
                ),
                ("reserved", "; ".join(answer.reserved)),
                ("moved along", _along(answer)),
                ("agent", f"{row.agent}, version {status.agent_version or 'unknown'}"),
                ("state", row.state),
            )
        )
    ]
    parts += ["\n".join(out.folded(sentence)) for sentence in answer.conditions]
    users = {device.uuid: device.user for device in answer.devices}
    parts += [out.heading("adapters x domains"), drawn(status, users, out.width()).rstrip("\n")]
    if answer.devices:
        cells = (
            (d.matrix or "-", d.uuid, d.adapters, d.domains, d.state, _use(d.user, d.in_use), d.message)
            for d in answer.devices
        )
        columns = ("MATRIX", "UUID", "ADAPTERS", "DOMAINS", "STATE", "USED BY", "MESSAGE")
        parts += [out.heading("devices"), out.table(columns, cells, sentence=True)]
    if answer.keys:
        parts += [out.heading("master keys"), *_keys(answer.keys)]
    return parts


def _maximum(answer: NodeAnswer) -> str:
    kernel = answer.status.kernel
    return "" if kernel.max_adapter is None else f"adapter {kernel.max_adapter}, domain {kernel.max_domain}"


def _use(user: str, in_use: bool) -> str:
    return user or ("a guest" if in_use else "-")


def _along(answer: NodeAnswer) -> str:
    """Return what left the host although nobody wants it, and whether less would do."""
    masks = answer.status.masks
    if not masks.along_count:
        return ""
    queues = "; ".join(f"adapter {row.adapter} domains {row.domains}" for row in masks.along)
    bound = "no masks release fewer" if masks.exact else f"no masks release fewer than {masks.at_least} in all"
    count = "1 queue" if masks.along_count == 1 else f"{masks.along_count} queues"
    return f"{count} left the host with the wanted ones ({bound}): {queues or 'too many to list'}"


def _keys(keys: Sequence[KeyRow]) -> list[str]:
    """Return who holds which set, and what the sets are: each register that holds a key."""
    holders = out.table(
        ("ADAPTER", "TYPE", "SERIAL", "DOMAINS", "SET", "READ"),
        ((str(k.adapter), k.type, k.serial, k.domains, k.set, k.sampled or "now") for k in keys),
    )
    sets = {key.set: key.patterns for key in keys}
    registers = [
        (name, register, pattern)
        for name, patterns in sets.items()
        for register, pattern in patterns.items()
        if pattern != "empty"
    ]
    return ["\n".join((holders, "", out.table(("SET", "REGISTER", "VERIFICATION PATTERN"), registers)))]
