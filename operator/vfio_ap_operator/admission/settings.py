"""What the chart tells the webhook."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from vfio_ap_operator.admission.sidecar import Sidecar


@dataclass(frozen=True, slots=True)
class WebhookSettings:
    """One webhook server's settings."""

    port: int
    certificate: Path
    """Folder with tls.crt and tls.key, as a Secret of type kubernetes.io/tls is mounted."""
    sidecar: Sidecar
    strategy: str | None
    """evictionStrategy for VMs with a matrix; None to leave theirs."""

    @classmethod
    def from_environment(cls) -> Self | None:
        """Return the settings of WEBHOOK_PORT and what goes with it, None where it is not set.

        Raises ValueError, also for a variable that is missing.
        """
        port = os.environ.get("WEBHOOK_PORT")
        if not port:
            return None
        try:
            return cls(
                port=int(port),
                certificate=Path(os.environ["WEBHOOK_CERTIFICATE"]),
                sidecar=Sidecar(os.environ["SIDECAR_IMAGE"]),
                strategy=os.environ.get("EVICTION_STRATEGY") or None,
            )
        except KeyError as error:
            raise ValueError(f"WEBHOOK_PORT is set, but {error.args[0]} is not") from None
