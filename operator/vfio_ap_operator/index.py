"""Which names have which keys: what makes one change cost what it touches."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


class Index(Generic[Key]):
    """Names by key, each name under any number of keys."""

    def __init__(self) -> None:
        self._names: dict[Key, set[str]] = {}
        self._keys: dict[str, frozenset[Key]] = {}

    def put(self, name: str, keys: Iterable[Key]) -> None:
        """Say that the name has exactly these keys; none removes it."""
        new, old = frozenset(keys), self._keys.get(name, frozenset())
        for key in old - new:
            names = self._names[key]
            names.discard(name)
            if not names:
                del self._names[key]
        for key in new - old:
            self._names.setdefault(key, set()).add(name)
        if new:
            self._keys[name] = new
        else:
            self._keys.pop(name, None)

    def find(self, *keys: Key) -> set[str]:
        """Return the names that have at least one of the keys."""
        return set().union(*(self._names.get(key, ()) for key in keys))

    def items(self) -> Iterable[tuple[Key, set[str]]]:
        """Return each key with its names."""
        return self._names.items()
