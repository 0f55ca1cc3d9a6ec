"""Becomes another program that the kernel kills when the process that asked for it ends, however that ends.

Run as a script, by path, as ``die_with_parent.py PARENT_PID PROGRAM ARGUMENT…``: a fresh process is the one
place where this can be set without running Python between fork and exec of a program with threads. It imports
nothing of ours.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # include/uapi/linux/prctl.h


def main() -> None:
    """Ask for the parent's death to be fatal, then exec; end with a sentence when the kernel will not."""
    parent, program = int(sys.argv[1]), sys.argv[2]
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
        sys.exit(f"prctl(PR_SET_PDEATHSIG): {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:  # it ended before we asked
        sys.exit(1)
    try:
        os.execv(program, sys.argv[2:])  # noqa: S606 - this is what it is for
    except OSError as error:
        sys.exit(f"{program}: {error.strerror}")


if __name__ == "__main__":
    main()
