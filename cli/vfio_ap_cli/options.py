"""Options that commands share, and what the user chose by them. No I/O; light, because --help imports it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import click

_KEY = "vfio_ap_cli.settings"
"""Of click's notes that a command shares with its group."""
Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Settings:
    """Where to look and how to show it."""

    kubeconfig: str = ""
    context: str = ""
    namespace: str = ""
    """Empty: the context's own."""
    snapshot: str = ""
    """A must-gather or a folder of YAML to look at instead of a cluster."""
    output: str = "text"
    """``text``, ``wide``, ``name``, ``json`` or ``yaml``."""


def _note(name: str) -> Callable[[click.Context, click.Parameter, str], str]:
    """Return a callback that keeps the option's value for ``settings``."""

    def keep(context: click.Context, _: click.Parameter, value: str) -> str:
        if value:
            context.meta[_KEY] = replace(settings(context), **{name: value})
        return value

    return keep


def _option(name: str, *declarations: str, **more: Any) -> Callable[[Command], Command]:  # noqa: ANN401
    return click.option(*declarations, name, expose_value=False, callback=_note(name), **more)


def cluster(command: Command) -> Command:
    """Add the options that say which cluster, and which namespace."""
    for option in (
        _option("namespace", "-n", "--namespace", metavar="NAME", help="Namespace; the context's by default."),
        _option(
            "context", "--context", metavar="NAME", help="Context of the kubeconfig; the current one by default."
        ),
        _option(
            "kubeconfig",
            "--kubeconfig",
            metavar="FILE",
            help="Kubeconfig; $KUBECONFIG or ~/.kube/config by default.",
        ),
    ):
        command = option(command)
    return command


def offline(command: Command) -> Command:
    """Add the option that looks at files instead of a cluster."""
    return _option(
        "snapshot",
        "--snapshot",
        metavar="FILE|DIR",
        help="Look at a must-gather, or at a folder of YAML, and not at a cluster.",
    )(command)


def output(*forms: str) -> Callable[[Command], Command]:
    """Add ``-o`` with these forms beside the plain text."""
    return _option(
        "output",
        "-o",
        "--output",
        type=click.Choice(["text", *forms]),
        help=f"Form of the answer: {', '.join(forms)}.",
    )


def settings(context: click.Context) -> Settings:
    """Return what the user chose."""
    found = context.meta.get(_KEY)
    return found if isinstance(found, Settings) else Settings()
