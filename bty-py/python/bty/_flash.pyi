"""Type of ``bty.flash``, a function whose attributes are the names of its module. A test compares
it with the module.
"""

from pathlib import Path
from typing import Callable, Optional, final

from . import _bty, errors, types
from .flash import FlashPlan as _FlashPlan
from .flash import FlashProgress as _FlashProgress
from .flash import ImageInfo as _ImageInfo
from .flash import TargetInfo as _TargetInfo

@final
class _Flash:
    FlashCancelled: type[errors.FlashCancelled]
    FlashError: type[errors.FlashError]
    FlashIntegrityError: type[errors.FlashIntegrityError]
    FlashOptions: type[_bty.FlashOptions]
    FlashPlan: type[_FlashPlan]
    FlashProgress: type[_FlashProgress]
    FlashRaceError: type[errors.FlashRaceError]
    FlashReport: type[_bty.FlashReport]
    ImageInfo: type[_ImageInfo]
    Plan: type[_bty.Plan]
    RefusedError: type[errors.RefusedError]
    Refusal: type[_bty.Refusal]
    TargetInfo: type[_TargetInfo]
    TargetReport: type[_bty.TargetReport]
    VerifyReport: type[_bty.VerifyReport]

    def __call__(
        self,
        image: types.ImageLike,
        disk: types.Disks,
        *,
        sha256: Optional[str] = None,
        progress: types.Progress = None,
        cancel: types.Cancel = None,
        client: Optional[_bty.Client] = None,
        verify: bool = True,
        fix_gpt: bool = False,
        fit: bool = False,
        uefi_boot: bool = False,
        allow_partition: bool = False,
        raw: bool = False,
        overwrite: bool = False,
        efivars: types.PathLike = "/sys/firmware/efi/efivars",
        stall_ms: int = 120_000,
        delta: types.DeltaMode = "auto",
        stash: types.Size = "64 MiB",
        proven_disk: bool = False,
    ) -> _bty.FlashReport: ...
    @property
    def flash(self) -> _Flash: ...
    def verify(
        self,
        image: types.ImageLike,
        disk: types.DiskLike,
        *,
        fix_gpt: bool = False,
        sha256: Optional[str] = None,
        progress: types.Progress = None,
        cancel: types.Cancel = None,
        client: Optional[_bty.Client] = None,
    ) -> _bty.VerifyReport: ...
    def probe_image(self, path: Path) -> _ImageInfo: ...
    def probe_image_url(
        self, url: str, format_hint: Optional[str] = None, *, expected_sha: Optional[str] = None
    ) -> _ImageInfo: ...
    def probe_target(self, path: Path) -> _TargetInfo: ...
    def make_plan(self, image: _ImageInfo, target: _TargetInfo) -> _FlashPlan: ...
    def validate_plan(self, plan: _FlashPlan) -> list[str]: ...
    def execute_plan(
        self,
        plan: _FlashPlan,
        *,
        progress: Optional[Callable[[_FlashProgress], None]] = None,
        cancel: Optional[Callable[[], bool]] = None,
    ) -> None: ...
    def register_uefi_boot_entry(self, target_disk: Path, *, label: str = "bty flashed") -> str: ...

flash: _Flash
