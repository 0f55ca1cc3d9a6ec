"""Files, directories and links of the modelled file system, and how a path finds them.

There are no objects per file: a directory makes its children when it is asked for them. The errnos are those of
open(2), read(2), write(2) and readlink(2) on kernfs (S-3, S-4).
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from vfio_ap_sim.kernel.errors import SysfsError
from vfio_ap_sim.kernel.tasks import Mutex, Op, Step

PAGE = 4096
_LINKS_FOLLOWED = 40


@dataclass(frozen=True, slots=True)
class File:
    """An attribute. Its mode follows from what it can do unless one is given."""

    show: Callable[[], str] | None = None
    store: Callable[[str], Step] | None = None
    lock: Mutex | None = None
    """Held while it is read; None when reading never waits."""
    restricted: int | None = None

    @property
    def mode(self) -> int:
        """Permission bits."""
        if self.restricted is not None:
            return self.restricted
        return (0o444 if self.show else 0) | (0o200 if self.store else 0)

    def read(self) -> Op[bytes]:
        """Read the whole file. Raises EACCES for a write-only one."""
        if self.show is None:
            raise SysfsError(errno.EACCES)
        if self.lock is not None:
            yield from self.lock.acquire()
            try:
                return self.show().encode("latin-1")
            finally:
                self.lock.release()
        return self.show().encode("latin-1")

    def write(self, data: bytes) -> Op[int]:
        """Write once: at most a page, up to the first NUL; an empty write does nothing. Raises EACCES."""
        if self.store is None:
            raise SysfsError(errno.EACCES)
        data = data[:PAGE]
        if data:
            step = self.store(data.decode("latin-1").partition("\0")[0])
            if step is not None:
                yield from step
        return len(data)


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link."""

    target: str


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory that finds or makes its children on demand."""

    names: Callable[[], Iterable[str]]
    child: Callable[[str], Node | None]
    owner: object | None = None
    """The device that the directory stands for; a new device of the same name is another owner."""


Node: TypeAlias = File | Link | Directory


def folder(children: Mapping[str, Node], owner: object | None = None) -> Directory:
    """Return a directory with these children."""
    return Directory(lambda: children, children.get, owner)


def merged(
    fixed: Mapping[str, Node], names: Callable[[], Iterable[str]], child: Callable[[str], Node | None]
) -> Directory:
    """Return a directory with some fixed children beside those made on demand."""
    return Directory(lambda: (*fixed, *names()), lambda name: fixed.get(name) or child(name))


def owner_of(root: Directory, path: str) -> object | None:
    """Return the device whose directory a path leads through last; ``path`` has no links before its end.

    Raises SysfsError ENOENT.
    """
    owner, node = root.owner, root
    for name in path.split("/"):
        if not name:
            continue
        found = node.child(name)
        if found is None:
            raise SysfsError(errno.ENOENT)
        if not isinstance(found, Directory):
            break
        node, owner = found, found.owner or owner
    return owner


def lookup(root: Directory, path: str, *, follow: bool = True) -> Node:
    """Return what a path names; a link at its end is followed unless told otherwise.

    Raises SysfsError ENOENT, ENOTDIR or ELOOP.
    """
    trail: list[Directory] = [root]
    todo = [part for part in reversed(path.split("/")) if part not in ("", ".")]
    followed = 0
    while todo:
        name = todo.pop()
        if name == "..":
            if len(trail) > 1:
                trail.pop()
            continue
        node = trail[-1].child(name)
        if node is None:
            raise SysfsError(errno.ENOENT)
        if isinstance(node, Link) and (todo or follow):
            followed += 1
            if followed > _LINKS_FOLLOWED:
                raise SysfsError(errno.ELOOP)
            if node.target.startswith("/"):
                trail = [root]
            todo.extend(part for part in reversed(node.target.split("/")) if part not in ("", "."))
        elif isinstance(node, Directory):
            trail.append(node)
        elif todo:
            raise SysfsError(errno.ENOTDIR)
        else:
            return node
    return trail[-1]
