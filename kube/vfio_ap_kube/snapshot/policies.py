"""The view of an APMigrationPolicy document."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from vfio_ap.errors import Refusal
from vfio_ap.fleet.policy import Budgets, Limits, PolicyView
from vfio_ap_api.apmigrationpolicy import APMigrationPolicySpec


def policy_view(document: dict[str, Any]) -> PolicyView:
    """Return the view; a spec that makes no sense stands for nothing and says why."""
    metadata = document["metadata"]
    name, created = metadata["name"], str(metadata.get("creationTimestamp", ""))
    try:
        spec = APMigrationPolicySpec.model_validate(document.get("spec") or {})
    except ValidationError as error:
        first = error.errors()[0]
        where = "spec." + ".".join(str(part) for part in first["loc"])
        refusal = Refusal("InvalidSpec", name, f"{where}: {first['msg']}", "correct the field")
        return PolicyView(name, invalid=refusal, created=created)
    budgets, limits = spec.budgets, spec.time_limits
    return PolicyView(
        name=name,
        selector=dict(spec.selector),
        modes=tuple(spec.modes),
        adapter_type=spec.adapter_type,
        master_keys=spec.master_keys,
        evacuation=spec.evacuation,
        budgets=Budgets(budgets.per_source, budgets.per_target, budgets.cluster),
        limits=Limits(limits.prepare, limits.hold),
        retries=spec.on_failure == "Retry",
        keep_source=spec.keep_source,
        created=created,
    )
