"""What holds an object, and what to do: each kind is asked what the operator would ask, and answers are joined."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from vfio_ap.errors import Refusal
from vfio_ap.fleet.gate import GatePlan, Lift, Release
from vfio_ap.fleet.launchers import PodView
from vfio_ap.fleet.policy import PolicyView, overruled, policy_of
from vfio_ap.fleet.templates import restart_needed
from vfio_ap.fleet.verdict import recognise
from vfio_ap_api.apmigration import APMigration
from vfio_ap_cli.questions import matrix as matrices
from vfio_ap_cli.questions import nodes
from vfio_ap_cli.questions.check import asked_for
from vfio_ap_cli.questions.events import EventRow, recent
from vfio_ap_cli.reading.documents import Document
from vfio_ap_cli.snapshot import Snapshot
from vfio_ap_kube.snapshot.names import MATRIX, USE_LABEL
from vfio_ap_kube.snapshot.pods import pod_view
from vfio_ap_kube.snapshot.vmis import vm_view
from vfio_ap_kube.snapshot.vms import template_view

KINDS = ("Event", "Namespace", "VirtualMachine", "VirtualMachineInstanceMigration", "APMigration")
"""Kinds that are looked at beside those of a snapshot."""
_BAD = ("Failed", "Refused", "Pending")


@dataclass(frozen=True, slots=True)
class Explanation:
    """One object."""

    object: str
    says: str
    """What it does now, in one sentence."""
    facts: tuple[tuple[str, str], ...] = ()
    holds: tuple[Refusal, ...] = ()
    """What holds it, the first thing to mend first."""
    notes: tuple[str, ...] = ()
    events: tuple[EventRow, ...] = ()
    next: tuple[str, ...] = ()
    """What to do, or to look at."""


@dataclass(frozen=True, slots=True)
class _Draft:
    says: str
    facts: tuple[tuple[str, str], ...] = ()
    holds: tuple[Refusal, ...] = ()
    notes: tuple[str, ...] = ()
    about: tuple[tuple[str, str, str], ...] = ()
    look: tuple[str, ...] = ()


def explain(snapshot: Snapshot, kind: str, namespace: str, name: str) -> Explanation | None:
    """Return what holds an object, None when it is not there."""
    draft = _EXPLAINERS[kind](snapshot, namespace, name)
    if draft is None:
        return None
    space = f"{namespace}/" if kind not in ("APMatrix", "APNode", "APMigrationPolicy") else ""
    remedies = [refusal.remedy for refusal in draft.holds if refusal.remedy]
    return Explanation(
        object=f"{kind} {space}{name}",
        says=draft.says,
        facts=draft.facts,
        holds=tuple(dict.fromkeys(draft.holds)),
        notes=draft.notes,
        events=recent(snapshot, draft.about),
        next=tuple(dict.fromkeys((*remedies, *draft.look))),
    )


def _matrix(snapshot: Snapshot, _: str, name: str) -> _Draft | None:
    answer = matrices.answer(snapshot, name)
    if answer is None:
        return None
    row, view = answer.row, snapshot.matrices[name]
    stuck = [s for s in answer.nodes if s.state in _BAD and s.reason != "NotRequested"]
    whole = [Refusal(s.reason or s.state, f"node {s.node}", s.message or s.state) for s in stuck]
    holds = [*_above(snapshot, name), *(whole if not snapshot.refusals.get(name) else ())]
    deleting = f"it goes once {row.used_by} has stopped" if row.used_by else "its devices are being removed"
    return _Draft(
        says=f"{row.state}" + (f": {deleting}" if view.deleting else ""),
        facts=(
            ("queues", str(view.matrix)),
            ("ready", f"{row.ready} nodes"),
            ("used by", row.used_by or "nobody"),
            ("policy", policy_of(view, snapshot.policies, PolicyView()).name or "none, so the defaults"),
        ),
        holds=tuple(holds),
        notes=tuple(f"pod {p.pod} waits: {p.message}" for p in answer.pods if p.message),
        about=(("APMatrix", "", name),),
        look=(f"kubectl ap matrix {name}",) if holds else (),
    )


def _above(snapshot: Snapshot, matrix: str) -> Iterator[Refusal]:
    """Yield what holds a matrix as a whole."""
    if refusal := snapshot.refusals.get(matrix):
        yield refusal
    elif snapshot.guard is not None:
        yield snapshot.guard


def _node(snapshot: Snapshot, _: str, name: str) -> _Draft | None:
    answer = nodes.answer(snapshot, name)
    if answer is None:
        return None
    holds = []
    if answer.row.agent.startswith("silent"):
        text = f"its agent is {answer.row.agent}: what is known of it is history"
        see = f"kubectl -n {snapshot.documents.system} get pods -o wide --field-selector spec.nodeName={name}"
        holds.append(Refusal("NodeSilent", f"node {name}", text, see))
    for device in answer.devices:
        if device.state not in ("Ready", "Foreign"):
            text = device.message or f"the device is {device.state}"
            holds.append(Refusal(device.state, f"matrix {device.matrix or device.uuid}", text))
    for c in answer.status.conditions:
        # What is not applied is told by the devices, where it is about one of them
        if c.status == "False" and not (c.type == "Applied" and holds):
            holds.append(Refusal(c.reason, f"node {name}", c.message or f"{c.type} is False"))
    unknown = [c for c in answer.status.conditions if c.status == "Unknown"]
    foreign = [d for d in answer.devices if d.state == "Foreign"]
    return _Draft(
        says=answer.row.state,
        facts=(
            ("machine", answer.row.machine),
            ("kernel", answer.row.kernel),
            ("migration", answer.row.live),
            ("agent", answer.row.agent),
            ("devices", answer.row.mdevs),
        ),
        holds=tuple(holds),
        notes=(
            *(f"{c.type} is Unknown: {c.message or c.reason}" for c in unknown),
            *(f"{d.uuid} was made by somebody else; it is left alone" for d in foreign),
            *(f"the kernel said in a move: {line}" for log in answer.status.kernel_log for line in log.lines),
        ),
        about=(("APNode", "", name), ("Node", "", name)),
        look=(f"kubectl ap nodes {name}",) if holds or answer.conditions else (),
    )


def _policy(snapshot: Snapshot, _: str, name: str) -> _Draft | None:
    policy = next((p for p in snapshot.policies if p.name == name), None)
    if policy is None:
        return None
    every = list(snapshot.matrices.values())
    mine = [m.name for m in every if policy_of(m, snapshot.policies, PolicyView()).name == name]
    refusal = overruled(policy, every, snapshot.policies)
    return _Draft(
        says=f"it stands for {len(mine)} of {len(every)} matrices",
        facts=(
            ("matrices", ", ".join(sorted(mine)) or "none"),
            ("modes", ", ".join(policy.modes)),
            ("adapters", policy.adapter_type),
            ("master keys", policy.master_keys),
            ("evacuation", policy.evacuation),
        ),
        holds=(refusal,) if refusal else (),
        about=(("APMigrationPolicy", "", name),),
    )


def _pod(snapshot: Snapshot, namespace: str, name: str) -> _Draft | None:
    document = snapshot.documents.one("Pod", name, namespace)
    if document is None:
        return None
    matrix = (document["metadata"].get("labels") or {}).get(MATRIX, "")
    view = pod_view(document)
    about = (("Pod", namespace, name),)
    if not matrix:
        return _Draft("it asks for no matrix, so nothing of ours holds it", about=about)
    if view is None:
        return _Draft(f"it has ended ({(document.get('status') or {}).get('phase')})", about=about)
    says, holds = _of_pod(snapshot, view)
    plan = snapshot.gates.get(matrix, GatePlan())
    unfit = [_of_node(a.node, str(a.refusal)) for a in plan.answers if a.refusal is not None] if holds else []
    return _Draft(
        says=says,
        facts=(("VM", view.vm_name), ("matrix", matrix), ("node", view.node or "none yet")),
        holds=holds,
        notes=tuple(unfit[:8]),
        about=about,
        look=(f"kubectl ap check vm/{view.vm} -n {namespace} -o wide",) if holds and view.vm else (),
    )


def _of_pod(snapshot: Snapshot, pod: PodView) -> tuple[str, tuple[Refusal, ...]]:
    """Return what a pod does and what holds it, by the plan that the operator would make now."""
    plan = snapshot.gates.get(pod.matrix)
    if plan is None:
        text = f"matrix {pod.matrix} does not exist"
        return "it waits", (Refusal("NoSuchMatrix", pod.matrix, text, "make the APMatrix, or delete the VM"),)
    waits = tuple(wait.refusal for wait in plan.waits if wait.pod.uid == pod.uid)
    acts = [action for action in plan.actions if action.pod.uid == pod.uid]
    if waits:
        where = "at its scheduling gate" if pod.gated else "held before its migration" if pod.held else ""
        return f"it waits {where}".rstrip(), waits
    if any(isinstance(action, Lift) for action in acts):
        return "its gate may be lifted now; the operator does it at once if it runs", _idle(snapshot)
    if any(isinstance(action, Release) for action in acts):
        return "its migration may begin now; the operator lets it at once if it runs", _idle(snapshot)
    if pod.node:
        return f"it was let go and is on {pod.node}", ()
    if pod.unschedulable:
        text = "the scheduler finds no room for it among the nodes that are prepared"
        return "it was let go", (Refusal("Unschedulable", str(pod), text, "see kubectl describe pod"),)
    return "it was let go, and the scheduler has not placed it yet", ()


def _idle(snapshot: Snapshot) -> tuple[Refusal, ...]:
    """Return that the operator does not act, if that is seen."""
    lease = snapshot.documents.one("Lease", "vfio-ap-operator", snapshot.documents.system)
    if "Lease" not in snapshot.documents.kinds or ((lease or {}).get("spec") or {}).get("holderIdentity"):
        return ()
    return (Refusal("NoOperator", "", "no operator leads, so nobody acts", "see kubectl ap doctor"),)


def _vm(snapshot: Snapshot, namespace: str, name: str) -> _Draft | None:
    documents = snapshot.documents
    vm = documents.one("VirtualMachine", name, namespace)
    vmi = documents.one("VirtualMachineInstance", name, namespace)
    if vm is None and vmi is None:
        return None
    matrix = asked_for(vm, vmi)
    phase = str(((vmi or {}).get("status") or {}).get("phase") or "")
    printed = str(((vm or {}).get("status") or {}).get("printableStatus") or "")
    about = [(kind, namespace, name) for kind in ("VirtualMachine", "VirtualMachineInstance")]
    if not matrix:
        return _Draft(f"{printed or phase or 'stopped'}; it asks for no matrix", about=tuple(about))
    mine = [pod for pod in snapshot.pods.get(matrix, ()) if pod.namespace == namespace and pod.vm == name]
    about += [("Pod", namespace, pod.name) for pod in mine]
    moves = _moves(snapshot, namespace, name)
    about += [("APMigration", namespace, str(m["metadata"]["name"])) for m in moves]
    holds = list(_admitted(snapshot, matrix, namespace)) if not any(pod.node for pod in mine) else []
    notes = []
    for pod in mine:
        says, held = _of_pod(snapshot, pod)
        notes.append(f"pod {pod.name}: {says}")
        holds += held
    holds += _moving(vm, vmi, moves)
    notes += [f"APMigration {m['metadata']['name']}: {_line(m)}" for m in moves]
    node = str(((vmi or {}).get("status") or {}).get("nodeName") or "")
    return _Draft(
        says=f"{printed or phase or 'stopped'}{' on ' + node if node else ''}",
        facts=(("matrix", matrix), ("VMI", phase or "none"), ("node", node or "none")),
        holds=tuple(holds),
        notes=tuple(notes),
        about=tuple(about),
        look=(f"kubectl ap check vm/{name} -n {namespace}",),
    )


def _admitted(snapshot: Snapshot, matrix: str, namespace: str) -> Iterator[Refusal]:
    """Yield why a VM of the namespace cannot get the matrix at all."""
    view = snapshot.matrices.get(matrix)
    if view is None:
        text = f"matrix {matrix} does not exist"
        yield Refusal("NoSuchMatrix", matrix, text, "make the APMatrix, or correct the VM's annotation")
        return
    yield from _above(snapshot, matrix)
    space = snapshot.documents.one("Namespace", namespace)
    if namespace not in view.namespaces:
        text = f"namespace {namespace} may not use it"
        yield Refusal("NamespaceNotAllowed", matrix, text, "add it to spec.allowedNamespaces of the APMatrix")
    elif space is not None and USE_LABEL + matrix not in (space["metadata"].get("labels") or {}):
        text = f"namespace {namespace} has not its label yet; the operator writes it"
        yield Refusal("NotLabelled", matrix, text, "see kubectl ap doctor if it does not come")


def _moving(vm: Document | None, vmi: Document | None, moves: list[Document]) -> Iterator[Refusal]:
    """Yield what of a running VM keeps it from moving, or from having what its template asks for."""
    running = vm_view(vmi) if vmi is not None else None
    if running is not None and not running.migratable:
        text = running.obstacle or "KubeVirt has not said that it can be migrated"
        yield Refusal("NotMigratable", f"VM {running}", text, "see the VMI's condition LiveMigratable")
    runs = ((vmi or {}).get("status") or {}).get("phase") == "Running"
    if vm is not None and runs and (refusal := restart_needed(template_view(vm), running)):
        yield refusal
    state: dict[str, Any] = ((vmi or {}).get("status") or {}).get("migrationState") or {}
    if not state.get("failed"):
        return
    # The move knows what the target's kernel said; KubeVirt knows an errno at most.
    told = next((t for t in _told(moves) if t.get("migrationUid") == state.get("migrationUid")), None)
    said = " ".join(str(state.get("failureReason") or "no reason given").split())
    known = recognise(said) or Refusal("MigrationFailed", "", said)
    if told is not None:
        known = Refusal(str(told["reason"]), "", str(told.get("message")), str(told.get("remedy") or ""))
    yield replace(known, message=f"its last migration failed: {known.message}")


def _told(moves: list[Document]) -> Iterator[dict[str, Any]]:
    """Yield the status of each move that says what went wrong."""
    for move in moves:
        status = move.get("status") or {}
        if status.get("reason") and status.get("phase") == "Failed":
            yield status


def _moves(snapshot: Snapshot, namespace: str, vm: str) -> list[Document]:
    """Return the APMigrations of a VM, the newest last."""
    found = [
        m
        for m in snapshot.documents.of("APMigration")
        if m["metadata"].get("namespace") == namespace and (m.get("spec") or {}).get("vm") == vm
    ]
    return sorted(found, key=lambda m: str(m["metadata"].get("creationTimestamp")))[-3:]


def _line(move: Document) -> str:
    status = move.get("status") or {}
    return f"{status.get('phase') or 'new'}, {status.get('line') or 'nothing said yet'}"


def _of_node(name: str, text: str) -> str:
    """Return what is said of a node, with its name once."""
    return text if text.startswith(f"{name}: ") else f"{name}: {text}"


def _migration(snapshot: Snapshot, namespace: str, name: str) -> _Draft | None:
    document = snapshot.documents.one("APMigration", name, namespace)
    if document is None:
        return None
    try:
        move = APMigration.model_validate(document)
    except ValidationError as error:
        text = f"it makes no sense: {error.errors()[0]['msg']}"
        return _Draft(text, holds=(Refusal("InvalidSpec", name, text, "make another one"),))
    status = move.status
    holds = []
    if status.reason and status.phase not in ("Succeeded", "Checked"):
        holds.append(Refusal(status.reason, f"VM {namespace}/{move.spec.vm}", status.message, status.remedy))
    if status.phase is None:
        holds += _idle(snapshot)
    pods = [p for p in snapshot.pods.get(status.matrix, ()) if p.namespace == namespace and p.vm == move.spec.vm]
    over = status.phase in ("Checked", "Refused", "Succeeded", "Alarm", "Failed")
    for pod in [] if over else [p for p in pods if p.target]:
        holds += _of_pod(snapshot, pod)[1]
    return _Draft(
        says=f"{status.phase or 'new'}: {status.line or 'the operator has not looked at it yet'}",
        facts=(
            ("VM", f"{namespace}/{move.spec.vm}"),
            ("matrix", status.matrix),
            ("from", status.source),
            ("to", status.target or move.spec.node),
            ("mode", status.mode or ""),
            ("asked by", status.asked_by),
            ("phases", ", ".join(f"{p.phase} {p.entered}" for p in status.phases)),
        ),
        holds=tuple(holds),
        notes=tuple(_of_node(n.name, n.message or f"can by {n.mode or 'Live'}") for n in status.nodes[:8]),
        about=(("APMigration", namespace, name), ("VirtualMachineInstance", namespace, move.spec.vm)),
        look=() if status.phase == "Succeeded" else (f"kubectl ap check vm/{move.spec.vm} -n {namespace}",),
    )


_EXPLAINERS: dict[str, Callable[[Snapshot, str, str], _Draft | None]] = {
    "APMatrix": _matrix,
    "APNode": _node,
    "APMigrationPolicy": _policy,
    "APMigration": _migration,
    "Pod": _pod,
    "VirtualMachine": _vm,
    "VirtualMachineInstance": _vm,
}
