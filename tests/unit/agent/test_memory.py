"""What is remembered: damaged files, the shared lock, samples over reboots."""

import asyncio
import os
import subprocess
import sys
from dataclasses import replace

import pytest

from vfio_ap.errors import Refusal, RefusedError
from vfio_ap.host.wish import Ours
from vfio_ap.matrix import Apqn, Matrix
from vfio_ap_agent import paths
from vfio_ap_agent.lock import config_lock
from vfio_ap_agent.statedir import OursFile, StateDir

from .support import A, Node, matrix, wanted, wish


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"version": 7}', '{"version": 1, "bits": {"adapters": "x"}}'])
def test_a_damaged_file_is_kept_aside_and_said(tmp_path, damage):
    (tmp_path / "ours.json").write_text(damage)
    state = StateDir(tmp_path)
    assert OursFile(state).ours == Ours()
    assert [problem.reason for problem in state.problems] == ["StateDamaged"]
    assert (tmp_path / "ours.damaged").read_text() == damage


def test_ours_come_back_as_they_were(tmp_path):
    ours = Ours(matrix("5", "4-6"), {A: matrix("5", "4", "6"), "b": None})
    OursFile(StateDir(tmp_path)).put(ours, "boot-1")
    again = OursFile(StateDir(tmp_path))
    assert (again.ours, again.boot) == (ours, "boot-1")


def test_a_state_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RefusedError) as caught:
        OursFile(StateDir(tmp_path / "file")).put(Ours(matrix("5", "")), "")
    assert caught.value.refusal.reason == "StateUnwritable"


async def test_nothing_is_written_to_the_host_when_ours_cannot_be_written_down(tmp_path):
    node = Node(tmp_path)
    node.state.save = refuse
    outcome = await node.apply(wanted(A, "5", "4"))
    assert outcome.problem.reason == "StateUnwritable"
    assert node.witness.writes == []


def refuse(name, document):
    raise RefusedError(Refusal("StateUnwritable", name, "cannot be written"))


async def test_bits_are_not_ours_after_a_boot_even_if_they_are_cleared_again(tmp_path):
    """A rule of udev may have cleared the same bits (T-13)."""
    node = Node(tmp_path)
    view = (await node.apply(wanted(A, "5", "4"))).view
    ours = node.applier.ours
    assert ours.bits != Matrix()
    node.applier._ours.put(ours, "boot-1")
    assert node.applier._actual_ours(replace(view, boot="boot-1"), wish_of_a(), {}).bits == ours.bits
    assert node.applier._actual_ours(replace(view, boot="boot-2"), wish_of_a(), {}).bits == Matrix()


def wish_of_a():
    return wish(wanted(A, "5", "4"))


async def test_the_lock_of_a_living_process_is_waited_for_and_named(tmp_path):
    lock = tmp_path / "lock"
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        lock.write_text(f"{other.pid}\n")
        with pytest.raises(RefusedError) as caught:
            async with config_lock(lock, patience=0.1):
                pass
        assert caught.value.refusal.reason == "LockHeld"
        assert str(other.pid) in caught.value.refusal.message
        waiting = asyncio.ensure_future(hold(lock))
        await asyncio.sleep(0)
        lock.unlink()
        assert await waiting == f"{os.getpid()}\n"
        other.stdin.close()
    assert not lock.exists()


async def hold(lock):
    async with config_lock(lock):
        return lock.read_text()


THEIRS = """
cd "$1"; echo $$ > theirs
ln theirs lock 2>/dev/null && echo taken early
echo waiting
until ln theirs lock 2>/dev/null; do sleep 0.03; done
cat lock; read -r _; rm lock theirs
"""
"""What s390-tools do (libutil/util_lockfile.c), in a process of its own."""


async def test_others_wait_for_our_lock_and_we_for_theirs(tmp_path):
    lock = tmp_path / "lock"
    async with config_lock(lock):
        other = await asyncio.create_subprocess_exec("bash", "-c", THEIRS, "-", str(tmp_path), stdin=-1, stdout=-1)
        assert await other.stdout.readline() == b"waiting\n"
    assert await other.stdout.readline() == f"{other.pid}\n".encode()
    with pytest.raises(RefusedError, match=f"held by process {other.pid} "):
        async with config_lock(lock, patience=0.1):
            pass
    ours = asyncio.ensure_future(hold(lock))
    other.stdin.write(b"\n")
    assert await ours == f"{os.getpid()}\n"
    assert await other.wait() == 0
    assert not lock.exists()


async def test_the_lock_of_a_dead_process_is_broken(tmp_path):
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    (tmp_path / "lock").write_text(dead.stdout)
    assert await hold(tmp_path / "lock") == f"{os.getpid()}\n"
    assert list(tmp_path.iterdir()) == []


async def test_an_empty_lock_is_respected_for_two_minutes(tmp_path):
    lock = tmp_path / "lock"
    lock.touch()
    with pytest.raises(RefusedError):
        async with config_lock(lock, patience=0.05):
            pass
    os.utime(lock, (0, 0))
    assert await hold(lock) == f"{os.getpid()}\n"


async def test_samples_of_another_card_in_the_same_place_are_forgotten(tmp_path):
    node = Node(tmp_path)
    await node.samples.take(node.witness, (await node.applier.inspect(wish_of_a())).view)
    assert set(node.samples.queues) == {Apqn(a, d) for a in (4, 5, 6) for d in (4, 6, 171)}
    node.kernel.write(f"{paths.BUS}/aqmask", "-4")
    other = node.kernel.hardware.adapters[5]
    other.serial = "OTHER123"
    for card in node.kernel.bus.cards.values():
        if card.id == 5:
            card.serial = "OTHER123"
    await node.samples.take(node.witness, (await node.applier.inspect(wish_of_a())).view)
    assert Apqn(5, 4) not in node.samples.queues
    assert Apqn(4, 4) in node.samples.queues
