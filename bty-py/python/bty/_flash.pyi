"""Types of the module ``bty.flash``, which is also a function."""

from pathlib import Path
from typing import Callable, Optional, final

from . import _bty, errors
from .flash import FlashPlan as _FlashPlan
from .flash import FlashProgress as _FlashProgress
from .flash import ImageInfo as _ImageInfo
from .flash import TargetInfo as _TargetInfo

@final
class _Flash:
    FlashPlan: type[_FlashPlan]
    FlashProgress: type[_FlashProgress]
    ImageInfo: type[_ImageInfo]
    TargetInfo: type[_TargetInfo]
    Plan: type[_bty.Plan]
    FlashReport: type[_bty.FlashReport]
    FlashOptions: type[_bty.FlashOptions]
    Refusal: type[_bty.Refusal]
    FlashError: type[errors.FlashError]
    FlashCancelled: type[errors.FlashCancelled]
    FlashIntegrityError: type[errors.FlashIntegrityError]
    FlashRaceError: type[errors.FlashRaceError]
    RefusedError: type[errors.RefusedError]

    def __call__(
        self,
        image: _bty.ImageLike,
        disk: _bty.Disks,
        *,
        sha256: Optional[str] = None,
        progress: _bty.Progress = None,
        cancel: _bty.Cancel = None,
        client: Optional[_bty.Client] = None,
        verify: bool = True,
        fix_gpt: bool = False,
        fit: bool = False,
        uefi_boot: bool = False,
        allow_partition: bool = False,
        raw: bool = False,
        overwrite: bool = False,
        efivars: _bty.PathLike = "/sys/firmware/efi/efivars",
        stall_ms: int = 120_000,
    ) -> _bty.FlashReport: ...
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

flash: _Flash
