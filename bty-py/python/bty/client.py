"""A server of machines, over its HTTP API. Standard library only.

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

from .errors import ServerError, SourceError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Optional, TypeVar

    T = TypeVar("T")

__all__ = ["Event", "Image", "Machine", "Plan", "Server", "ServerError", "Step"]

#: These change nothing, so that they may be sent again.
_SAFE = ("GET", "HEAD")
#: Answers of a server, or of what is before it, that may be another one a moment later.
_PASSING = (429, 502, 503, 504)


def _nothing() -> dict[str, Any]:
    return {}


def _time(text: Optional[str]) -> Optional[datetime]:
    # Python 3.9 does not know Z
    return None if text is None else datetime.fromisoformat(text.replace("Z", "+00:00"))


def _made(kind: type[T], data: dict[str, Any]) -> T:
    """A value from an answer; what a later server says besides is in ``extra``."""
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    values = {name: value for name, value in data.items() if name in known}
    for name in values:
        if name in ("ts",) or name.endswith("_at"):
            values[name] = _time(values[name])
    extra = {name: value for name, value in data.items() if name not in known}
    make: Any = kind
    made: T = make(**values, extra=extra)
    return made


@dataclass(frozen=True)
class Machine:
    """A machine, and how it is bound. Times are aware of their zone, which is UTC."""

    mac: str
    boot_mode: str
    bty_image_ref: Optional[str] = None
    labels: list[str] = field(default_factory=list[str])
    target_disk_serial: Optional[str] = None
    params: dict[str, Any] = field(default_factory=_nothing)
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
    extra: dict[str, Any] = field(default_factory=_nothing, repr=False)


@dataclass(frozen=True)
class Plan:
    """A plan. ``source`` is the script, when it was asked for."""

    name: str
    title: str = ""
    revision: int = 0
    source: Optional[str] = None
    extra: dict[str, Any] = field(default_factory=_nothing, repr=False)


@dataclass(frozen=True)
class Image:
    """An image of the catalog. ``size_bytes`` is over the wire."""

    name: str
    src: str = ""
    format: Optional[str] = None
    size_bytes: Optional[int] = None
    extra: dict[str, Any] = field(default_factory=_nothing, repr=False)


@dataclass(frozen=True)
class Event:
    """Something that happened."""

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
    extra: dict[str, Any] = field(default_factory=_nothing, repr=False)


@dataclass(frozen=True)
class Step:
    """What a machine would do at one of its next network boots."""

    boot: int
    offer: str
    reason: Optional[str] = None
    mode: Optional[str] = None
    image: Optional[str] = None
    sha256: Optional[str] = None
    disk: Optional[str] = None
    events: list[str] = field(default_factory=list[str])
    extra: dict[str, Any] = field(default_factory=_nothing, repr=False)


class Server:
    """A server. ``token`` is one of ``bty-web token create``; a server without a password needs none. ``timeout`` is in seconds.

    Requests that only look are made up to ``attempts`` times; those that change something are made once. Raises :class:`bty.ServerError` with the
    ``status`` that the server answered with, and :class:`bty.SourceError` when nobody answers.
    """

    def __init__(self, url: str, token: Optional[str] = None, *, timeout: float = 30.0, attempts: int = 4, retry_delay: float = 0.25) -> None:
        if not url.lower().startswith(("http://", "https://")):
            raise ValueError(f"{url!r} is no address of a server: http:// or https:// and a host")
        if token is not None and not (token.isascii() and token.isprintable()):
            raise ValueError("a token is one word of ASCII")
        self.url = url.rstrip("/")
        self._token = token
        self._timeout = timeout
        self._attempts = max(1, attempts)
        self._retry_delay = retry_delay

    def __repr__(self) -> str:
        return f"<bty.client.Server {self.url}>"

    # Requests

    def _open(self, method: str, path: str, body: Any = None, query: Optional[dict[str, Any]] = None, timeout: Optional[float] = None) -> Any:
        wanted = {name: value for name, value in (query or {}).items() if value is not None}
        url = self.url + path + ("?" + urlencode(wanted) if wanted else "")
        request = urllib.request.Request(url, method=method, headers={"Accept": "application/json"})
        if self._token is not None:
            # not sent along to another host
            request.add_unredirected_header("Authorization", f"Bearer {self._token}")
        if body is not None:
            request.add_header("Content-Type", "application/json")
            request.data = json.dumps(body).encode()
        for attempt in range(1, self._attempts + 1):
            try:
                return urllib.request.urlopen(request, timeout=timeout or self._timeout)
            except urllib.error.HTTPError as error:
                if not self._may_repeat(method, attempt) or error.code not in _PASSING:
                    raise _refused(error, method, path) from None
                error.close()
            except (urllib.error.URLError, OSError) as error:
                if not self._may_repeat(method, attempt):
                    raise SourceError(f"{method} {url}: {getattr(error, 'reason', error)}") from error
            time.sleep(min(self._retry_delay * 2 ** (attempt - 1), 5.0))
        raise AssertionError("the last attempt gives or raises")

    def _may_repeat(self, method: str, attempt: int) -> bool:
        return method in _SAFE and attempt < self._attempts

    def request(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        """One request of the API, see ``/openapi.json``; its answer as plain data.

        Raises as the class says.
        """
        with self._open(method, path, body, query) as answer:
            data = answer.read()
        return json.loads(data) if data else None

    # Machines

    def machines(self, *, q: Optional[str] = None, label: Optional[str] = None, plan: Optional[str] = None) -> list[Machine]:
        """All machines, or those with a text anywhere in them, a label, a plan."""
        return [_made(Machine, data) for data in self.request("GET", "/machines", q=q, label=label, plan=plan)]

    def machine(self, mac: str) -> Machine:
        """One machine. Raises :class:`bty.ServerError` with status 404 when it is not known."""
        return _made(Machine, self.request("GET", f"/machines/{quote(mac)}"))

    def bind(self, mac: str, plan: str, **binding: Any) -> Machine:
        """Binds a machine, all of it: what is left out becomes the default. ``binding`` has the fields of :class:`Machine`: ``bty_image_ref``,
        ``target_disk_serial``, ``labels``, ``params`` …
        """
        return _made(Machine, self.request("PUT", f"/machines/{quote(mac)}", {"boot_mode": plan, **binding}))

    def change(self, mac: str, **changes: Any) -> Machine:
        """Changes some fields of a binding."""
        return _made(Machine, self.request("PATCH", f"/machines/{quote(mac)}", changes))

    def forget(self, mac: str) -> None:
        """Deletes a machine."""
        self.request("DELETE", f"/machines/{quote(mac)}")

    def simulate(self, mac: str, boots: int = 4, **suppose: Any) -> list[Step]:
        """What a machine would do at its next network boots; nothing is changed. ``suppose`` may be ``binding``, ``plan`` and ``source``, ``catalog``."""
        steps = self.request("POST", f"/machines/{quote(mac)}/simulate", {"boots": boots, **suppose})
        return [_made(Step, step) for step in steps]

    def simulate_fleet(self, boots: int = 4, **suppose: Any) -> dict[str, Any]:
        """What would change for whom, as plain data."""
        found: dict[str, Any] = self.request("POST", "/simulate", {"boots": boots, **suppose})
        return found

    # Plans

    def plans(self) -> list[Plan]:
        """All plans, without their scripts."""
        return [_made(Plan, data) for data in self.request("GET", "/plans")]

    def plan(self, name: str, revision: Optional[int] = None) -> Plan:
        """One plan, with its script."""
        return _made(Plan, self.request("GET", f"/plans/{quote(name)}", revision=revision))

    def save_plan(self, name: str, source: str, *, note: str = "", base_revision: Optional[int] = None) -> Plan:
        """Saves a plan. Raises :class:`bty.ServerError` with status 422 when it is wrong, 409 when there is a newer revision than ``base_revision``."""
        body = {"source": source, "note": note, "base_revision": base_revision}
        return _made(Plan, self.request("PUT", f"/plans/{quote(name)}", body))

    def check_plan(self, source: str) -> dict[str, Any]:
        """``problems`` of a script, and what it declares. Nothing is saved."""
        found: dict[str, Any] = self.request("POST", "/plans/check", {"source": source})
        return found

    def delete_plan(self, name: str) -> None:
        """Deletes a plan."""
        self.request("DELETE", f"/plans/{quote(name)}")

    # Catalog

    def catalog(self) -> list[Image]:
        """The images that machines can be bound to."""
        return [_made(Image, data) for data in self.request("GET", "/catalog/entries")]

    def add_image(self, image_url: str, **facts: Any) -> Image:
        """Adds an image by its address. ``facts`` may be ``sha_url``, ``ref``, ``name``, ``description``."""
        return _made(Image, self.request("POST", "/catalog/entries", {"image_url": image_url, **facts}))

    # Events

    def events(self, *, limit: int = 50, **wanted: Any) -> list[Event]:
        """The last events, the newest first. ``wanted`` may be ``kind``, ``subject_kind``, ``subject_id``, ``actor``, ``failed``, ``q``, ``before_id`` …"""
        query = {name: str(value).lower() if isinstance(value, bool) else value for name, value in wanted.items()}
        listed = self.request("GET", "/events", limit=limit, **query)
        return [_made(Event, data) for data in listed["events"]]

    def follow(self, *, after_id: Optional[int] = None) -> Iterator[Event]:
        """Events as they happen, without end; from the one after ``after_id`` on, else from now on. A lost connection is made again, and what happened
        meanwhile is told too. Raises when the server cannot be had any more.
        """
        last = after_id if after_id is not None else self._last_id()
        while True:
            with self._open("GET", "/events/stream") as stream:
                # listened first, then asked: nothing falls between both
                for event in self._after(last):
                    last = event.id
                    yield event
                for event in _told(stream):
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


def _told(stream: Any) -> Iterator[Event]:
    """The events of a stream, until it ends."""
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
                    yield _made(Event, json.loads(data))
                kind, data = "", ""
    except OSError:
        return


def _refused(error: urllib.error.HTTPError, method: str, path: str) -> ServerError:
    """The server's own words."""
    with error:
        text = error.read(1 << 16).decode(errors="replace")
    try:
        details = json.loads(text)
        said = details["detail"]
    except (ValueError, KeyError, TypeError):
        details, said = None, text.strip() or error.reason
    raised = ServerError(f"{method} {path}: {said}")
    raised.status, raised.path, raised.details = error.code, path, details
    return raised
