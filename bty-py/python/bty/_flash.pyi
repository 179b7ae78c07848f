"""For type checkers: the module ``bty.flash`` is also a function."""

from . import flash as _module

class _Flash:
    __call__ = staticmethod(_module.flash)
    flash = staticmethod(_module.flash)
    verify = staticmethod(_module.verify)
    probe_image = staticmethod(_module.probe_image)
    probe_image_url = staticmethod(_module.probe_image_url)
    probe_target = staticmethod(_module.probe_target)
    make_plan = staticmethod(_module.make_plan)
    validate_plan = staticmethod(_module.validate_plan)
    execute_plan = staticmethod(_module.execute_plan)
    Plan = _module.Plan
    FlashPlan = _module.FlashPlan
    FlashProgress = _module.FlashProgress
    FlashReport = _module.FlashReport
    FlashOptions = _module.FlashOptions
    ImageInfo = _module.ImageInfo
    TargetInfo = _module.TargetInfo
    Refusal = _module.Refusal
    FlashError = _module.FlashError
    FlashCancelled = _module.FlashCancelled
    FlashIntegrityError = _module.FlashIntegrityError
    FlashRaceError = _module.FlashRaceError
    RefusedError = _module.RefusedError

flash: _Flash
