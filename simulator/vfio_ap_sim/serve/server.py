"""A machine in real time; its files on one unix socket, its control verbs on another, each where wanted."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeAlias

from vfio_ap.host import ops as hostops
from vfio_ap_sim.kernel import Control, ControlError, SysfsError, finished
from vfio_ap_sim.kernel.host import follow
from vfio_ap_sim.kernel.tasks import Task
from vfio_ap_sim.serve import sockets
from vfio_ap_sim.serve.frames import receive, send
from vfio_ap_sim.serve.realtime import RealTime
from vfio_ap_sim.serve.verbs import VERBS

_TURN = 64
"""Operations of one batch that are done before other connections get their turn."""
Handler: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


class Simulator:
    """One machine on the air. ``async with`` starts and stops it."""

    def __init__(self, control: Control, files: Path | None = None, verbs: Path | None = None) -> None:
        self.control = control
        self._files = files
        self._verbs = verbs
        self._stack = contextlib.AsyncExitStack()
        self.time: RealTime
        """Its clock, while it is on the air."""

    async def __aenter__(self) -> Simulator:
        self.time = RealTime(self.control.kernel)
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(_running(self.time.run()))
            if self._files is not None:
                await stack.enter_async_context(_listening(self._files, self._serve_files))
            if self._verbs is not None:
                await stack.enter_async_context(_listening(self._verbs, self._serve_verbs))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    # -- files

    async def _serve_files(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry out a connection's batches in order; when it ends, so does what it waits for."""
        first = await receive(reader)
        if first is None:
            return
        if "subscribe" in first:
            await self._publish(first["subscribe"], reader, writer)
            return
        batches: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        batches.put_nowait(first)
        async with _running(self._work(batches, writer)):
            while (message := await receive(reader)) is not None:
                batches.put_nowait(message)

    async def _work(self, batches: asyncio.Queue[dict[str, Any]], writer: asyncio.StreamWriter) -> None:
        comm, pid = _peer(writer)
        while True:
            message = await batches.get()
            try:
                ops = [hostops.op_from_wire(item) for item in message["ops"]]
            except (hostops.WireError, KeyError, TypeError) as error:
                await send(writer, {"id": message.get("id"), "error": f"not a batch: {error}"})
                continue
            results = []
            for number, op in enumerate(ops):
                if number % _TURN == _TURN - 1:
                    await asyncio.sleep(0)
                self.time.sync()
                task = self.control.kernel.submit(op, comm=comm, pid=pid)
                self.time.sync()
                results.append(hostops.result_to_wire(await finished(task)))
            await send(writer, {"id": message.get("id"), "results": results})

    async def _publish(self, what: object, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        kernel = self.control.kernel
        messages: AsyncIterator[dict[str, Any]]
        match what:
            case "uevent":
                messages = _as_messages("uevent", follow(kernel.uevents), lambda event: dict(event.variables))
            case "kmsg":
                messages = _as_messages("kmsg", follow(kernel.log), hostops.kmsg_to_wire)
            case _:
                await send(writer, {"error": f"cannot subscribe to {what!r}; there are uevent and kmsg"})
                return
        await send(writer, {"subscribed": what})
        async with _running(_forward(messages, writer)):
            await reader.read()

    # -- verbs

    async def _serve_verbs(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (message := await receive(reader)) is not None:
            self.time.sync()
            try:
                answer = {"result": await self._perform(message)}
            except (ControlError, SysfsError) as error:
                answer = {"error": str(error)}
            await send(writer, answer)

    async def _perform(self, message: dict[str, Any]) -> object:
        verb = VERBS.get(message.get("verb", ""))
        if verb is None:
            raise ControlError(f"no verb {message.get('verb')!r}; there are {', '.join(VERBS)}")
        given = message.get("arguments", {})
        values = {}
        for argument in verb.arguments:
            values[argument.name] = given.get(argument.name, False if argument.kind is bool else None)
            if values[argument.name] is None and not argument.optional:
                raise ControlError(f"{verb.name} needs {argument.name}: {argument.help}")
        outcome = verb.run(self.control, values)
        self.time.sync()
        return await finished(outcome) if isinstance(outcome, Task) else outcome


async def _forward(messages: AsyncIterator[dict[str, Any]], writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        async for message in messages:
            await send(writer, message)


async def _as_messages(
    key: str, items: AsyncIterator[Any], to_wire: Callable[[Any], dict[str, Any]]
) -> AsyncIterator[dict[str, Any]]:
    async for item in items:
        yield {key: to_wire(item)}


@contextlib.asynccontextmanager
async def _running(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run something in the background while the block lasts."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, ConnectionError):
            await task


@contextlib.asynccontextmanager
async def _listening(path: Path, handler: Handler) -> AsyncIterator[None]:
    """Serve a unix socket, for its owner only, while the block lasts."""
    connections: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        try:
            with contextlib.suppress(ConnectionError, hostops.WireError, asyncio.CancelledError):
                await handler(reader, writer)
        finally:
            connections.discard(task)
            writer.close()

    server = await asyncio.start_unix_server(serve, sock=sockets.listen(path))
    try:
        yield
    finally:
        server.close()
        for task in tuple(connections):
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        sockets.remove(path)


def _peer(writer: asyncio.StreamWriter) -> tuple[str, int]:
    """Return command and process id of the client, as the kernel log shall name them."""
    connection = writer.get_extra_info("socket")
    pid, _, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip(), pid
    except OSError:
        return "agent", pid or os.getpid()
