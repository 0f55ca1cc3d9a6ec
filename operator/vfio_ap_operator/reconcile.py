"""The one loop that turns what is known into what shall be: take what is dirty, decide, write the differences.

Decisions come from the core. Order matters in three places, so that a kill between any two writes loses nothing:
an APMatrix has its finalizer and its UUID before any node hears of it; it loses its namespace labels and its
devices before its finalizer; and a status is written last, from what nodes reported.
"""

from __future__ import annotations

import asyncio
import dataclasses
import heapq
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from vfio_ap.fleet.conflicts import refusal_of
from vfio_ap.fleet.evacuation import stale_strategy
from vfio_ap.fleet.gate import GatePlan, Situation, plan_gate
from vfio_ap.fleet.placement import Standing, desired_mdevs, standings
from vfio_ap.fleet.policy import overruled
from vfio_ap.fleet.summary import Summary, served, summarise
from vfio_ap.fleet.verdict import GuestFacts
from vfio_ap.fleet.views import MatrixView
from vfio_ap_api import apmatrix, apmigrationpolicy, apnode
from vfio_ap_kube.client import NAMESPACES, ApiError, Client, Resource
from vfio_ap_kube.clock import utc_now
from vfio_ap_kube.events import EventPoster, about
from vfio_ap_operator import documents
from vfio_ap_operator.fleet import Fleet, MatrixRecord
from vfio_ap_operator.gatekeeper import Gatekeeper
from vfio_ap_operator.moveplanner import MovePlanner
from vfio_ap_operator.mover import Mover
from vfio_ap_operator.patience import Patience
from vfio_ap_operator.settings import FINALIZER

_LOG = logging.getLogger(__name__)
MATRICES = Resource(apmatrix.KIND.api_version, apmatrix.KIND.plural)
POLICIES = Resource(apmigrationpolicy.KIND.api_version, apmigrationpolicy.KIND.plural)
APNODES = Resource(apnode.KIND.api_version, apnode.KIND.plural)
_SETTLE = 0.05
"""Seconds to wait for further changes, so that a burst is one pass."""
_RETRY = 2.0
"""Seconds until what could not be written is tried again."""
_NO_PLAN = GatePlan()
_WRITERS = 12
"""Writes under way at once; below the client's number of connections."""


