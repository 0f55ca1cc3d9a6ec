"""Node numbers and open files of a mount: which path a number stands for, and what an open file remembers."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field
from itertools import count

from vfio_ap_sim.kernel.errors import SysfsError
from vfio_ap_sim.kernel.nodes import Directory, File, Link, Node, lookup, owner_of
from vfio_ap_sim.mount.protocol import ROOT_ID

_DIRECTORY, _REGULAR, _LINK = 0o040000, 0o100000, 0o120000


def mode_of(node: Node) -> int:
    """Return type and permission bits."""
    match node:
        case Directory():
            return _DIRECTORY | 0o755
        case Link():
            return _LINK | 0o777
        case File():
            return _REGULAR | node.mode


@dataclass(slots=True)
class Nodes:
    """Numbers of paths. A file that can be written gets a new number each time it is looked up.

    The kernel locks a file by its number while it is written, which kernfs does not do: a second writer of
    ``remove`` must not wait for the first.
    """

    root: Directory
    """What stands at the top of the mount."""
    _paths: dict[int, str] = field(default_factory=lambda: {ROOT_ID: ""})
    _numbers: dict[str, int] = field(default_factory=lambda: {"": ROOT_ID})
    _modes: dict[int, int] = field(default_factory=dict)
    _references: dict[int, int] = field(default_factory=dict)
    _next: count[int] = field(default_factory=lambda: count(ROOT_ID + 1))

    def path(self, number: int) -> str:
        """Return the path of a number, from the top of the mount."""
        return self._paths[number]

    def find(self, path: str) -> Node:
        """Return what is at a path now. Raises SysfsError ENOENT."""
        return lookup(self.root, path, follow=False)

    def enter(self, parent: int, name: str) -> tuple[int, Node]:
        """Look a name up and return its number, which the kernel holds until it forgets it."""
        path = f"{self._paths[parent]}/{name}"
        node = self.find(path)
        own = isinstance(node, File) and node.store is not None
        number = None if own else self._numbers.get(path)
        if number is None:
            number = next(self._next)
            self._paths[number] = path
            if not own:
                self._numbers[path] = number
        self._modes[number] = mode_of(node)
        self._references[number] = self._references.get(number, 0) + 1
        return number, node

    def mode(self, number: int) -> int:
        """Return type and permissions: as they are, or as they were when what an open file names is gone."""
        try:
            return mode_of(self.find(self._paths[number]))
        except SysfsError:
            return self._modes[number]

    def forget(self, number: int, references: int) -> None:
        """Drop references; a number without any is gone."""
        left = self._references.get(number, 0) - references
        if left > 0:
            self._references[number] = left
        elif self._references.pop(number, None) is not None:
            path = self._paths.pop(number)
            del self._modes[number]
            if self._numbers.get(path) == number:
                del self._numbers[path]

    def inode(self, path: str) -> int:
        """Return a number for stat(2) that is the same as long as the path is."""
        return hash(path) & 0x7FFFFFFF | 1 << 31


class OpenFile:
    """An open file or directory. It remembers whose it was: on a device that is gone it answers ENODEV (S-3)."""

    def __init__(self, nodes: Nodes, path: str) -> None:
        self._nodes = nodes
        self.path = path
        self._owner = owner_of(nodes.root, path)
        self.content: bytes | None = None
        """What reading from the start gave; the rest of a read is served from it, as seq_file does."""
        self.listing: list[tuple[int, str, int]] = []

    def check(self) -> None:
        """Raise SysfsError ENODEV when the file or its device is gone."""
        try:
            owner = owner_of(self._nodes.root, self.path)
            self._nodes.find(self.path)
        except SysfsError:
            raise SysfsError(errno.ENODEV) from None
        if owner is not self._owner:
            raise SysfsError(errno.ENODEV)

    def list(self) -> None:
        """Take the names of the directory as they are now."""
        node = self._nodes.find(self.path)
        assert isinstance(node, Directory)
        inode = self._nodes.inode
        self.listing = [(inode(self.path), ".", _DIRECTORY), (inode(self.path), "..", _DIRECTORY)]
        for name in node.names():
            child = node.child(name)
            if child is not None:
                self.listing.append((inode(f"{self.path}/{name}"), name, mode_of(child)))


def check_access(node: Node, flags: int) -> None:
    """Refuse to open a file for what it cannot do, even for root (S-3, ``kernfs_fop_open``). Raises EACCES."""
    access = flags & os.O_ACCMODE
    if isinstance(node, File):
        unreadable = access != os.O_WRONLY and node.show is None
        unwritable = access != os.O_RDONLY and node.store is None
        if unreadable or unwritable:
            raise SysfsError(errno.EACCES)
