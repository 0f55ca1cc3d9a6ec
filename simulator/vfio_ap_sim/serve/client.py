"""Asking a running simulator over its control socket."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vfio_ap_sim.kernel import ControlError
from vfio_ap_sim.serve.frames import receive, send


async def ask(control: Path, verb: str, arguments: Mapping[str, Any]) -> Any:  # noqa: ANN401  # any JSON
    """Carry out a verb and return its result. Raises ControlError with the simulator's reason."""
    try:
        reader, writer = await asyncio.open_unix_connection(control)
    except OSError as error:
        raise ControlError(f"no simulator answers at {control}: {error.strerror or error}") from None
    try:
        await send(writer, {"verb": verb, "arguments": dict(arguments)})
        answer = await receive(reader)
    finally:
        writer.close()
    if answer is None:
        raise ControlError(f"the simulator at {control} closed the connection")
    if "error" in answer:
        raise ControlError(answer["error"])
    return answer.get("result")