class Reconciler:
    """Writes node specs, status of matrices and policies, finalizers and namespace labels."""

    def __init__(self, fleet: Fleet, client: Client, events: EventPoster) -> None:
        self._fleet = fleet
        self._client = client
        self._events = events
        self._gates = Gatekeeper(fleet, client, events)
        self._moves = MovePlanner(fleet)
        self._mover = Mover(fleet, client, events, self._moves)
        self._patience = Patience(fleet.touch)
        self._slots = asyncio.Semaphore(_WRITERS)
        self.passes = 0
        """Completed passes; the health endpoint shows it."""

    async def run(self) -> None:
        """Reconcile until cancelled."""
        while True:
            await self._fleet.wake.wait()
            await asyncio.sleep(_SETTLE)
            self._fleet.wake.clear()
            await self.once()
            self.passes += 1

    async def once(self) -> None:
        """Decide and write everything that is dirty now."""
        fleet = self._fleet
        self._judge()
        matrices, fleet.dirty_matrices = fleet.dirty_matrices & fleet.matrices.keys(), set()
        await self._each(matrices, self._secure, fleet.dirty_matrices)
        for name in sorted(matrices & fleet.matrices.keys()):
            self._plan_gate(name)
        nodes, fleet.dirty_nodes = fleet.dirty_nodes & fleet.nodes.keys(), set()
        await self._each(nodes, self._shape_node, fleet.dirty_nodes)
        namespaces, fleet.dirty_namespaces = fleet.dirty_namespaces & fleet.namespaces.keys(), set()
        await self._each(namespaces, self._label_namespace, fleet.dirty_namespaces)
        # A move's status says why it is given up before its migration is deleted.
        await self._each(self._moves.busy & matrices, self._mover.act, fleet.dirty_matrices)
        await self._each(fleet.work.gates.keys() & matrices, self._gates.act, fleet.dirty_matrices)
        await self._mover.settle_strays()
        await self._each(matrices & fleet.matrices.keys(), self._report, fleet.dirty_matrices)
        policies, fleet.dirty_policies = fleet.dirty_policies & fleet.policies.keys(), set()
        await self._each(policies, self._report_policy, fleet.dirty_policies)

    async def _each(self, names: Iterable[str], action: Callable[[str], Awaitable[None]], again: set[str]) -> None:
        """Do the action for each name, some at a time; a name whose write failed is dirty again, later."""

        async def guarded(name: str) -> None:
            async with self._slots:
                try:
                    await action(name)
                except ApiError as error:
                    level = logging.INFO if error.conflict or error.not_found else logging.WARNING
                    _LOG.log(level, "%s %s: %s", action.__name__.strip("_"), name, error)
                    again.add(name)
                    asyncio.get_running_loop().call_later(_RETRY, self._fleet.wake.set)

        await asyncio.gather(*(guarded(name) for name in sorted(names)))

    # -- decisions that need more than one object

    def _judge(self) -> None:
        """Decide anew for each dirty matrix whether another one stands in its way.

        The stronger ones come first, because a verdict depends on those of stronger rivals only; where one turns,
        its weaker rivals are judged too.
        """
        fleet = self._fleet
        queue = [
            (fleet.matrices[name].view.precedence(), name) for name in fleet.dirty_matrices & fleet.matrices.keys()
        ]
        heapq.heapify(queue)
        judged: set[str] = set()
        while queue:
            rank, name = heapq.heappop(queue)
            if name in judged:
                continue
            judged.add(name)
            view = fleet.matrices[name].view
            before = fleet.refusals.pop(name, None)
            refusal = refusal_of(view, fleet.rivals(view), fleet.views)
            if refusal is not None:
                fleet.refusals[name] = refusal
            if (refusal is None) != (before is None):
                fleet.touch_nodes(view)
                fleet.dirty_namespaces |= view.namespaces
                for rival in fleet.rivals(view):
                    if rival.precedence() > rank:
                        heapq.heappush(queue, (rival.precedence(), rival.name))
        fleet.dirty_matrices |= judged

    def _plan_gate(self, name: str) -> None:
        """Decide anew where a matrix is needed, which of its pods may go on, and how its moves stand."""
        fleet = self._fleet
        view = fleet.matrices[name].view
        situation = Situation(
            matrix=view,
            refusal=fleet.refusals.get(name) or fleet.guard,
            nodes=fleet.views,
            policy=fleet.policy_for(view),
            waited=self._patience.waited(name),
            guest=next((vm.guest for vm in fleet.work.vms_of(name)), GuestFacts()),
            moving=self._moves.in_flight(name),
            bound=fleet.work.bound(name),
        )
        plan = plan_gate(situation, fleet.work.pods.get(name, {}).values())
        needs = self._moves.decide(situation, plan)
        nodes, shapes = plan.claim.nodes | needs.prepare, {**needs.shapes, **plan.claim.shapes}
        claim = dataclasses.replace(plan.claim, nodes=nodes, shapes=shapes)
        fleet.decide_gate(name, dataclasses.replace(plan, claim=claim))
        left = min((p for p in (plan.patience, needs.patience) if p is not None), default=None)
        self._patience.keep(name, plan.timed | needs.timed, left)

    def _placed(self, view: MatrixView) -> bool:
        """Tell whether a node has the matrix in its spec or a device of ours for it in its status."""
        for node in self._fleet.holders(view):
            held = node.mdevs.get(view.uuid)
            if any(item.matrix == view.name for item in node.desired) or (held and held.state != "Foreign"):
                return True
        return False

    # -- APMatrix, before any node hears of it

    async def _secure(self, name: str) -> None:
        """See to it that an accepted matrix has its finalizer and its UUID; let one go that nobody holds."""
        fleet = self._fleet
        record = fleet.matrices[name]
        if record.view.deleting:
            await self._let_go(name, record)
            return
        if name in fleet.refusals:
            return
        if FINALIZER not in record.finalizers:
            body = self._finalizers(record, (*record.finalizers, FINALIZER))
            fleet.observe_matrix(await self._client.merge(MATRICES, name, body))
        if not record.status.get("uuid"):
            uuid = record.view.uuid or documents.assigned_uuid(record.uid)
            body = {"status": {"uuid": uuid}, "metadata": {"uid": record.uid}}
            fleet.observe_matrix(await self._client.merge(MATRICES, name, body, subresource="status"))

    async def _let_go(self, name: str, record: MatrixRecord) -> None:
        """Remove the finalizer once no node holds a device and no namespace label admits the matrix."""
        fleet = self._fleet
        if FINALIZER not in record.finalizers or self._placed(record.view):
            return
        labelled = [namespace for namespace, admitted in fleet.namespaces.items() if name in admitted]
        for namespace in labelled:
            await self._label_namespace(namespace)
        rest = tuple(finalizer for finalizer in record.finalizers if finalizer != FINALIZER)
        await self._client.merge(MATRICES, name, self._finalizers(record, rest))
        _LOG.info("APMatrix %s: no node holds its device any more, let go", name)
        if not rest:
            fleet.forget_matrix(name)

    def _finalizers(self, record: MatrixRecord, finalizers: tuple[str, ...]) -> dict[str, Any]:
        latest = self._fleet.matrices[record.view.name]
        return {"metadata": {"finalizers": list(finalizers), "resourceVersion": latest.version}}

    # -- nodes

    async def _shape_node(self, name: str) -> None:
        """Write a node's spec if it is not what it shall be."""
        record = self._fleet.nodes[name]
        if record.view is None or not record.uid:
            return
        matrices = self._fleet.concerning(record.view)
        secured = [m for m in matrices if self._fleet.matrices[m.name].status.get("uuid") or m.deleting]
        claims = {m.name: self._fleet.work.gates.get(m.name, _NO_PLAN).claim for m in secured}
        desired = desired_mdevs(record.view, secured, self._fleet.refusals, claims, self._fleet.guard)
        read_back = self._moves.read_back(name)
        settled = desired == record.view.desired and documents.listed(record.document) == len(desired)
        if settled and read_back <= record.view.read_back:
            return
        body = documents.node_spec(name, record.uid, desired, read_back or record.view.read_back)
        self._fleet.observe_apnode(await self._client.apply(APNODES, body))

    # -- namespaces

    async def _label_namespace(self, name: str) -> None:
        """Write the labels that admit matrices to a namespace, if they are not what they shall be."""
        fleet = self._fleet
        if patch := documents.namespace_labels(fleet.namespaces[name], fleet.admitted(name)):
            fleet.observe_namespace(await self._client.merge(NAMESPACES, name, patch))

    # -- status, last

    async def _report(self, name: str) -> None:
        """Write a matrix's status if it says something else than what is known now."""
        fleet = self._fleet
        record, refusal = fleet.matrices[name], fleet.refusals.get(name)
        view = record.view
        plan = fleet.work.gates.get(name, _NO_PLAN)
        found, available = standings(
            view, refusal, fleet.holders(view), fleet.groups(view), fleet.guard, plan.claim.shapes
        )
        summary = summarise(view, refusal, found, available)
        policy = fleet.policy_for(view)
        notes = (stale_strategy(vm, policy) for vm in fleet.work.vms_of(name) if str(vm) == plan.user)
        summary = served(summary, plan, next(notes, ""))
        status = documents.matrix_status(view, record.generation, record.status, summary, found, utc_now())
        if status == record.status:
            return
        answer = await self._client.apply(
            MATRICES, documents.matrix_with_status(name, status), subresource="status"
        )
        await self._announce(record, summary, found)
        fleet.observe_matrix(answer)

    async def _report_policy(self, name: str) -> None:
        """Write a policy's status if it says something else than is known now."""
        fleet = self._fleet
        view, (generation, old) = fleet.policies[name], fleet.policy_statuses[name]
        matrices = [record.view for record in fleet.matrices.values()]
        refusal = overruled(view, matrices, fleet.policies.values())
        count = sum(fleet.policy_for(matrix).name == name for matrix in matrices)
        document = documents.policy_status(view, generation, old, refusal, count, utc_now())
        if document["status"] == old:
            return
        fleet.observe_policy(await self._client.apply(POLICIES, document, subresource="status"))
        if refusal is not None:
            await self._events.post(document, "Warning", refusal.reason, str(refusal))

    async def _announce(self, record: MatrixRecord, summary: Summary, found: Iterable[Standing]) -> None:
        """Post an Event when the state's word changed."""
        if record.status.get("state") == summary.state:
            return
        ready = summary.conditions[-1]
        matrix = about(apmatrix.KIND.api_version, apmatrix.KIND.name, record.view.name, record.uid)
        trouble = summary.state.startswith(("Refused", "Failed", "Degraded"))
        message = ready.message
        if trouble and ready.status:
            bad = next(s for s in found if s.state in ("Failed", "Refused"))
            message = f"node {bad.node}: {bad.message}"
        await self._events.post(matrix, "Warning" if trouble else "Normal", ready.reason, message or summary.state)
