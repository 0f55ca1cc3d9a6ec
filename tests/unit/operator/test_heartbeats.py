"""Which agents are heard: by how long a Lease stands still, and at first sight by the API server's clock."""

import asyncio
import datetime

import pytest

from vfio_ap_kube.client import ApiError
from vfio_ap_operator.fleet import Fleet
from vfio_ap_operator.heartbeats import Heartbeats

pytestmark = pytest.mark.looptime
SILENCE = 45.0
EPOCH = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


class Api:
    """Stands for the client: Leases, and a clock that is five hours off ours."""

    def __init__(self):
        self.leases = {}
        self.away = False

    @property
    def now(self):
        return EPOCH + datetime.timedelta(seconds=asyncio.get_running_loop().time())

    def renew(self, name, ago=0.0):
        at = (self.now - datetime.timedelta(seconds=ago)).isoformat()
        # The holder's own clock may say anything
        spec = {"renewTime": f"1970-01-01T00:00:{len(self.leases):02}.{asyncio.get_running_loop().time():09.3f}Z"}
        self.leases[name] = {"metadata": {"name": name, "managedFields": [{"time": at}]}, "spec": spec}

    async def listing(self, resource):
        if self.away:
            raise ApiError(0, "Unreachable", "no answer")
        return {"items": list(self.leases.values())}

    async def create(self, resource, document):
        return {"metadata": {"creationTimestamp": self.now.isoformat()}}


class Events:
    def __init__(self):
        self.said = []

    async def post(self, about, kind, reason, message):
        self.said.append((about["metadata"]["name"], kind, reason))


@pytest.fixture
async def heart():
    fleet, api, events = Fleet(), Api(), Events()
    for name in ("n1", "n2"):
        fleet.observe_node(
            {
                "metadata": {"name": name, "uid": name, "resourceVersion": "1"},
                "status": {"conditions": [{"type": "Ready", "status": "True"}]},
            }
        )
        fleet.observe_apnode({"metadata": {"name": name, "uid": name, "resourceVersion": "1"}})
    task = None

    def begin():
        nonlocal task
        task = asyncio.create_task(Heartbeats(fleet, api, events, "system", SILENCE).run())

    yield fleet, api, events, begin
    task.cancel()


def alive(fleet):
    return {name for name, node in fleet.views.items() if node.alive}


async def beat(api, seconds, *names):
    """Let time go by in which these agents renew their Leases."""
    for _ in range(int(seconds / 10)):
        for name in names:
            api.renew(name)
        await asyncio.sleep(10)


async def test_an_agent_that_was_dead_when_the_operator_began_is_not_heard(heart):
    fleet, api, _, begin = heart
    api.renew("n1", ago=3)
    api.renew("n2", ago=SILENCE + 5)
    begin()
    await asyncio.sleep(0.1)
    assert alive(fleet) == {"n1"}


async def test_silence_is_counted_by_our_clock_and_told_once_and_so_is_the_return(heart):
    fleet, api, events, begin = heart
    begin()
    await beat(api, 60, "n1", "n2")
    assert alive(fleet) == {"n1", "n2"}
    await beat(api, 30, "n1")
    assert alive(fleet) == {"n1", "n2"}
    await beat(api, 60, "n1")
    assert alive(fleet) == {"n1"}
    await beat(api, 100, "n1")
    assert events.said == [("n2", "Warning", "AgentSilent")]
    await beat(api, 20, "n1", "n2")
    assert alive(fleet) == {"n1", "n2"}
    assert events.said[1:] == [("n2", "Normal", "AgentHeard")]


async def test_an_agent_that_comes_up_late_is_not_called_silent_before_its_time(heart):
    fleet, api, events, begin = heart
    begin()
    await asyncio.sleep(20)
    assert (alive(fleet), events.said) == (set(), [])
    api.renew("n1")
    await asyncio.sleep(1.5)
    assert alive(fleet) == {"n1"}, "while one is waited for it is looked for each second"
    await beat(api, 60, "n1")
    assert events.said == [("n2", "Warning", "AgentSilent")], "never heard at all"


async def test_what_the_operator_could_not_hear_is_not_held_against_the_agents(heart):
    fleet, api, events, begin = heart
    begin()
    await beat(api, 30, "n1", "n2")
    api.away = True
    await asyncio.sleep(5 * SILENCE)
    api.away = False
    await beat(api, 20, "n1", "n2")
    assert (alive(fleet), events.said) == ({"n1", "n2"}, [])
