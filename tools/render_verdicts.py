"""docs/verdicts.md from the table of reasons, so that a reason cannot be without its page; --check compares."""

from __future__ import annotations

import sys
from pathlib import Path

from vfio_ap.fleet.verdict import Explained, Mode, Reason

TARGET = Path(__file__).parents[1] / "docs" / "verdicts.md"
HEAD = """# Verdicts

Before a VM with a matrix moves, the operator and the command line say for each node whether it can, in which
mode, and why not. This page has every reason. It is rendered by `tools/render_verdicts.py` from
`core/vfio_ap/fleet/verdict/reasons.py`; edit it there.

A verdict is a function of what both nodes' agents read from their kernels, of the APMatrix and of the
APMigrationPolicy. It has

- the **modes** in which the VM can go there, in the policy's order; none when it cannot;
- **refusals**: why an allowed mode is closed. The first is the one to mend first. The order is that of this
  page: what keeps everything else from being known, then what the target lacks in every mode, then what the
  guest or a kernel cannot, then hardware, keys and modes of operation;
- **warnings**: what does not stand in the way.

A refusal names the queue (`05.00ab`), both values with their nodes, and the remedy. What is not known is never
taken for a yes.

**Modes.** *Live*: the kernel migrates the device. *Reattach*: it is unplugged, the VM migrates, it is plugged
in again. *Restart*: the VM is stopped and started there. A variant of the matrix gives a node other ids; it is
reached by Reattach and Restart only.

**The kernel's own checks** are those of two versions of its migration code. Under the first, the target's
device must have the very queues that the guest has; under later ones the target's device becomes what the guest
had. Which one a kernel has shows only on a device, so a node without one can be *unknown*; it is prepared and
asked again before anything moves. The code that exists compares less than it says: some builds look at the
adapter's type alone. The verdict stands on what both sides' adapters say of themselves (`ap_functions`), and
does not rely on the kernel. On 10,000 pairs of modelled machines it never says yes where the kernel says no
(`tests/contract/test_verdict_agreement.py` prints the counts).

**Master keys** (`masterKeys` of the policy) are compared queue by queue in the current registers: AES CUR, APKA
CUR and ASYM CUR of a CCA adapter, WK CUR of an EP11 adapter; accelerators have none. `Require`: they must be
known and equal, or every mode is closed. `Warn`: a difference is a warning. `Ignore`: they are not looked at.
Registers that `spec.expectedKeys` of the matrix names are compared with that instead of with the source. Keys
of a queue that a guest has cannot be read: what counts is what was read before it left the host, or what an
administrator attested; messages say which. Under `Require` keys that were read earlier are accepted with the
warning `KeysSampled`. New and old registers are only warned of.

**What cannot be foreseen**: two kernels with different builds of the migration code may refuse each other
although their adapters are equal (hence the warning `KernelsDiffer`), and whatever changes between the verdict
and the move. Failures that happen all the same are recognised by their texts and shown with the same reasons.
"""


def render() -> str:
    """Return the page."""
    parts = [HEAD]
    for title, chosen in (
        ("Refusals", [reason for reason in Reason if reason.closes]),
        ("Warnings, and what only a failure tells", [reason for reason in Reason if not reason.closes]),
    ):
        parts.append(f"## {title}\n")
        parts += [_section(reason) for reason in chosen]
    return "\n".join(parts)


def _section(reason: Reason) -> str:
    explained: Explained = reason.value
    closed = [mode.value for mode in Mode if mode in explained.closes]
    line = f"Closes {', '.join(closed)}." if closed else "Closes nothing."
    return (
        f"### {reason.name}\n\n{explained.meaning} {line}\n\n"
        f"- Kernel, QEMU or libvirt: {explained.elsewhere}\n- Remedy: {explained.remedy}\n"
    )


def main() -> int:
    """Write the page, or compare it."""
    text = render()
    if "--check" in sys.argv[1:]:
        same = TARGET.exists() and TARGET.read_text() == text
        if not same:
            sys.stderr.write(f"{TARGET.name} is not what the reasons say: run python tools/render_verdicts.py\n")
        return 0 if same else 1
    TARGET.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
