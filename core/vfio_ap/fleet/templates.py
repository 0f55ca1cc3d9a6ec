"""What a VM's template asks for against what its instance runs with: KubeVirt does not see the difference."""

from __future__ import annotations

from dataclasses import dataclass

from vfio_ap.errors import Refusal
from vfio_ap.fleet.evacuation import VmView


@dataclass(frozen=True, slots=True)
class TemplateView:
    """One VirtualMachine: what its template asks for."""

    namespace: str
    name: str
    uid: str
    matrix: str = ""
    """Empty when it asks for none."""
    running: bool = False
    """KubeVirt says that its instance runs."""

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


def restart_needed(template: TemplateView, vm: VmView | None) -> Refusal | None:
    """Return why the VM must be restarted to get what its template asks for; ``vm`` is its running instance.

    The instance is None when it has no matrix. A VM that does not run gets it at its next start.
    """
    has = vm.matrix if vm is not None else ""
    if not template.running or has == template.matrix:
        return None
    wants = f"asks for matrix {template.matrix}" if template.matrix else "asks for no matrix"
    runs = f"with matrix {has}" if has else "without one"
    text = f"its template {wants}, and it runs {runs}: it gets what the template says at its next start"
    return Refusal(
        "RestartRequired", f"VM {template}", text, f"virtctl restart {template.name} -n {template.namespace}"
    )
