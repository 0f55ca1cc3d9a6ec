"""Names of objects as people type them: ``apm/payments``, ``vm/ledger``; and their completion. Light."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from vfio_ap_cli.options import settings

KINDS = {
    "APMatrix": ("apmatrix", "apmatrices", "apm"),
    "APNode": ("apnode", "apnodes", "apn"),
    "APMigration": ("apmigration", "apmigrations", "apmig"),
    "APMigrationPolicy": ("apmigrationpolicy", "apmigrationpolicies", "apmp"),
    "VirtualMachine": ("vm", "vms", "virtualmachine", "virtualmachines"),
    "VirtualMachineInstance": ("vmi", "vmis", "virtualmachineinstance", "virtualmachineinstances"),
    "Pod": ("pod", "pods", "po"),
}
"""Kinds that can be named, with the words for each; the first is used in texts."""


def kind_of(word: str) -> str:
    """Return the kind that a word stands for, the empty text for none."""
    lower = word.lower().removesuffix(".ap.s390x.io").removesuffix(".kubevirt.io")
    return next((kind for kind, words in KINDS.items() if lower in words), "")


def word_of(kind: str) -> str:
    """Return the short word for a kind."""
    return KINDS[kind][0]


def split(text: str, default: str = "") -> tuple[str, str]:
    """Return kind and name of ``kind/name``. Raises click.BadParameter."""
    word, slash, name = text.partition("/")
    if not slash:
        word, name = default and word_of(default), text
    kind = kind_of(word)
    if not kind or not name or "/" in name:
        known = ", ".join(f"{words[0]}/NAME" for words in KINDS.values())
        raise click.BadParameter(f"{text!r} is not an object; write one of {known}")
    return kind, name


def complete(*kinds: str, prefixed: bool = False) -> Callable[[click.Context, click.Parameter, str], list[Any]]:
    """Return a completer of the names of these kinds, as ``kind/name`` where ``prefixed``."""

    def found(context: click.Context, _: click.Parameter, begun: str) -> list[Any]:
        from vfio_ap_cli.reading.names import names

        words = [word_of(kind) + "/" for kind in kinds]
        if prefixed and "/" not in begun:
            return [word for word in words if word.startswith(begun)]
        kind = kind_of(begun.partition("/")[0]) if prefixed else kinds[0]
        prefix = begun.partition("/")[0] + "/" if prefixed else ""
        return [
            prefix + name
            for name in (names(settings(context), kind) if kind in kinds else ())
            if (prefix + name).startswith(begun)
        ]

    return found
