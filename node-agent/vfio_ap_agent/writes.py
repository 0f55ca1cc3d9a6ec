"""One step of a plan, carried out and read back.

Each function writes once and returns when the kernel shows what was meant; anything else raises RefusedError with
the kernel's meaning. Whether the step is right is the planner's business; that a removal hits an idle device is
proven here once more, right before the write (V-36).
"""

from __future__ import annotations

from vfio_ap.errors import Refusal, RefusedError
from vfio_ap.host import failures as hosterrors
from vfio_ap.host.ops import Failed, HostOps, Link, List, Read, Write, Written
from vfio_ap.host.view import GUEST_DRIVER, HostView, MdevView
from vfio_ap.host.wish import Assign, Configure, Create, EditMask, Override, Probe, Remove, SetMigratable, Unbind
from vfio_ap.idset import IdSet
from vfio_ap.matrix import Apqn, Matrix, parse_matrix_file
from vfio_ap_agent import paths
from vfio_ap_agent.inventory.files import Files
from vfio_ap_agent.inventory.holders import look_for_holders

_CREATE_DEADLINE = 20.0
_CONFIGURE_DEADLINE = 90.0
"""Resets are awaited without bound (V-38); seconds are real for busy cards."""
_REMOVE_DEADLINE = 60.0
_MASK_DEADLINE, _PER_QUEUE = 60.0, 0.2


async def _store(host: HostOps, path: str, text: str, subject: str, deadline: float) -> None:
    """Write once. Raises RefusedError with the meaning of an errno, of a short write, or of a missed deadline."""
    data = text.encode()
    try:
        (result,) = await host.run([Write(path, data)], deadline=deadline)
    except TimeoutError:
        text = f"{path} did not come back within {deadline:.0f} s; whether it takes effect is not known yet"
        raise RefusedError(Refusal("SysfsTimeout", subject, text, "it is read again")) from None
    if isinstance(result, Failed):
        raise RefusedError(hosterrors.meaning(path, result.errno, subject))
    if not isinstance(result, Written) or result.count != len(data):
        raise RefusedError(Refusal("ShortWrite", subject, f"{path} took only part of {len(data)} bytes"))


async def edit_mask(host: HostOps, step: EditMask) -> None:
    """Edit a mask and see the bits in it."""
    path = f"{paths.BUS}/{step.file}"
    await _store(host, path, step.text + "\n", step.file, _MASK_DEADLINE + _PER_QUEUE * step.moved)
    files = Files(host)
    await files.fetch([Read(path)])
    now = IdSet.from_mask(files.needed(path))
    if (now & step.bits) != (IdSet() if step.release else step.bits):
        raise RefusedError(Refusal("NotAsWritten", step.file, f"does not show {step.text} after the write"))


async def override(host: HostOps, step: Override) -> None:
    """Write or clear the driver that alone may have a queue."""
    path = f"{paths.queue(step.apqn)}/driver_override"
    await _store(host, path, step.driver + "\n", str(step.apqn), _CREATE_DEADLINE)
    files = Files(host)
    await files.fetch([Read(path)])
    if (found := files.needed(path).strip()) != step.driver:
        text = f"shows driver_override {found or 'unset'} after {step.driver or 'clearing it'} was written"
        raise RefusedError(Refusal("NotAsWritten", str(step.apqn), text))


async def unbind(host: HostOps, step: Unbind) -> None:
    """Take a queue from its driver. From vfio_ap only if no device has it: the kernel would not object (V-25)."""
    if step.driver == GUEST_DRIVER:
        files = Files(host)
        await files.fetch([Read(status := f"{paths.queue(step.apqn)}/status")])
        if files.needed(status).strip() != "unassigned":
            raise RefusedError(Refusal("QueueTaken", str(step.apqn), "was to go back and is in an mdev"))
    path = f"{paths.DRIVERS}/{step.driver}/unbind"
    await _store(host, path, f"{step.apqn}\n", str(step.apqn), _CONFIGURE_DEADLINE)
    if await _driver(host, step.apqn) == step.driver:
        raise RefusedError(Refusal("NotAsWritten", str(step.apqn), f"was unbound and is with {step.driver}"))


async def probe(host: HostOps, step: Probe) -> None:
    """Have a driver found for a queue; success says nothing, the link does (B-14)."""
    await _store(host, f"{paths.BUS}/drivers_probe", f"{step.apqn}\n", str(step.apqn), _CREATE_DEADLINE)
    if (found := await _driver(host, step.apqn)) != step.driver:
        text = f"was offered to {step.driver} and is with {found or 'no driver'}"
        raise RefusedError(Refusal("NotBound", str(step.apqn), text))


