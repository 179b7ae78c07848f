"""``async`` versions: ``await bty.aflash(…)``, ``async for event in bty.aio.flashing(…)``.

Operations run in threads, so that they do not block the event loop. Canceling a task cancels its
operation, and waits until that has ended.
"""

from __future__ import annotations

import asyncio
from functools import partial

from . import _bty
from ._bty import CancelToken, CreateReport, FlashReport, Image, PackCheck, PackReport, Plan, VerifyReport
from .work import either, start

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable
    from os import PathLike
    from typing import Any, Callable, Optional, TypeVar, Union

    from typing_extensions import Unpack

    from ._bty import Catalog, Client, Entry, ImageFile
    from .events import Event
    from .types import DiskLike, Disks, ImageLike, Size
    from .work import _FlashOptions

    T = TypeVar("T")
    Cancel = Union[CancelToken, Callable[[], bool], None]
    Progress = Union[Callable[[Event], object], Callable[[Event], Awaitable[object]], None]

__all__ = [
    "aflash",
    "averify",
    "check_packed",
    "create_image",
    "execute",
    "flashing",
    "load_catalog",
    "open_image",
    "pack_image",
]


async def _in_thread(work: Callable[..., T], cancel: Cancel) -> T:
    """Runs ``work(cancel=…)`` in its own thread, because the loop's pool is for short work."""
    loop = asyncio.get_running_loop()
    token = CancelToken()
    ended: asyncio.Future[T] = loop.create_future()

    def settle(result: Any, failure: Optional[BaseException]) -> None:
        if ended.done():
            return
        if failure is None:
            ended.set_result(result)
        else:
            ended.set_exception(failure)

    def run() -> None:
        result, failure = None, None
        try:
            result = work(cancel=either(token, cancel))
        except BaseException as raised:  # noqa: BLE001 - it is raised in the task
            failure = raised
        try:
            loop.call_soon_threadsafe(settle, result, failure)
        except RuntimeError:
            pass  # the loop was closed meanwhile

    start(run, token)
    try:
        return await asyncio.shield(ended)
    except asyncio.CancelledError:
        token.cancel()
        await asyncio.wait([ended])
        # mark the exception as retrieved, so that asyncio does not log it
        ended.exception()
        raise


def _in_loop(progress: Progress) -> Optional[Callable[[Event], object]]:
    """Wraps ``progress`` so that it runs in the event loop, and waits for it. An exception from it
    cancels the work.
    """
    if progress is None:
        return None
    loop = asyncio.get_running_loop()

    async def call(event: Event) -> None:
        result = progress(event)
        if asyncio.iscoroutine(result):
            await result

    return lambda event: asyncio.run_coroutine_threadsafe(call(event), loop).result()


async def open_image(
    reference: Union[str, PathLike[str], Entry, ImageFile],
    *,
    sha256: Optional[str] = None,
    ignore_sidecar: bool = False,
    client: Optional[Client] = None,
    cancel: Cancel = None,
    sha512: Optional[str] = None,
    image_sha256: Optional[str] = None,
    member: Optional[str] = None,
    ignore_trailing: bool = False,
    compute_sha256: bool = False,
) -> Image:
    """The ``async`` version of :func:`bty.images.open`.

    >>> import asyncio, bty, tempfile
    >>> with tempfile.NamedTemporaryFile(suffix=".img") as file:
    ...     _ = file.write(bytes(4096)), file.flush()
    ...     asyncio.run(bty.aio.open_image(file.name)).info.disk_bytes
    4096
    """
    work = partial(
        _bty.images_open,
        reference,
        sha256=sha256,
        ignore_sidecar=ignore_sidecar,
        client=client,
        sha512=sha512,
        image_sha256=image_sha256,
        member=member,
        ignore_trailing=ignore_trailing,
        compute_sha256=compute_sha256,
    )
    return await _in_thread(work, cancel)


async def pack_image(
    image: ImageLike,
    path: Union[str, PathLike[str]],
    *,
    level: int = 3,
    frame_bytes: Size = "64 KiB",
    sha256: Optional[str] = None,
    progress: Progress = None,
    cancel: Cancel = None,
    client: Optional[Client] = None,
) -> PackReport:
    """The ``async`` version of :func:`bty.images.pack`.

    >>> import asyncio, bty, pathlib, tempfile
    >>> dir = pathlib.Path(tempfile.mkdtemp())
    >>> _ = (dir / "system.img").write_bytes(bytes(510) + bytes([0x55, 0xAA]) + bytes(523776))
    >>> asyncio.run(bty.aio.pack_image(dir / "system.img", dir / "system.img.zst")).disk_bytes
    524288
    """
    work = partial(
        _bty.images_pack,
        image,
        path,
        level=level,
        frame_bytes=frame_bytes,
        sha256=sha256,
        progress=_in_loop(progress),
        client=client,
    )
    return await _in_thread(work, cancel)


async def check_packed(
    image: ImageLike, *, sha256: Optional[str] = None, cancel: Cancel = None, client: Optional[Client] = None
) -> PackCheck:
    """The ``async`` version of :func:`bty.images.check_packed`.

    >>> import asyncio, bty
    >>> try:
    ...     asyncio.run(bty.aio.check_packed("/nowhere.img.zst"))
    ... except bty.SourceError as error:
    ...     print(error.path)
    /nowhere.img.zst
    """
    return await _in_thread(partial(_bty.images_check_packed, image, sha256=sha256, client=client), cancel)


