"""What a verdict is asked with and what it answers. Nothing here decides anything."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Literal

from vfio_ap.errors import Refusal


class Mode(enum.Enum):
    """How a VM's device gets to another node."""

    LIVE = "Live"
    """The kernel migrates the device with the guest."""
    REATTACH = "Reattach"
    """The device is unplugged, the guest migrated, the device plugged in again."""
    RESTART = "Restart"
    """The VM is stopped and started elsewhere."""


@dataclass(frozen=True, slots=True)
class MovePolicy:
    """What of an APMigrationPolicy matters to a verdict; the defaults are those of no policy."""

    modes: tuple[Mode, ...] = (Mode.LIVE,)
    """Allowed modes, the preferred one first."""
    adapter_type: Literal["SameOrNewer", "Same"] = "SameOrNewer"
    master_keys: Literal["Require", "Warn", "Ignore"] = "Warn"


@dataclass(frozen=True, slots=True)
class GuestFacts:
    """What of the VM matters to a verdict."""

    secure_execution: bool = False
    """It runs under Secure Execution (launchSecurity)."""
    post_copy: bool = False
    """Its migration may switch to post-copy."""


@dataclass(frozen=True, slots=True)
class MoveVerdict:
    """Whether a VM can move to one node, and why not."""

    node: str
    modes: tuple[Mode, ...] = ()
    """Modes in which it can, in the policy's order; none when it cannot."""
    refusals: tuple[Refusal, ...] = ()
    """Why an allowed mode is closed; the first is the one to mend first."""
    warnings: tuple[Refusal, ...] = ()
    """What to know although it does not stand in the way."""

    @property
    def mode(self) -> Mode | None:
        """The mode in which it moves, None when it cannot."""
        return self.modes[0] if self.modes else None
