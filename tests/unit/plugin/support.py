"""What the tests of the device plugin share."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from vfio_ap_agent.plugin import Grant, PluginSet

UUID = "11111111-2222-3333-4444-555555555555"
PAYMENTS = Grant("ap.s390x.io/payments", UUID, "7", True)


class Bell:
    """Rings on every change; ``until`` waits for a condition without a clock of its own."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self.heard: list[str] = []

    def ring(self, what: str = "") -> None:
        self.heard.append(what)
        self._event.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                self._event.clear()
                await self._event.wait()


@asynccontextmanager
async def running(plugins: PluginSet) -> AsyncIterator[PluginSet]:
    task = asyncio.create_task(plugins.run())
    try:
        yield plugins
    finally:
        await plugins.close()
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled() and (error := task.exception()):
            raise error


async def agree(grant: Grant) -> Grant:
    return grant


def pod(uid: str = "uid-1", resource: str = PAYMENTS.resource, name: str = "launcher") -> dict:
    limits = {"limits": {resource: "1", "cpu": "1"}}
    return {
        "metadata": {"namespace": "payments", "name": name, "uid": uid},
        "spec": {"containers": [{"name": "compute", "resources": limits}]},
    }