async def create_image(
    disk: DiskLike,
    path: Union[str, PathLike[str]],
    *,
    shrink: bool = False,
    progress: Progress = None,
    cancel: Cancel = None,
) -> CreateReport:
    """The ``async`` version of :func:`bty.images.create`.

    >>> import asyncio, bty, pathlib, tempfile
    >>> dir = pathlib.Path(tempfile.mkdtemp())
    >>> disk = bty.disks.create_file(dir / "disk", "1 MiB")
    >>> asyncio.run(bty.aio.create_image(disk, dir / "backup.qcow2")).format
    'qcow2'
    """
    work = partial(_bty.images_create, disk, path, shrink=shrink, progress=_in_loop(progress))
    return await _in_thread(work, cancel)


async def load_catalog(reference: Union[str, PathLike[str]], *, client: Optional[Client] = None, cancel: Cancel = None) -> Catalog:
    """The ``async`` version of :func:`bty.catalog.load`.

    >>> import asyncio, bty
    >>> try:
    ...     asyncio.run(bty.aio.load_catalog("/nowhere.toml"))
    ... except bty.CatalogError as error:
    ...     print(error.path)
    /nowhere.toml
    """
    return await _in_thread(partial(_bty.catalog_load, reference, client=client), cancel)


async def execute(plan: Plan, *, progress: Progress = None, cancel: Cancel = None, client: Optional[Client] = None) -> FlashReport:
    """The ``async`` version of :meth:`bty.Plan.execute`. ``progress`` is called in the event loop,
    and may be a coroutine function.

    >>> import asyncio, bty, pathlib, tempfile
    >>> dir = pathlib.Path(tempfile.mkdtemp())
    >>> _ = (dir / "system.img").write_bytes(bytes(510) + bytes([0x55, 0xAA]) + bytes(523776))
    >>> plan = bty.Plan(dir / "system.img", bty.disks.create_file(dir / "disk", 1 << 20))
    >>> asyncio.run(bty.aio.execute(plan)).is_success
    True
    """
    return await _in_thread(partial(plan.execute, progress=_in_loop(progress), client=client), cancel)


async def aflash(
    image: ImageLike,
    disk: Disks,
    *,
    sha256: Optional[str] = None,
    progress: Progress = None,
    cancel: Cancel = None,
    client: Optional[Client] = None,
    **options: Unpack[_FlashOptions],
) -> FlashReport:
    """The ``async`` version of :func:`bty.flash`. ``progress`` is called in the event loop, and may
    be a coroutine function.

    >>> import asyncio, bty, pathlib, tempfile
    >>> dir = pathlib.Path(tempfile.mkdtemp())
    >>> _ = (dir / "system.img").write_bytes(bytes(510) + bytes([0x55, 0xAA]) + bytes(523776))
    >>> disk = bty.disks.create_file(dir / "disk", 1 << 20)
    >>> asyncio.run(bty.aflash(dir / "system.img", disk)).is_success
    True
    """
    plan: Plan = await _in_thread(partial(_bty.Plan, image, disk, sha256=sha256, client=client, **options), cancel)
    return await execute(plan, progress=progress, cancel=cancel, client=client)


async def averify(
    image: ImageLike,
    disk: DiskLike,
    *,
    fix_gpt: bool = False,
    sha256: Optional[str] = None,
    progress: Progress = None,
    cancel: Cancel = None,
    client: Optional[Client] = None,
) -> VerifyReport:
    """The ``async`` version of :func:`bty.verify`.

    >>> import asyncio, bty, pathlib, tempfile
    >>> dir = pathlib.Path(tempfile.mkdtemp())
    >>> _ = (dir / "system.img").write_bytes(bytes(510) + bytes([0x55, 0xAA]) + bytes(523776))
    >>> asyncio.run(bty.averify(dir / "system.img", dir / "system.img")).is_equal
    True
    """
    work = partial(_bty.verify, image, disk, fix_gpt=fix_gpt, sha256=sha256, progress=_in_loop(progress), client=client)
    return await _in_thread(work, cancel)


async def flashing(
    image: ImageLike,
    disk: Disks,
    *,
    sha256: Optional[str] = None,
    cancel: Cancel = None,
    client: Optional[Client] = None,
    **options: Unpack[_FlashOptions],
) -> AsyncIterator[Event]:
    """Flashes like :func:`bty.flash`, and yields its events. Raises at the end if the flash failed.
    Leaving the ``async for`` early cancels the flash.

    >>> import asyncio, bty, pathlib, tempfile
    >>> dir = pathlib.Path(tempfile.mkdtemp())
    >>> _ = (dir / "system.img").write_bytes(bytes(510) + bytes([0x55, 0xAA]) + bytes(523776))
    >>> disk = bty.disks.create_file(dir / "disk", 1 << 20)
    >>> async def phases():
    ...     return [event.phase async for event in bty.aio.flashing(dir / "system.img", disk) if event.event == "phase"]
    >>> asyncio.run(phases())
    ['wipe', 'write', 'verify']
    """
    events: asyncio.Queue[Optional[Event]] = asyncio.Queue()
    token = CancelToken()
    work = asyncio.ensure_future(
        aflash(
            image,
            disk,
            sha256=sha256,
            progress=events.put_nowait,
            cancel=either(token, cancel),
            client=client,
            **options,
        )
    )
    work.add_done_callback(lambda _: events.put_nowait(None))
    try:
        while (event := await events.get()) is not None:
            yield event
        await work
    finally:
        token.cancel()
        await asyncio.wait([work])
        if not work.cancelled():
            work.exception()
