"""One real control plane for all cluster tests of a run."""

import os
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from vfio_ap_sim.controlplane import BinaryUnavailableError, ControlPlane


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def control_plane() -> AsyncIterator[ControlPlane]:
    """A running control plane, shared: use a namespace of your own. Its methods work in any test's loop.

    Where its binaries cannot be had the tests are skipped, except in CI, where that is a failure.
    """
    plane = ControlPlane()
    try:
        await plane.start()
    except BinaryUnavailableError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    try:
        yield plane
    finally:
        await plane.stop()
