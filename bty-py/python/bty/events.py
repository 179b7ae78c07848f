"""Events of long operations.

:data:`Event` is a union. ``isinstance``, ``match`` and a comparison of ``event.event`` narrow it,
so that a type checker knows which fields there are:

>>> import bty
>>> def show(event: bty.Event) -> str:
...     if event.event == "progress":
...         return f"{event.phase}: {event.decoded_bytes} of {event.decoded_total}"
...     if isinstance(event, bty.TargetFailedEvent):
...         return f"{event.target} failed: {event.message}"
...     return event.event
>>> show(bty.ProgressEvent(phase="write", elapsed_ms=5, source_bytes=1, decoded_bytes=2, targets=[]))
'write: 2 of None'

At run time, a field that an event of its kind does not have is ``None``.
"""

from __future__ import annotations

from typing import Any, Union

from . import _bty
from ._bty import NoticeEvent, PhaseEvent, ProgressEvent, TargetCounts, TargetFailedEvent

__all__ = ["Event", "NoticeEvent", "PhaseEvent", "ProgressEvent", "TargetCounts", "TargetFailedEvent", "from_dict"]

#: An event of any kind.
Event = Union[PhaseEvent, ProgressEvent, NoticeEvent, TargetFailedEvent]


def from_dict(data: dict[str, Any]) -> Event:
    """Creates an event from its ``to_dict()``, or from a line of the command's ``--json``.

    Raises ``ValueError`` for invalid data.

    >>> import bty
    >>> bty.events.from_dict({"event": "phase", "phase": "write"})
    PhaseEvent(event='phase', phase='write')
    """
    return _bty.event_from_dict(data)
