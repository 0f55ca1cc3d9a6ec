"""The hook sidecar's image: how it enters a VM's list of hook sidecars, and how it is found in a pod."""

from __future__ import annotations

import json
from dataclasses import dataclass

from vfio_ap_kube.client import Document


@dataclass(frozen=True, slots=True)
class Sidecar:
    """The hook sidecar's image."""

    image: str
    """As new VMs get it: with tag or digest."""

    @property
    def entry(self) -> str:
        """Return its element of the list of hook sidecars."""
        return json.dumps({"image": self.image}, separators=(",", ":"))

    def runs_in(self, container: Document) -> bool:
        """Tell whether a container has the image, of whatever version."""
        image, repository = str(container.get("image", "")), _repository(self.image)
        return image.startswith((f"{repository}@", f"{repository}:"))


def _repository(image: str) -> str:
    """Return an image's name without digest and tag; a registry's port is no tag."""
    name = image.partition("@")[0]
    head, slash, tail = name.rpartition("/")
    return head + slash + tail.partition(":")[0]
