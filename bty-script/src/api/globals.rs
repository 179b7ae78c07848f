//! Functions without a module: what scripts say most often.

use std::time::Duration;

use rhai::plugin::*;
use rhai::{Array, Dynamic, EvalAltResult, FnPtr, INT, Map, NativeCallContext, Position};

use crate::context::{Capability, ScriptContext};
use crate::error::{HostError, Outcome, Power, Stop, raise, raise_unplaced};

fn wait<E>(context: &NativeCallContext<'_>, time: Result<Duration, E>) -> Outcome<()> {
    let host = ScriptContext::of(context, Capability::Power)?;
    let time = time.map_err(|_| raise(HostError::usage("that is no time to wait")))?;
    host.world.machine.sleep(time, &host.meter.operation()).map_err(raise)
}

fn end(context: &NativeCallContext<'_>, power: Power) -> Outcome<Dynamic> {
    ScriptContext::of(context, Capability::Power)?;
    Err(EvalAltResult::ErrorTerminated(Dynamic::from(Stop::Power(power)), Position::NONE).into())
}

#[export_module]
pub(super) mod functions {
    /// All disks; the same as `disks::list()`.
    #[rhai_fn(return_raw)]
    pub fn disks(context: NativeCallContext) -> Outcome<Array> {
        crate::api::disks::functions::list(context)
    }

    /// Writes an image to a disk or several, and proves it. The image is an image, a reference, an
    /// entry of a catalog, or a map with `src` and `sha256`, `sha512` or `image_sha256`; a disk is
    /// a disk or a selector. Fails with all reasons when it is refused, and when any disk failed.
    #[rhai_fn(return_raw)]
    pub fn flash(context: NativeCallContext, image: Dynamic, disks: Dynamic) -> Outcome<Dynamic> {
        crate::api::flash::flash(&context, &image, &disks, &Map::new(), None)
    }

    /// The same with options: `verify` (default true), `fix_gpt`, `fit`, `uefi_boot`,
    /// `allow_partition`, `raw`, `overwrite` (default false). `raw` writes an image in which
    /// nothing was recognized, `overwrite` replaces an image in a file.
    #[rhai_fn(name = "flash", return_raw)]
    pub fn flash_with(
        context: NativeCallContext,
        image: Dynamic,
        disks: Dynamic,
        options: Map,
    ) -> Outcome<Dynamic> {
        crate::api::flash::flash(&context, &image, &disks, &options, None)
    }

    /// The same with a function that is called with each event of the progress, a map like the
    /// lines of `bty flash --json`. What it throws cancels the flash.
    #[rhai_fn(name = "flash", return_raw)]
    pub fn flash_watched(
        context: NativeCallContext,
        image: Dynamic,
        disks: Dynamic,
        options: Map,
        progress: FnPtr,
    ) -> Outcome<Dynamic> {
        crate::api::flash::flash(&context, &image, &disks, &options, Some(progress))
    }

    /// Compares a disk with an image, and writes nothing: a report with `is_equal`,
    /// `first_difference`, `different_bytes`.
    #[rhai_fn(return_raw)]
    pub fn verify(context: NativeCallContext, image: Dynamic, disk: Dynamic) -> Outcome<Dynamic> {
        crate::api::flash::verify(&context, &image, &disk)
    }

    /// Waits so many seconds.
    #[rhai_fn(name = "sleep", volatile, return_raw)]
    pub fn sleep(context: NativeCallContext, seconds: INT) -> Outcome<()> {
        wait(&context, Duration::try_from_secs_f64(seconds as f64))
    }

    /// Waits so many seconds, and parts of one.
    #[rhai_fn(name = "sleep", volatile, return_raw)]
    pub fn sleep_parts(context: NativeCallContext, seconds: f64) -> Outcome<()> {
        wait(&context, Duration::try_from_secs_f64(seconds))
    }

    /// Ends the script; then the machine restarts.
    #[rhai_fn(volatile, return_raw)]
    pub fn reboot(context: NativeCallContext) -> Outcome<Dynamic> {
        end(&context, Power::Reboot)
    }

    /// Ends the script; then the machine goes straight into the system on a disk, past the
    /// firmware. Fails when its kernel is not found: then `reboot()` is the way.
    #[rhai_fn(volatile, return_raw)]
    pub fn kexec(context: NativeCallContext, disk: Dynamic) -> Outcome<Dynamic> {
        let host = ScriptContext::of(&context, Capability::Power)?;
        let disk = crate::api::flash::one_disk(&context, &disk)?;
        host.world.machine.load_kernel(&disk.path).map_err(raise)?;
        end(&context, Power::Kexec)
    }

    /// Ends the script; then the machine is switched off.
    #[rhai_fn(volatile, return_raw)]
    pub fn power_off(context: NativeCallContext) -> Outcome<Dynamic> {
        end(&context, Power::PowerOff)
    }

    /// Ends the script.
    #[rhai_fn(volatile, return_raw)]
    pub fn exit() -> Outcome<Dynamic> {
        exit_with(0)
    }

    /// Ends the script, and `bty run` with this exit code: 0 to 255.
    #[rhai_fn(name = "exit", volatile, return_raw)]
    pub fn exit_with(code: INT) -> Outcome<Dynamic> {
        let code = u8::try_from(code).map_err(|_| {
            raise_unplaced(HostError::usage(format!("an exit code is 0 to 255, not {code}")))
        })?;
        Err(EvalAltResult::ErrorTerminated(Dynamic::from(Stop::Exit(code)), Position::NONE).into())
    }

    /// Takes note of a line in the log of the machine.
    #[rhai_fn(volatile, return_raw)]
    pub fn log(context: NativeCallContext, line: &str) -> Outcome<()> {
        let host = ScriptContext::of(&context, Capability::Read)?;
        host.world.machine.log(&bty::text::escape(line));
        Ok(())
    }
}
