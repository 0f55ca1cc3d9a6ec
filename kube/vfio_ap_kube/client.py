"""Requests to the API server as JSON documents: get, list, apply, patch, create, delete.

One session with a bounded number of connections (a kopf operator without a bound opened a thousand:
anchors.md 1.5). No retries here: callers are level-based and come again.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiohttp

from vfio_ap_kube.credentials import Credentials

Document = dict[str, Any]


class ApiError(Exception):
    """The API server said no, or could not be reached (``status`` 0)."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message or reason or f"HTTP {status}")
        self.status = status
        self.reason = reason

    @property
    def not_found(self) -> bool:
        """Tell whether the object does not exist."""
        return self.status == 404

    @property
    def conflict(self) -> bool:
        """Tell whether somebody else changed or made the object first."""
        return self.status == 409


@dataclass(frozen=True, slots=True)
class Resource:
    """A collection: group and version as in ``apiVersion``, plural name, and namespace where it has one."""

    api_version: str
    plural: str
    namespace: str = ""

    def path(self, name: str = "", subresource: str = "") -> str:
        """Return the URL path of the collection, one object or its subresource."""
        root = "/api/" if "/" not in self.api_version else "/apis/"
        parts = [root + self.api_version]
        if self.namespace:
            parts.append(f"namespaces/{self.namespace}")
        parts += [part for part in (self.plural, name, subresource) if part]
        return "/".join(parts)

    def within(self, namespace: str) -> Resource:
        """Return the collection in a namespace."""
        return Resource(self.api_version, self.plural, namespace)


NODES = Resource("v1", "nodes")
PODS = Resource("v1", "pods")
NAMESPACES = Resource("v1", "namespaces")
EVENTS = Resource("v1", "events")
LEASES = Resource("coordination.k8s.io/v1", "leases")


class Client:
    """One way to the API server; use as an async context manager."""

    def __init__(
        self, credentials: Credentials, *, manager: str, connections: int = 16, timeout: float = 30
    ) -> None:
        self._credentials = credentials
        self._manager = manager
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=self._connections, ssl=self._credentials.tls or True)
        self._session = aiohttp.ClientSession(
            connector=connector, timeout=self._timeout, headers={"User-Agent": self._manager}
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        content_type: str = "application/json",
        query: Mapping[str, str] | None = None,
        accept: str = "application/json",
    ) -> Document:
        """Send one request and return the answer's document, an empty one without one. Raises ApiError."""
        assert self._session is not None, "the client is used outside its context"
        headers = self._credentials.headers() | {"Accept": accept}
        data = None
        if body is not None:
            data = json.dumps(body, separators=(",", ":")).encode()
            headers["Content-Type"] = content_type
        try:
            async with self._session.request(
                method, self._credentials.server + path, data=data, headers=headers, params=query
            ) as answer:
                text = await answer.read()
                if answer.status >= 400:
                    raise _error(answer.status, text)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ApiError(0, "Unreachable", f"{type(error).__name__}: {error}") from None
        document: Document = json.loads(text) if text else {}
        return document

    async def lines(self, path: str, query: Mapping[str, str], *, silence: float) -> AsyncIterator[bytes]:
        """Yield the lines of a streamed answer until it ends; ``silence`` seconds without one end it too.

        Raises ApiError when the request is refused or the server cannot be reached.
        """
        assert self._session is not None, "the client is used outside its context"
        limits = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=silence)
        headers = self._credentials.headers() | {"Accept": "application/json"}
        buffer = bytearray()
        try:
            async with self._session.get(
                self._credentials.server + path, params=query, headers=headers, timeout=limits
            ) as answer:
                if answer.status >= 400:
                    raise _error(answer.status, await answer.read())
                # Chunks, not readline: an object may be longer than a line limit allows.
                async for chunk in answer.content.iter_any():
                    buffer += chunk
                    while (end := buffer.find(b"\n")) >= 0:
                        yield bytes(buffer[:end])
                        del buffer[: end + 1]
        except TimeoutError:
            return
        except (aiohttp.ClientError, OSError) as error:
            raise ApiError(0, "Unreachable", f"{type(error).__name__}: {error}") from None

    async def get(self, resource: Resource, name: str) -> Document:
        """Return one object. Raises ApiError."""
        return await self.request("GET", resource.path(name))

    async def listing(self, resource: Resource, **query: str) -> Document:
        """Return a collection, all of it; ``query`` takes labelSelector and fieldSelector. Raises ApiError."""
        return await self.request("GET", resource.path(), query=query)

    async def create(self, resource: Resource, document: Document) -> Document:
        """Create an object. Raises ApiError."""
        return await self.request("POST", resource.path(), body=document, query={"fieldManager": self._manager})

    async def apply(
        self, resource: Resource, document: Document, *, subresource: str = "", force: bool = True
    ) -> Document:
        """Server-side apply: the fields given become ours, those we gave before and leave out are removed.

        Raises ApiError.
        """
        return await self.request(
            "PATCH",
            resource.path(document["metadata"]["name"], subresource),
            body=document,
            content_type="application/apply-patch+yaml",
            query={"fieldManager": self._manager, "force": str(force).lower()},
        )

    async def merge(self, resource: Resource, name: str, patch: Document, *, subresource: str = "") -> Document:
        """Merge-patch an object. Raises ApiError."""
        return await self.request(
            "PATCH",
            resource.path(name, subresource),
            body=patch,
            content_type="application/merge-patch+json",
            query={"fieldManager": self._manager},
        )

    async def json_patch(self, resource: Resource, name: str, patch: list[Document]) -> Document:
        """JSON-patch an object. Raises ApiError; a failed ``test`` is status 422."""
        return await self.request(
            "PATCH",
            resource.path(name),
            body=patch,
            content_type="application/json-patch+json",
            query={"fieldManager": self._manager},
        )

    async def replace(self, resource: Resource, document: Document) -> Document:
        """Replace an object if its resourceVersion is still the one given. Raises ApiError."""
        return await self.request("PUT", resource.path(document["metadata"]["name"]), body=document)

    async def delete(self, resource: Resource, name: str) -> Document:
        """Delete an object. Raises ApiError."""
        return await self.request("DELETE", resource.path(name))


def _error(status: int, body: bytes) -> ApiError:
    try:
        answer = json.loads(body)
        return ApiError(status, str(answer.get("reason", "")), str(answer.get("message", "")))
    except (ValueError, AttributeError):
        return ApiError(status, "", body[:200].decode(errors="replace"))
