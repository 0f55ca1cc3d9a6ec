"""One connection that speaks the wire form of ``vfio_ap.host.ops``: batches out, results in."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any

from vfio_ap.host.ops import (
    Op,
    Result,
    WireError,
    decode_body,
    encode_frame,
    frame_length,
    op_to_wire,
    result_from_wire,
)


class Connection:
    """A reader and a writer; one batch at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._ids = itertools.count(1)

    async def exchange(self, ops: Sequence[Op]) -> list[Result]:
        """Send a batch and return its results. Raises ConnectionError: gone, or talks nonsense."""
        number = next(self._ids)
        self._writer.write(encode_frame({"id": number, "ops": [op_to_wire(op) for op in ops]}))
        await self._writer.drain()
        answer = await self.message()
        results = answer.get("results")
        if answer.get("id") != number or not isinstance(results, list) or len(results) != len(ops):
            raise ConnectionError("the host's answer does not fit the question")
        try:
            return [result_from_wire(item) for item in results]
        except WireError as error:
            raise ConnectionError(str(error)) from None

    async def subscribe(self, what: str) -> None:
        """Make this connection carry events from now on. Raises ConnectionError."""
        self._writer.write(encode_frame({"subscribe": what}))
        await self._writer.drain()
        if await self.message() != {"subscribed": what}:
            raise ConnectionError(f"the host does not offer {what}s")

    async def message(self) -> dict[str, Any]:
        """Return the next message. Raises ConnectionError."""
        try:
            length = frame_length(await self._reader.readexactly(4))
            return decode_body(await self._reader.readexactly(length))
        except (asyncio.IncompleteReadError, WireError) as error:
            raise ConnectionError(f"the host's end is gone: {error}") from None

    def close(self) -> None:
        """Drop the connection."""
        self._writer.close()
