"""Time, waiting and locks of the model: deterministic, and without a thread or a sleep.

An operation of the kernel that may block is a generator (``Op``) that yields what it waits for. A ``Task`` runs
one operation for one process. Time stands still until ``Scheduler.advance_to`` is called; what became ready runs
in the order in which it became ready.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Generator
from typing import Generic, TypeAlias, TypeVar, cast

from vfio_ap_sim.kernel.errors import Interrupted, SysfsError

T = TypeVar("T")
Op: TypeAlias = Generator["Wait", None, T]
Step: TypeAlias = Op[None] | None
"""What a store returns: an operation that may block, or nothing when all is done."""


class Wait:
    """Something a task waits for; it happens once."""

    __slots__ = ("_wake", "happened", "interruptible")

    def __init__(self, *, interruptible: bool = False) -> None:
        self.interruptible = interruptible
        self.happened = False
        self._wake: Callable[[], None] | None = None

    def fire(self) -> None:
        """Let the waiting task go on. A second call does nothing."""
        if not self.happened:
            self.happened = True
            if self._wake is not None:
                self._wake()

    def on_fire(self, wake: Callable[[], None]) -> None:
        """Call ``wake`` when it happens, or at once when it has happened."""
        self._wake = wake
        if self.happened:
            wake()


class Task(Generic[T]):
    """One operation on behalf of one process."""

    __slots__ = ("_callbacks", "_op", "_scheduler", "_waiting", "comm", "done", "error", "pid", "value")

    def __init__(self, scheduler: Scheduler, op: Op[T], comm: str, pid: int) -> None:
        self._scheduler = scheduler
        self._op = op
        self._waiting: Wait | None = None
        self._callbacks: list[Callable[[], None]] = []
        self.comm = comm
        self.pid = pid
        self.done = False
        self.value: T | None = None
        self.error: SysfsError | None = None

    def result(self) -> T:
        """Return what the operation returned, or raise what it raised. Only when done."""
        assert self.done, "still pending"
        if self.error is not None:
            raise self.error
        return cast(T, self.value)

    def on_done(self, callback: Callable[[], None]) -> None:
        """Call back when the operation ends, or at once when it has."""
        if self.done:
            callback()
        else:
            self._callbacks.append(callback)

    def signal(self) -> None:
        """Send a signal to the process: it ends an interruptible wait and has no effect on any other (V-34)."""
        if self._waiting is not None and self._waiting.interruptible and not self._waiting.happened:
            self._step(Interrupted())
            self._scheduler.drain()

    def resume(self) -> None:
        """Run until the next wait or the end; the scheduler's business."""
        self._step(None)

    def _step(self, signal: Interrupted | None) -> None:
        self._waiting = None
        self._scheduler.current = cast("Task[object]", self)
        try:
            wait = self._op.throw(signal) if signal else next(self._op)
        except StopIteration as stop:
            self._finish(stop.value, None)
        except SysfsError as error:
            self._finish(None, error)
        else:
            self._waiting = wait
            wait.on_fire(lambda: self._ready(wait))
        finally:
            self._scheduler.current = None

    def _ready(self, wait: Wait) -> None:
        if self._waiting is wait:
            self._scheduler.ready(self)

    def _finish(self, value: T | None, error: SysfsError | None) -> None:
        self.done, self.value, self.error = True, value, error
        for callback in self._callbacks:
            callback()


class Scheduler:
    """The clock in microseconds since boot, its timers, and the tasks that can run."""

    def __init__(self) -> None:
        self.now = 0
        self.current: Task[object] | None = None
        self._ready: deque[Task[object]] = deque()
        self._timers: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0

    def spawn(self, op: Op[T], *, comm: str = "kworker", pid: int = 2) -> Task[T]:
        """Start an operation and run it as far as it goes without waiting."""
        task = Task(self, op, comm, pid)
        self.ready(task)
        self.drain()
        return task

    def ready(self, task: Task[T]) -> None:
        """Queue a task that can go on."""
        self._ready.append(cast("Task[object]", task))

    def drain(self) -> None:
        """Run everything that can run now."""
        if self.current is not None:
            return
        while self._ready:
            self._ready.popleft().resume()

    def call_at(self, when: int, callback: Callable[[], None]) -> None:
        """Call back once when the clock reaches ``when`` microseconds."""
        self._count += 1
        heapq.heappush(self._timers, (when, self._count, callback))

    def sleep(self, microseconds: int, *, interruptible: bool = False) -> Wait:
        """Return a wait that happens after so many microseconds."""
        wait = Wait(interruptible=interruptible)
        self.call_at(self.now + microseconds, wait.fire)
        return wait

    @property
    def next_due(self) -> int | None:
        """When the next timer is due, in microseconds since boot; None without timers."""
        return self._timers[0][0] if self._timers else None

    def advance_to(self, when: int) -> None:
        """Let time pass up to ``when``, doing what falls due in order."""
        while self._timers and self._timers[0][0] <= when:
            self.now, _, callback = heapq.heappop(self._timers)
            callback()
            self.drain()
        self.now = max(self.now, when)


class Mutex:
    """A kernel mutex: first come, first served, handed over directly."""

    __slots__ = ("_queue", "held")

    def __init__(self) -> None:
        self.held = False
        self._queue: deque[Wait] = deque()

    def acquire(self, *, interruptible: bool = False) -> Op[None]:
        """Wait until the mutex is ours. Raises Interrupted on a signal when interruptible."""
        if not self.held:
            self.held = True
            return
        turn = Wait(interruptible=interruptible)
        self._queue.append(turn)
        try:
            yield turn
        except Interrupted:
            self._queue.remove(turn)
            raise

    def release(self) -> None:
        """Give the mutex to the next in line."""
        if self._queue:
            self._queue.popleft().fire()
        else:
            self.held = False


def holding(mutex: Mutex, body: Op[T], *, interruptible: bool = False) -> Op[T]:
    """Run an operation under a mutex."""
    yield from mutex.acquire(interruptible=interruptible)
    try:
        return (yield from body)
    finally:
        mutex.release()


def at_once(body: Callable[[], T]) -> Op[T]:
    """Return an operation that does not wait."""
    yield from ()
    return body()
