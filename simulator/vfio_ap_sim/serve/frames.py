"""Frames of ``vfio_ap.host.ops`` over asyncio streams."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from vfio_ap.host.ops import decode_body, encode_frame, frame_length

_HEADER = 4


async def receive(reader: asyncio.StreamReader) -> dict[str, Any] | None:
    """Return the next message, or None at the end of the stream. Raises WireError."""
    try:
        header = await reader.readexactly(_HEADER)
        return decode_body(await reader.readexactly(frame_length(header)))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


async def send(writer: asyncio.StreamWriter, message: Mapping[str, Any]) -> None:
    """Send one message and wait until the other side keeps up. Raises ConnectionError when it is gone."""
    writer.write(encode_frame(message))
    await writer.drain()
