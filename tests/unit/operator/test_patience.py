"""Waits are counted from when they were first seen, forgotten when they end, and looked at again in time."""

import asyncio

import pytest

from vfio_ap_operator.patience import Patience

KEY, OTHER = ("pod", "n1"), ("pod", "n2")
pytestmark = pytest.mark.looptime


async def test_a_wait_is_counted_from_when_it_was_first_seen():
    patience = Patience(lambda matrix: None)
    patience.keep("pay", frozenset({KEY}), None)
    await asyncio.sleep(30)
    patience.keep("pay", frozenset({KEY, OTHER}), None)
    await asyncio.sleep(10)
    assert patience.waited("pay") == {KEY: 40, OTHER: 10}
    assert patience.waited("another") == {}


async def test_a_wait_that_has_ended_is_forgotten():
    patience = Patience(lambda matrix: None)
    patience.keep("pay", frozenset({KEY}), None)
    patience.keep("pay", frozenset(), None)
    patience.keep("pay", frozenset({KEY}), None)
    await asyncio.sleep(1)
    assert patience.waited("pay") == {KEY: 1}


async def test_the_matrix_is_looked_at_again_once_for_its_newest_plan():
    seen = []
    patience = Patience(lambda matrix: seen.append((matrix, asyncio.get_running_loop().time() - began)))
    began = asyncio.get_running_loop().time()
    patience.keep("pay", frozenset({KEY}), 180)
    patience.keep("pay", frozenset({KEY}), 100)
    await asyncio.sleep(300)
    assert seen == [("pay", 100)]
