"""The pods that VMs with a matrix run in, or wait in, as compact values. Nothing here decides anything."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from vfio_ap.fleet.scheduling import Constraints

HOSTNAME = "kubernetes.io/hostname"
"""Label by which a migration's target is pinned to its node."""


@dataclass(frozen=True, slots=True)
class PodView:
    """One launcher pod that asks for a matrix and has not ended."""

    namespace: str
    name: str
    uid: str
    matrix: str
    owner: str
    """UID of its VMI."""
    vm: str = ""
    """Name of its VMI, for people."""
    created: str = ""
    node: str = ""
    """Where it was scheduled, empty while it was not."""
    gated: bool = False
    held: bool = False
    """Its hook sidecar keeps a migration from starting."""
    ready: bool = False
    """KubeVirt takes it as ready: all its containers are, compute aside (pkg/controller: IsPodReady)."""
    migration: str = ""
    """UID of the migration whose target it is, empty for a first boot."""
    pinned: bool = False
    """The hostname in its node selector is of its VM's restart there, not the VM's own."""
    unschedulable: bool = False
    """The scheduler found no node for it."""
    constraints: Constraints = field(default_factory=Constraints)

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def target(self) -> bool:
        """Tell whether it is a migration's target."""
        return bool(self.migration)

    @property
    def vm_name(self) -> str:
        """Return namespace and name of its VM."""
        return f"{self.namespace}/{self.vm or self.name}"

    def next_target(self) -> PodView:
        """Return the pod as the VM's next target will be, without the pin of the move that brought it here."""
        ours = self.target or self.pinned
        selector = {key: v for key, v in self.constraints.selector.items() if key != HOSTNAME or not ours}
        constraints = replace(self.constraints, selector=selector)
        return replace(self, migration=self.migration or "next", constraints=constraints)
