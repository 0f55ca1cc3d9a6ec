"""Which kernel is modelled: every difference between kernels as a switch (kernel-ap.md 0.1).

The rest of the model asks a switch, never a name or a version.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from vfio_ap_sim.kernel.errors import ControlError


class Tokens(Enum):
    """What ``matrix/features`` says; an old kernel has no such file."""

    ABSENT = ""
    BASE = "guest_matrix hotplug ap_config"
    MIGRATABLE = "guest_matrix hotplug ap_config migratable"


class Migration(Enum):
    """Which version of the live migration series the kernel has (L-0)."""

    ABSENT = ""
    COMPARES = "v1"
    """The first: the target's mdev must have the same queues, and is compared."""
    TAKES_OVER = "v4plus"
    """What came after v4: the target's mdev takes the source's configuration over."""


@dataclass(frozen=True, slots=True)
class Profile:
    """The behaviour of one kernel."""

    name: str
    release: str
    """What uname and /proc/sys/kernel/osrelease say."""
    tokens: Tokens = Tokens.BASE
    ap_config: bool = True
    bus_features: bool = True
    """/sys/bus/ap/features."""
    queue_functions: bool = True
    """ap_functions of queues (Q-6)."""
    complete_count: bool = True
    """/sys/bus/ap/bindings_complete_count and COMPLETECOUNT."""
    driver_override: bool = True
    wide_in_use_check: bool = True
    """A mask bit that is set is checked against all 256 ids of the other mask, not only its set ones (2.3)."""
    safe_matrix_read: bool = True
    """Reading 512 or more APQNs is truncated; without it the kernel overruns a page (V-12)."""
    polled_reset: bool = True
    """Resets are awaited without bound, by a worker that polls every 20 ms (V-38)."""
    request_on_remove: bool = True
    """``remove`` of an mdev in use asks the user to give the device back (V-33)."""
    clear_on_remove: bool = True
    """… and takes the guest's masks first."""
    config_event: bool = True
    """The guest's QEMU is told of every change of its AP configuration (V-28)."""
    driverless_counts_as_host: bool = True
    """How a mask write sees a queue without driver. ``__ap_revise_reserved`` reads the flags through a null
    driver: 7.2 finds "host driver" there (so only a queue that is released gets probed), 6.12 finds "not host
    driver" (so only a queue that is reserved does). Both were observed on the real kernels."""
    migratable_file: bool = False
    """The rw attribute ``migratable`` of an mdev, which only the first version of the series had (L-0)."""
    migration: Migration = Migration.ABSENT
    tapq_facilities: bool = True
    """Whether migration asks TAPQ for facilities, mode, class and bind state. The code of the series leaves out
    the T bit, so on the emulated adapters it compared AP types only (transcripts/migration, deviation 1)."""
    private_parameters: bool = False
    """Module parameters are 0440 (B-17)."""


_K7_1 = Profile("K7.1", "7.1.8")
_K6_12 = Profile(
    "K6.12",
    "6.12.107",
    complete_count=False,
    driver_override=False,
    wide_in_use_check=False,
    safe_matrix_read=False,
    clear_on_remove=False,
    config_event=False,
    driverless_counts_as_host=False,
    private_parameters=True,
)
_K6_1 = replace(
    _K6_12,
    name="K6.1",
    release="6.1.176",
    tokens=Tokens.ABSENT,
    ap_config=False,
    bus_features=False,
    queue_functions=False,
    polled_reset=False,
    request_on_remove=False,
)
_MIGV4PLUS = replace(
    _K7_1,
    release="7.2.0-mig4",
    tokens=Tokens.MIGRATABLE,
    migration=Migration.TAKES_OVER,
)
PROFILES = {
    profile.name: profile
    for profile in (
        _K6_1,
        _K6_12,
        _K7_1,
        replace(
            _K7_1,
            name="MIGv1",
            release="7.0.0-mig1",
            tokens=Tokens.MIGRATABLE,
            migratable_file=True,
            migration=Migration.COMPARES,
        ),
        replace(_MIGV4PLUS, name="MIGv4PLUS", tapq_facilities=False),
        replace(_MIGV4PLUS, name="MIGv4PLUS-T"),
    )
}


def profile_named(name: str) -> Profile:
    """Return a profile by name, e.g. ``K7.1``. Raises ControlError that lists the names."""
    try:
        return PROFILES[name]
    except KeyError:
        raise ControlError(f"no kernel profile {name!r}; there are {', '.join(PROFILES)}") from None
