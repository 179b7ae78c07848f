"""Client for the HTTP API of a bty-web server. Needs the standard library only.

>>> import bty
>>> bty.client.Server("http://bty.example:8080", token="secret")
<bty.client.Server http://bty.example:8080>
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field, fields
from datetime import datetime
from urllib.parse import quote, urlencode

from .errors import ServerError, _make

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Optional, TypeVar

    T = TypeVar("T")

__all__ = ["Event", "Image", "Machine", "Plan", "Server", "ServerError", "Step"]

#: Methods that change nothing, so that a request may be retried.
_SAFE = ("GET", "HEAD")
#: Status codes of temporary failures of a server or a proxy, after which a request is retried.
_TEMPORARY = (429, 502, 503, 504)


def _empty() -> dict[str, Any]:
    return {}


def _time(text: Optional[str]) -> Optional[datetime]:
    # Python 3.9 does not parse "Z"
    return None if text is None else datetime.fromisoformat(text.replace("Z", "+00:00"))


def _build(kind: type[T], data: dict[str, Any]) -> T:
    """Builds an object from a response. Fields that this version does not know are in ``extra``."""
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    values = {name: value for name, value in data.items() if name in known}
    for name in values:
        if name in ("ts",) or name.endswith("_at"):
            values[name] = _time(values[name])
    extra = {name: value for name, value in data.items() if name not in known}
    constructor: Any = kind
    built: T = constructor(**values, extra=extra)
    return built


@dataclass(frozen=True)
class Machine:
    """A machine and its assignment. Times are time-zone aware, in UTC."""

    mac: str
    boot_mode: str
    bty_image_ref: Optional[str] = None
    labels: list[str] = field(default_factory=list[str])
    target_disk_serial: Optional[str] = None
    params: dict[str, Any] = field(default_factory=_empty)
    sanboot_drive: Optional[str] = None
    extra_args: str = ""
    netboot_version: str = ""
    boot_state: str = ""
    state: Any = None
    hardware: Any = None
    known_disks: Optional[list[dict[str, Any]]] = None
    discovered_at: Optional[datetime] = None
    last_seen_at: Optional[datetime] = None
    last_flashed_at: Optional[datetime] = None
    extra: dict[str, Any] = field(default_factory=_empty, repr=False)


@dataclass(frozen=True)
class Plan:
    """A plan. ``source`` is its script; ``None`` in lists."""

    name: str
    title: str = ""
    revision: int = 0
    source: Optional[str] = None
    extra: dict[str, Any] = field(default_factory=_empty, repr=False)


@dataclass(frozen=True)
class Image:
    """An image of the catalog. ``size_bytes`` is the size of the file as published."""

    name: str
    src: str = ""
    format: Optional[str] = None
    size_bytes: Optional[int] = None
    extra: dict[str, Any] = field(default_factory=_empty, repr=False)


@dataclass(frozen=True)
class Event:
    """An event in the log of the server."""

    id: int
    ts: datetime
    kind: str
    subject_kind: str
    subject_id: str
    actor: str
    summary: str
    source_ip: Optional[str] = None
    details: Any = None
    acknowledged: bool = False
    extra: dict[str, Any] = field(default_factory=_empty, repr=False)


@dataclass(frozen=True)
class Step:
    """What a machine would do at one of its next network boots, according to a simulation."""

    boot: int
    offer: str
    reason: Optional[str] = None
    mode: Optional[str] = None
    image: Optional[str] = None
    sha256: Optional[str] = None
    disk: Optional[str] = None
    events: list[str] = field(default_factory=list[str])
    extra: dict[str, Any] = field(default_factory=_empty, repr=False)


class Server:
    """A bty-web server at a base URL.

    ``token`` comes from ``bty-web token create``; a server without a password needs none.
    ``timeout`` and ``retry_delay`` are in seconds. Requests that change nothing are attempted up to
    ``attempts`` times, all others once.

    All methods raise :class:`bty.ServerError`, with the ``status`` code, if the server answers with
    an error, and :class:`bty.SourceError` if it does not answer.
    """

    def __init__(self, url: str, token: Optional[str] = None, *, timeout: float = 30.0, attempts: int = 4, retry_delay: float = 0.25) -> None:
        if not url.lower().startswith(("http://", "https://")):
            raise ValueError(f"{url!r} is not the address of a server: http:// or https:// and a host")
        if token is not None and not (token.isascii() and token.isprintable()):
            raise ValueError("the token must be printable ASCII")
        self.url = url.rstrip("/")
        self._token = token
        self._timeout = timeout
        self._attempts = max(1, attempts)
        self._retry_delay = retry_delay

    def __repr__(self) -> str:
        return f"<bty.client.Server {self.url}>"

    # Requests

    def _open(self, method: str, path: str, body: Any = None, query: Optional[dict[str, Any]] = None, timeout: Optional[float] = None) -> Any:
        parameters = {name: value for name, value in (query or {}).items() if value is not None}
        url = self.url + path + ("?" + urlencode(parameters) if parameters else "")
        request = urllib.request.Request(url, method=method, headers={"Accept": "application/json"})
        if self._token is not None:
            # "unredirected": a redirection to another host must not leak the token
            request.add_unredirected_header("Authorization", f"Bearer {self._token}")
        if body is not None:
            request.add_header("Content-Type", "application/json")
            request.data = json.dumps(body).encode()
        for attempt in range(1, self._attempts + 1):
            try:
                return urllib.request.urlopen(request, timeout=timeout or self._timeout)
            except urllib.error.HTTPError as error:
                if not self._may_retry(method, attempt) or error.code not in _TEMPORARY:
                    raise _server_error(error, method, path) from None
                error.close()
            except (urllib.error.URLError, OSError) as error:
                if not self._may_retry(method, attempt):
                    reason = getattr(error, "reason", error)
                    raise _make("source", f"{method} {url}: {reason}", path=url, errno=getattr(reason, "errno", None)) from error
            time.sleep(min(self._retry_delay * 2 ** (attempt - 1), 5.0))
        raise AssertionError("the last attempt returns or raises")

    def _may_retry(self, method: str, attempt: int) -> bool:
        return method in _SAFE and attempt < self._attempts

    def request(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        """Sends a request of the API, described in ``/openapi.json``, and returns the response as
        plain data. ``body`` is sent as JSON, ``query`` as query parameters.
        """
        with self._open(method, path, body, query) as answer:
            data = answer.read()
        return json.loads(data) if data else None

    # Machines

    def machines(self, *, q: Optional[str] = None, label: Optional[str] = None, plan: Optional[str] = None) -> list[Machine]:
        """Returns all machines, or those that match: ``q`` is a text in any field."""
        return [_build(Machine, data) for data in self.request("GET", "/machines", q=q, label=label, plan=plan)]

    def machine(self, mac: str) -> Machine:
        """Returns a machine. Raises :class:`bty.ServerError` with status 404 if it is unknown."""
        return _build(Machine, self.request("GET", f"/machines/{quote(mac)}"))

    def bind(self, mac: str, plan: str, **binding: Any) -> Machine:
        """Replaces the assignment of a machine. ``binding`` has fields of :class:`Machine`, such as
        ``bty_image_ref``, ``target_disk_serial``, ``labels``, ``params``; missing ones get their
        defaults.
        """
        return _build(Machine, self.request("PUT", f"/machines/{quote(mac)}", {"boot_mode": plan, **binding}))

    def change(self, mac: str, **changes: Any) -> Machine:
        """Changes some fields of an assignment."""
        return _build(Machine, self.request("PATCH", f"/machines/{quote(mac)}", changes))

    def forget(self, mac: str) -> None:
        """Deletes a machine and its assignment. At its next contact it is a new machine."""
        self.request("DELETE", f"/machines/{quote(mac)}")

    def simulate(self, mac: str, boots: int = 4, **suppose: Any) -> list[Step]:
        """Returns what a machine would do at its next network boots; changes nothing. ``suppose``
        may contain another ``binding``, another ``source`` for a ``plan``, or another ``catalog``.
        """
        steps = self.request("POST", f"/machines/{quote(mac)}/simulate", {"boots": boots, **suppose})
        return [_build(Step, step) for step in steps]

    def simulate_fleet(self, boots: int = 4, **suppose: Any) -> dict[str, Any]:
        """Returns what would change for which machines, as plain data. ``suppose`` as in
        :meth:`simulate`.
        """
        found: dict[str, Any] = self.request("POST", "/simulate", {"boots": boots, **suppose})
        return found

    # Plans

    def plans(self) -> list[Plan]:
        """Returns all plans, without their scripts."""
        return [_build(Plan, data) for data in self.request("GET", "/plans")]

    def plan(self, name: str, revision: Optional[int] = None) -> Plan:
        """Returns a plan with its script; ``revision`` selects an earlier one."""
        return _build(Plan, self.request("GET", f"/plans/{quote(name)}", revision=revision))

    def save_plan(self, name: str, source: str, *, note: str = "", base_revision: Optional[int] = None) -> Plan:
        """Saves a plan. Raises :class:`bty.ServerError` with status 422 if its script is invalid,
        and with 409 if there is a newer revision than ``base_revision``.
        """
        body = {"source": source, "note": note, "base_revision": base_revision}
        return _build(Plan, self.request("PUT", f"/plans/{quote(name)}", body))

    def check_plan(self, source: str) -> dict[str, Any]:
        """Returns the ``problems`` of a script, and what it declares. Saves nothing."""
        found: dict[str, Any] = self.request("POST", "/plans/check", {"source": source})
        return found

    def delete_plan(self, name: str) -> None:
        """Deletes a plan that no machine uses."""
        self.request("DELETE", f"/plans/{quote(name)}")

    # Catalog

    def catalog(self) -> list[Image]:
        """Returns the images that can be assigned to machines."""
        return [_build(Image, data) for data in self.request("GET", "/catalog/entries")]

    def add_image(self, image_url: str, **facts: Any) -> Image:
        """Adds an image by its address. ``facts`` may contain ``sha_url``, ``ref``, ``name`` and
        ``description``.
        """
        return _build(Image, self.request("POST", "/catalog/entries", {"image_url": image_url, **facts}))

    # Events

    def events(self, *, limit: int = 50, **filters: Any) -> list[Event]:
        """Returns the latest events, newest first. ``filters`` may contain ``kind``,
        ``subject_kind``, ``subject_id``, ``actor``, ``failed``, ``q``, ``before_id`` …
        """
        query = {name: str(value).lower() if isinstance(value, bool) else value for name, value in filters.items()}
        listed = self.request("GET", "/events", limit=limit, **query)
        return [_build(Event, data) for data in listed["events"]]

    def follow(self, *, after_id: Optional[int] = None) -> Iterator[Event]:
        """Yields events as they happen, without end: those after ``after_id``, or from now on.
        Reconnects after a lost connection, without missing events. Raises if reconnecting fails.
        """
        last = after_id if after_id is not None else self._last_id()
        while True:
            with self._open("GET", "/events/stream") as stream:
                # after the stream was opened, so that no event is missed between both
                for event in self._after(last):
                    last = event.id
                    yield event
                for event in _parse_stream(stream):
                    if event.id > last:
                        last = event.id
                        yield event
            time.sleep(self._retry_delay)

    def _last_id(self) -> int:
        newest = self.events(limit=1)
        return newest[0].id if newest else 0

    def _after(self, last: int) -> list[Event]:
        missed: list[Event] = []
        before: Optional[int] = None
        while True:
            page = self.events(limit=500, before_id=before)
            missed += [event for event in page if event.id > last]
            if len(page) < 500 or page[-1].id <= last:
                return missed[::-1]
            before = page[-1].id


def _parse_stream(stream: Any) -> Iterator[Event]:
    """Yields the events of a stream of server-sent events, until it ends."""
    kind, data = "", ""
    try:
        for line in stream:
            name, _, value = line.decode().rstrip("\r\n").partition(":")
            if name == "event":
                kind = value.strip()
            elif name == "data":
                data += value.strip()
            elif not name and not value:
                if kind == "event" and data:
                    yield _build(Event, json.loads(data))
                kind, data = "", ""
    except OSError:
        return


def _server_error(error: urllib.error.HTTPError, method: str, path: str) -> ServerError:
    """Converts an error response, with the message of the server."""
    with error:
        text = error.read(1 << 16).decode(errors="replace")
    try:
        details = json.loads(text)
        message = details["detail"]
    except (ValueError, KeyError, TypeError):
        details, message = None, text.strip() or error.reason
    raised = ServerError(f"{method} {path}: {message}")
    raised.status, raised.path, raised.details = error.code, path, details
    return raised