async def create(host: HostOps, step: Create) -> None:
    """Make a device and see its directory."""
    await _store(host, paths.CREATE, step.uuid + "\n", step.uuid, _CREATE_DEADLINE)
    if not await _exists(host, step.uuid):
        raise RefusedError(Refusal("NotAsWritten", step.uuid, "was created and is not there"))


async def configure(host: HostOps, step: Configure) -> None:
    """Write a whole configuration and read it back."""
    path = f"{paths.mdev(step.uuid)}/ap_config"
    await _store(host, path, step.matrix.ap_config() + "\n", step.uuid, _CONFIGURE_DEADLINE)
    files = Files(host)
    await files.fetch([Read(path)])
    _expect(step.uuid, step.matrix, Matrix.from_ap_config(files.needed(path)))


async def set_migratable(host: HostOps, step: SetMigratable) -> None:
    """Switch and read back (L-1)."""
    path = f"{paths.mdev(step.uuid)}/migratable"
    await _store(host, path, f"{int(step.value)}\n", step.uuid, _CREATE_DEADLINE)
    files = Files(host)
    await files.fetch([Read(path)])
    if (found := files.needed(path).strip()) != str(int(step.value)):
        text = f"shows migratable {found} after {int(step.value)} was written"
        raise RefusedError(Refusal("NotAsWritten", step.uuid, text))


async def assign(host: HostOps, step: Assign) -> None:
    """Assign or unassign one id and read the matrix back; the planner keeps it small enough to be read (V-12)."""
    path = paths.mdev(step.uuid)
    await _store(host, f"{path}/{step.file}", f"{step.number}\n", step.uuid, _CONFIGURE_DEADLINE)
    files = Files(host)
    await files.fetch([Read(f"{path}/matrix"), Read(f"{path}/control_domains")])
    adapters, domains = parse_matrix_file(files.needed(f"{path}/matrix"))
    control = IdSet.from_ids(int(line, 16) for line in files.needed(f"{path}/control_domains").split())
    _expect(step.uuid, step.leads_to, Matrix(adapters, domains, control))


async def remove(host: HostOps, step: Remove, view: HostView) -> None:
    """Prove once more that nothing uses the device, remove it, and see it gone."""
    mdev = view.mdevs[step.uuid]
    await _prove_idle(host, mdev, view)
    await _store(host, f"{paths.mdev(step.uuid)}/remove", "1\n", step.uuid, _REMOVE_DEADLINE)
    if await _exists(host, step.uuid):
        raise RefusedError(Refusal("NotAsWritten", step.uuid, "was removed and is still there"))


async def _prove_idle(host: HostOps, mdev: MdevView, view: HostView) -> None:
    files = Files(host)
    queues = [apqn for apqn in mdev.matrix or Matrix() if view.queues.get(apqn)]
    bound = [apqn for apqn in queues if view.queues[apqn].driver == GUEST_DRIVER]
    devices = f"{paths.mdev(mdev.uuid)}/vfio-dev"
    await files.fetch([*(Read(f"{paths.queue(apqn)}/status") for apqn in bound), List(devices)])
    for apqn in bound:
        if files.needed(f"{paths.queue(apqn)}/status").strip() == "in use":
            raise RefusedError(Refusal("InUse", mdev.uuid, f"a guest has queue {apqn}", "stop the VM first"))
    holders = (await look_for_holders(files)).holders(mdev.group, files.names(devices) or ())
    if holders is None:
        text = "cannot be proven idle: the processes of the host cannot be seen"
        raise RefusedError(Refusal("IdlenessUnproven", mdev.uuid, text, "run the agent with the host's PIDs"))
    if holders:
        raise RefusedError(Refusal("InUse", mdev.uuid, f"is in use by {holders[0]}", "stop the VM first"))


async def _driver(host: HostOps, apqn: Apqn) -> str:
    files = Files(host)
    await files.fetch([Link(link := f"{paths.queue(apqn)}/driver")])
    return (files.target(link) or "").rpartition("/")[2]


async def _exists(host: HostOps, uuid: str) -> bool:
    files = Files(host)
    await files.fetch([List(paths.MATRIX)])
    return uuid in (files.names(paths.MATRIX) or ())


def _expect(uuid: str, meant: Matrix, found: Matrix) -> None:
    if found != meant:
        raise RefusedError(Refusal("NotAsWritten", uuid, f"holds {found} after {meant} was written"))
