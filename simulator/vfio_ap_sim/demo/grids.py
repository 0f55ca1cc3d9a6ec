"""A node's grid as its administrator would see it: by the agent's own command, on the node's files."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from vfio_ap_sim.cluster import SimNode

_AGENT = Path(sys.executable).parent / "vfio-ap-agent"


async def grid(node: SimNode) -> str:
    """Return what ``vfio-ap-agent inventory`` prints for the node. Raises RuntimeError."""
    process = await asyncio.create_subprocess_exec(
        _AGENT,
        "inventory",
        "--sysfs",
        f"unix:{node.socket}",
        "--state-dir",
        str(node.state),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"vfio-ap-agent inventory ended with {process.returncode}: {errors.decode().strip()}")
    return output.decode()
