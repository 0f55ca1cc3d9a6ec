"""Every reason for which a move is refused or warned of: what it means, who else would say it, what to do.

One table for refusals, documentation and tests, so that they cannot drift apart. The order of the members is the
order of the refusals in a verdict: what keeps everything else from being known, then what the target lacks in
every mode, then what the guest or a kernel cannot, then differences of hardware, of keys, of modes. Nothing here
looks at a node.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from vfio_ap.errors import Refusal
from vfio_ap.fleet.verdict.types import Mode

_EVERY = frozenset(Mode)
_MIGRATION = frozenset({Mode.LIVE, Mode.REATTACH})
_LIVE = frozenset({Mode.LIVE})
_NONE: frozenset[Mode] = frozenset()
_SILENT = "nothing: the kernel does not look"
_LOAD = "load of migration failed: "
_NOT_COMPATIBLE = f"`{_LOAD}Invalid argument` (first version: `Bad address`); "


@dataclass(frozen=True, slots=True)
class Explained:
    """One reason."""

    meaning: str
    elsewhere: str
    """What kernel, QEMU or libvirt would have said, and when."""
    remedy: str
    closes: frozenset[Mode] = _LIVE
    """Modes that it stands in the way of; none for a mere warning."""


class Reason(enum.Enum):
    """A reason; its name is the reason's code, its value says the rest."""

    # what keeps everything else from being known

    MatrixRefused = Explained(
        "The APMatrix itself is refused, has no UUID yet, or is being deleted.",
        "nothing: there would be no device",
        "see kubectl describe apmatrix",
        _EVERY,
    )
    RunsThere = Explained("The VM runs on this node now.", "nothing", "choose another node", _EVERY)
    NodeSilent = Explained(
        "The node is not ready or its agent does not answer; what is known of it is history.",
        "nothing, or a time-out once the move has begun",
        "see the node and the agent's pod on it",
        _EVERY,
    )
    NodeNotReady = Explained(
        "The node's agent answers, and cannot read the host or finds no vfio_ap; what is known may be old.",
        "nothing, or whatever the host has come to",
        "see kubectl ap explain apnode/NAME",
        _EVERY,
    )
    NotReported = Explained(
        "The node's agent has never said what the node has.", "nothing", "see the agent's pod on the node", _EVERY
    )

    # what the target lacks, whatever the mode

    NotSelected = Explained(
        "spec.nodeSelector of the APMatrix excludes the node.",
        "nothing",
        "label the node, or change spec.nodeSelector",
        _EVERY,
    )
    IdAboveMaximum = Explained(
        "An id of the matrix is above the largest that the node's kernel takes.",
        "ENODEV at assign_adapter, assign_domain or ap_config (V-16)",
        "leave the id out, exclude the node by spec.nodeSelector, or add a variant for it",
        _EVERY,
    )
    PairOfAnotherLpar = Explained(
        "Source and target are LPARs of one machine. A pair of adapter and domain belongs to one active LPAR, so "
        "the target cannot have the queues that the source has.",
        "`Queue 05.0004 not available to vfio_ap driver on target host`, or nothing where the data is out of date",
        "move to an LPAR of another machine, or add a variant with ids that this LPAR has",
        _EVERY,
    )
    QueueAbsent = Explained(
        "The machine does not give the node an adapter, a domain or a queue of the matrix.",
        "ENODEV with `Queue 05.0004 not available to vfio_ap driver on target host`",
        "give it to the LPAR, exclude the node by spec.nodeSelector, or add a variant",
        _EVERY,
    )
    HostReserved = Explained(
        "An administrator reserved a queue of the matrix for the target's host (APNode spec.hostReserved).",
        "EADDRNOTAVAIL at assign, ENODEV with `Queue .. not available to vfio_ap driver on target host` at a move",
        "take the queue out of spec.hostReserved of the APNode, or choose another node",
        _EVERY,
    )
    QueueInOtherMatrix = Explained(
        "Another APMatrix has, or is about to have, a queue of this one on the target.",
        "EADDRINUSE with `Userspace may not assign queue .. to mdev: already assigned to ..`",
        "move that matrix's VM first, change the ids of one, or separate the nodes by spec.nodeSelector",
        _EVERY,
    )
    QueueInOtherDevice = Explained(
        "A mediated device on the target that is of no known APMatrix has a queue of this one.",
        "EADDRINUSE with `Userspace may not assign queue .. to mdev: already assigned to ..`",
        "remove that device on the node, or take the queue out of it",
        _EVERY,
    )
    DeviceForeign = Explained(
        "The target has a mediated device of the same UUID that somebody else made.",
        "EEXIST at create",
        "remove that device on the node, or adopt it by spec.adoptExisting",
        _EVERY,
    )
    DeviceInUse = Explained(
        "A guest on the target has the matrix's device open.",
        "EBUSY when QEMU opens the device",
        "stop that guest; one VM has a matrix at a time",
        _EVERY,
    )
    DeviceFailed = Explained(
        "The target could not make the device, made it with other queues, or is removing it.",
        "`device not found: mediated device .. not found`, or a guest without some of its queues",
        "see the matrix in status.mdevs of the APNode",
        _EVERY,
    )
    DevicePending = Explained(
        "The target's agent is still making the device, or is taking it away.",
        "`device not found: mediated device .. not found`, or what the unfinished device comes to",
        "wait; see the agent's log if it does not end",
        _EVERY,
    )
    DeviceAbsent = Explained(
        "The target was taken for prepared and has no device of the matrix's UUID.",
        "`device not found: mediated device .. not found`",
        "it is made once the move is asked for; see the agent's log if it is not",
        _EVERY,
    )
    AdapterNotWorking = Explained(
        "An adapter is deconfigured, checkstopped or in an unknown state on the target. Where the source's is as "
        "bad it is only a warning.",
        _SILENT + ": it takes such queues over (transcripts, Q7 and Q8)",
        "configure or repair the adapter at the HMC",
        _EVERY,
    )

    # what the guest or a kernel cannot

    SecureExecution = Explained(
        "A Secure Execution guest is never migrated.",
        "libvirt refuses; the first version of the kernel's code says EPERM and "
        "`Migration not allowed from or to a Secure Execution guest`, later ones do not offer migration (L-6)",
        "allow the mode Restart in an APMigrationPolicy",
        _MIGRATION,
    )
    PostCopy = Explained(
        "QEMU refuses a VFIO device in a migration that may switch to post-copy.",
        "QEMU: the migration is blocked",
        "set allowPostCopy to false in the KubeVirt migration policy",
    )
    KernelCannotMigrate = Explained(
        "The kernel or its QEMU has no live migration of vfio_ap, or cannot be seen to have it.",
        "`State blocked by non-migratable device 'vfio-ap'`, `VFIO migration is not supported in kernel`",
        "use a kernel whose features have the token migratable, or allow Reattach or Restart",
    )
    MigrationVersionsDiffer = Explained(
        "One kernel has the first version of the migration code, the other a later one; their streams differ.",
        f"`{_LOAD}Input/output error` or `Invalid argument`",
        "run the same kernel on both nodes, or allow Reattach or Restart",
    )
    MigrationDisabled = Explained(
        "Migration of the device is switched off: by the attribute migratable of the first version, or in QEMU.",
        "`cannot migrate domain: ..: Migration is disabled for VFIO device`",
        "write 1 to the device's migratable on the source (the operator does), or see enable-migration of QEMU",
    )
    OtherVariant = Explained(
        "The target has other ids by a variant of the APMatrix. A running guest keeps its ids.",
        "`Queue .. not available to vfio_ap driver on target host`",
        "allow Reattach or Restart in an APMigrationPolicy",
    )
    SourceDeviceUnknown = Explained(
        "The source's agent does not show the device that the VM should have there, or it is not ours.",
        "nothing",
        "see status.mdevs of the source's APNode",
    )
    GuestMatrixUnknown = Explained(
        "What the guest has on the source cannot be read.", "nothing", "see status.mdevs of the source's APNode"
    )
    NothingInGuest = Explained(
        "The guest has no queue of the matrix on the source: all its adapters are filtered away.",
        "nothing: it empties the target's device (transcripts, G9)",
        "give the queues on the source to vfio_ap, or stop the VM",
    )

    SourceDiffers = Explained(
        "The guest has ids on the source that the APMatrix does not have now: an edit has not reached it.",
        "nothing: the kernel moves what the guest has",
        "undo the edit of the APMatrix, or restart the VM",
    )

    # hardware, queue by queue (kernel-ap.md 4.3)

    HardwareUnknown = Explained(
        "The facility word or the type of an adapter is not known on one side.",
        "nothing, or as for the difference that is there",
        "look at the adapter in the APNode, and at its agent",
    )
    ModeDiffers = Explained(
        "The adapters are in different modes, CCA coprocessor, EP11 or accelerator: what a guest does with one it "
        "cannot do with another, after a restart either.",
        _NOT_COMPATIBLE + "`Coprocessor-mode|Accelerator-mode|XCP-mode facility [not ]installed in ..`",
        "move to a node with an equal adapter, or change the adapter's mode at the HMC",
        _EVERY,
    )
    FacilityDiffers = Explained(
        "A facility is installed on one side only: APSC, 4096-bit ME, 4096-bit CRT, APXA, command filtering.",
        _NOT_COMPATIBLE + "`APSC|mex4k|crt4k facility [not ]installed in ..`, `AP-extended-addressing (APXA) "
        "facility ..`, `Stateless-command-filtering (SLCF) [not ]available in ..`",
        "move to a node with an equal adapter",
    )
    ClassDiffers = Explained(
        "The source's adapter has full function and the target's only stateless functions; under the first "
        "version of the kernel's code any other difference of class, too.",
        _NOT_COMPATIBLE + "`Full native card function available on source queue ..`, "
        "`Only stateless functions available on target queue ..`",
        "move to a node with an equal adapter",
    )
    FacilityWordDiffers = Explained(
        "Bits of the facility word differ that have no name; only the first version of the kernel's code compares "
        "them, and only where the types differ.",
        f"`{_LOAD}Bad address`",
        "move to a node with an equal adapter",
    )
    QueueBound = Explained(
        "A queue has a bind or associate state (Secure Execution) other than 0.",
        _NOT_COMPATIBLE + "`Bind/associate state for source (..) and target (..) queue .. must be 0`",
        "unbind the queue in the guest that bound it",
    )
    AdapterOlder = Explained(
        "The target's adapter is of an older type than the source's.",
        _NOT_COMPATIBLE + "`AP type of source (0e) not compatible with target (0d)`",
        "move to a node with an adapter of the same or a newer type",
    )
    AdapterTypeDiffers = Explained(
        "The target's adapter is of a newer type, and the policy wants the same.",
        _SILENT + ": a newer type is fine",
        "move to a node with an adapter of the same type, or set adapterType to SameOrNewer",
    )
    GuestMatrixDiffers = Explained(
        "Under the first version of the kernel's code the target's device must have the very queues that the "
        "guest has on the source.",
        f"`{_LOAD}Input/output error`, `No such device` or `Argument list too long`; `number of queues on source "
        "(..) and target (..) guests differ`, `source guest's AP config size (..) larger than target's (..)`, "
        "`queue .. not assigned to guest matrix`",
        "give all queues of the APMatrix to vfio_ap on both nodes, and leave out ids that one of them has not",
    )
    QueueNotInDevice = Explained(
        "The target's device has not every queue that the guest has on the source.",
        f"`{_LOAD}No such device`; `Queue .. not available to vfio_ap driver on target host`, or nothing where "
        "the queue is with vfio_ap and in no device: then the kernel takes it",
        "give every queue of the matrix to vfio_ap on the target",
    )
    ControlDomainAbsent = Explained(
        "The guest may administer a domain that the machine does not let the target control.",
        f"`{_LOAD}No such device`; `Control domain .. not available on the destination host`. The first version "
        "does not look",
        "assign the control domain to the target's LPAR",
    )

    # what the kernel does not check

    KeysDiffer = Explained(
        "A current master key differs: what the guest's keys are wrapped with is not there on the target. Refused "
        "under masterKeys Require, warned of under Warn.",
        _SILENT,
        "load the same master key on the target (TKE), or choose another node",
        _EVERY,
    )
    KeysUnexpected = Explained(
        "A master key on the target is not the one that spec.expectedKeys of the APMatrix names. Refused under "
        "masterKeys Require, warned of under Warn.",
        _SILENT,
        "load the expected master key on the target (TKE), or correct spec.expectedKeys",
        _EVERY,
    )
    KeysUnknown = Explained(
        "A current master key is not known on one side: it was never read while the host had the queue. Refused "
        "under masterKeys Require, warned of under Warn.",
        _SILENT,
        "attest the keys in spec.attestedKeys of the APNode, or give the queue back to the host to be read",
        _EVERY,
    )
    OpModesDiffer = Explained(
        "The EP11 operation modes differ: requests that work on the source may be refused on the target.",
        _SILENT,
        "set the same operation modes on both adapters (TKE)",
    )
    OpModesUnknown = Explained(
        "The EP11 operation modes of one side were never read. Refused under masterKeys Require, warned of under "
        "Warn.",
        _SILENT,
        "give a queue of the adapter back to the host to be read",
    )
    ModeNotAllowed = Explained(
        "The VM could move, but not in a mode that its policy allows.",
        "nothing",
        "allow the mode in spec.modes of an APMigrationPolicy",
        _EVERY,
    )

    # warnings only

    SourceFiltered = Explained(
        "Adapters of the matrix are kept from the guest on the source. They do not move, and a later version of "
        "the kernel's code takes them out of the target's device.",
        "nothing (L-11)",
        "give the queues on the source to vfio_ap before the move",
        _NONE,
    )
    KernelsDiffer = Explained(
        "The nodes run different kernels. Two builds of the migration code may refuse each other, which cannot be "
        "seen beforehand.",
        _NOT_COMPATIBLE + "every installed facility is then told as differing (transcripts, X1 and X2)",
        "none if the move succeeds; else run the same kernel on both nodes",
        _NONE,
    )
    KeysInChange = Explained(
        "A new or old master key register differs: a key change is under way, or done on one side only. Keys of "
        "the guest that are still wrapped with the old master key may not work on the target.",
        _SILENT,
        "finish the key change on both sides, and have the guest re-encipher its keys",
        _NONE,
    )
    KeysSampled = Explained(
        "Under masterKeys Require: the comparison rests on keys that were read before a queue left the host.",
        _SILENT,
        "attest the keys if they were changed since",
        _NONE,
    )

    # only recognised in failures: nobody can foresee them

    QueueNotCompatible = Explained(
        "The target's kernel found that a queue's hardware differs; which attribute it was is in its log.",
        _NOT_COMPATIBLE + "`Migration failed: Source and target queue (..) not compatible`",
        "read the lines of vfio_ap_mdev in the target's kernel log; move to a node with an equal adapter",
        _NONE,
    )
    TargetRefused = Explained(
        "The target's kernel or QEMU refused the device's state; its kernel log says why.",
        f"`{_LOAD}..` with a number of the target's",
        "read the target's kernel log: the lines of vfio_ap_mdev name queue and difference",
        _NONE,
    )
    TargetAnswersBadly = Explained(
        "A queue of the target did not answer when the kernel asked it what it is.",
        "`Failed to get hwinfo for queue ..: TAPQ rc=..`",
        "see the adapter's state on the target and at the HMC",
        _NONE,
    )
    SourceGaveUp = Explained(
        "The source's QEMU was told that the target failed; the cause is on the target.",
        "`Sibling indicated error 1`",
        "read the target's QEMU log and kernel log",
        _NONE,
    )

    @property
    def remedy(self) -> str:
        """What the reader can do."""
        explained: Explained = self.value
        return explained.remedy

    @property
    def closes(self) -> frozenset[Mode]:
        """Modes that it stands in the way of."""
        explained: Explained = self.value
        return explained.closes

    def refuse(self, subject: str, message: str) -> Refusal:
        """Return the refusal of something for this reason."""
        return Refusal(self.name, subject, message, self.remedy)


RANK = {reason: number for number, reason in enumerate(Reason)}
"""Place of a reason in a verdict."""
