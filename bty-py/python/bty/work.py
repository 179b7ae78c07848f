"""A flash that runs in the background while the program iterates over its events."""

from __future__ import annotations

import atexit
import queue
import threading

from . import _bty
from ._bty import CancelToken, FlashReport, Plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from os import PathLike
    from typing import Any, Callable, Optional, Union

    from typing_extensions import TypedDict

    from ._bty import Client
    from .events import Event
    from .types import DeltaMode, Disks, ImageLike, Size

    class _FlashOptions(TypedDict, total=False):
        """Options of a flash as keyword arguments."""

        verify: bool
        fix_gpt: bool
        fit: bool
        uefi_boot: bool
        allow_partition: bool
        raw: bool
        overwrite: bool
        efivars: Union[str, PathLike[str]]
        stall_ms: int
        delta: DeltaMode
        stash: Size
        proven_disk: bool

__all__ = ["Flashing", "flashing"]


def either(mine: CancelToken, theirs: Union[CancelToken, Callable[[], bool], None]) -> Union[CancelToken, Callable[[], bool]]:
    """Combines two ways to cancel: either of them cancels."""
    if theirs is None:
        return mine
    if isinstance(theirs, CancelToken):
        token = theirs
        return lambda: mine.is_cancelled or token.is_cancelled
    function = theirs
    return lambda: mine.is_cancelled or function()


#: Running threads and the tokens that cancel them.
_running: dict[threading.Thread, CancelToken] = {}


def start(work: Callable[[], None], token: CancelToken) -> threading.Thread:
    """Runs ``work`` in a thread of its own, which is canceled when the program ends."""

    def run() -> None:
        try:
            work()
        finally:
            _running.pop(threading.current_thread(), None)

    thread = threading.Thread(target=run, name="bty-work", daemon=True)
    _running[thread] = token
    thread.start()
    return thread


@atexit.register
def _cancel_all() -> None:
    # a thread that returned to Python after the interpreter has finalized would crash the process
    running = list(_running.items())
    for _, token in running:
        token.cancel()
    for thread, _ in running:
        thread.join()


class Flashing:
    """A flash that runs in a thread. Iterating yields its events until it has ended; :meth:`result`
    returns its report or raises.

    As a context manager, it waits at the end of the block and raises if the flash failed. If the
    block raises, it cancels the flash first.
    """

    def __init__(self, plan: Plan, *, cancel: Union[CancelToken, Callable[[], bool], None] = None, client: Optional[Client] = None) -> None:
        self.plan = plan
        self._events: queue.SimpleQueue[Optional[Event]] = queue.SimpleQueue()
        self._token = CancelToken()
        self._report: Optional[FlashReport] = None
        self._failure: Optional[BaseException] = None
        self._is_reported = False
        stop = either(self._token, cancel)
        self._thread = start(lambda: self._work(stop, client), self._token)

    def _work(self, stop: Union[CancelToken, Callable[[], bool]], client: Optional[Client]) -> None:
        try:
            self._report = self.plan.execute(progress=self._events.put, cancel=stop, client=client)
        except BaseException as failure:  # noqa: BLE001 - raised by result()
            self._failure = failure
        finally:
            self._events.put(None)

    def cancel(self) -> None:
        """Cancels the flash, and returns immediately. The flash ends within a second."""
        self._token.cancel()

    @property
    def is_running(self) -> bool:
        """True until the flash has ended."""
        return self._thread.is_alive()

    def result(self, timeout: Optional[float] = None) -> FlashReport:
        """Waits for the end and returns the report. Raises ``TimeoutError`` after ``timeout``
        seconds, and the exceptions of :func:`bty.flash`.
        """
        self._thread.join(timeout)
        if self._thread.is_alive():
            raise TimeoutError("the flash is still running")
        self._is_reported = True
        if self._failure is not None:
            raise self._failure
        assert self._report is not None
        return self._report

    def __iter__(self) -> Iterator[Event]:
        while True:
            event = self._events.get()
            if event is None:
                # for other iterations over the same object
                self._events.put(None)
                return
            yield event

    def __enter__(self) -> Flashing:
        return self

    def __exit__(self, kind: Any, *_rest: Any) -> None:
        if kind is not None:
            self.cancel()
        self._thread.join()
        if kind is None and not self._is_reported:
            self.result()


def flashing(
    image: ImageLike,
    disk: Disks,
    *,
    sha256: Optional[str] = None,
    cancel: Union[CancelToken, Callable[[], bool], None] = None,
    client: Optional[Client] = None,
    verify: bool = True,
    fix_gpt: bool = False,
    fit: bool = False,
    uefi_boot: bool = False,
    allow_partition: bool = False,
    raw: bool = False,
    overwrite: bool = False,
    efivars: Union[str, PathLike[str]] = "/sys/firmware/efi/efivars",
    stall_ms: int = 120_000,
    delta: DeltaMode = "auto",
    stash: Size = "64 MiB",
    proven_disk: bool = False,
) -> Flashing:
    """Starts a flash like :func:`bty.flash`, in the background.

    Raises :class:`bty.SourceError` or :class:`bty.FormatError` if the image cannot be opened, and
    :class:`bty.RefusedError` if a safety rule forbids the flash. Later failures are raised by
    :meth:`Flashing.result`.

    >>> import bty, pathlib, tempfile
    >>> dir = pathlib.Path(tempfile.mkdtemp())
    >>> _ = (dir / "system.img").write_bytes(bytes(510) + bytes([0x55, 0xAA]) + bytes(523776))
    >>> disk = bty.disks.create_file(dir / "disk", 1 << 20)
    >>> with bty.flashing(dir / "system.img", disk) as work:
    ...     phases = [event.phase for event in work if event.event == "phase"]
    >>> phases, work.result().is_success
    (['wipe', 'write', 'verify'], True)
    """
    plan = _bty.Plan(
        image,
        disk,
        sha256=sha256,
        cancel=cancel,
        client=client,
        verify=verify,
        fix_gpt=fix_gpt,
        fit=fit,
        uefi_boot=uefi_boot,
        allow_partition=allow_partition,
        raw=raw,
        overwrite=overwrite,
        efivars=efivars,
        stall_ms=stall_ms,
        delta=delta,
        stash=stash,
        proven_disk=proven_disk,
    )
    plan.check()
    return Flashing(plan, cancel=cancel, client=client)
