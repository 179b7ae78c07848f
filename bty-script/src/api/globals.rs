//! Functions without a module: the ones that scripts use most.

use std::time::Duration;

use bty::flash::{FlashReport, VerifyReport};
use rhai::plugin::*;
use rhai::{Dynamic, EvalAltResult, FnPtr, INT, Map, NativeCallContext, Position};

use crate::api::types::{AnyDisk, AnyDisks, AnyImage, Disks, Never};
use crate::context::{Capability, ScriptContext};
use crate::error::{CallResult, HostError, PowerAction, Stop, raise, raise_unplaced};

fn wait<E>(call: &NativeCallContext<'_>, time: Result<Duration, E>) -> CallResult<()> {
    let context = ScriptContext::require(call, Capability::Power)?;
    let time = time
        .map_err(|_| raise(HostError::usage("cannot sleep: the time is negative or too large")))?;
    context.world.platform.sleep(time, &context.meter.operation()).map_err(raise)
}

fn end(call: &NativeCallContext<'_>, power: PowerAction) -> CallResult<Dynamic> {
    ScriptContext::require(call, Capability::Power)?;
    Err(EvalAltResult::ErrorTerminated(Dynamic::from(Stop::Power(power)), Position::NONE).into())
}

#[export_module]
pub(super) mod functions {
    /// Lists all disks; the same as `disks::list()`.
    #[rhai_fn(return_raw)]
    pub fn disks(call: NativeCallContext) -> CallResult<Disks> {
        crate::api::disks::functions::list(call)
    }

    /// Writes an image to one or more disks, and verifies it. The image is an `Image`, a reference,
    /// an `Entry` of a catalog, or a map with `src` and optionally `sha256`, `sha512` or
    /// `image_sha256`. If an entry or a map has a packed form (`packed` and `index_sha256`), that
    /// is used. Each disk is a `Disk` or a selector. Fails with all reasons if the flash is
    /// refused, and if any disk fails.
    #[rhai_fn(return_raw)]
    pub fn flash(
        call: NativeCallContext,
        image: AnyImage,
        disks: AnyDisks,
    ) -> CallResult<FlashReport> {
        crate::api::flash::flash(&call, &image, &disks, &Map::new(), None)
    }

    /// Flashes with options: `verify` (default true), and `fix_gpt`, `fit`, `uefi_boot`,
    /// `allow_partition`, `raw`, `overwrite` (default false). `raw` writes an image in which no
    /// partition table, file system or boot sector was found. `overwrite` replaces a file that
    /// already holds an image. `delta` says whether to keep and move what the disk already holds:
    /// `auto` (default), `always` or `never`. `stash` is the memory for that, a size such as
    /// `"64M"`. `proven_disk: true` says that the disk has passed a full proof before, so that a
    /// delta flash may read back only a sample of what it has kept.
    #[rhai_fn(name = "flash", return_raw)]
    pub fn flash_with(
        call: NativeCallContext,
        image: AnyImage,
        disks: AnyDisks,
        options: Map,
    ) -> CallResult<FlashReport> {
        crate::api::flash::flash(&call, &image, &disks, &options, None)
    }

    /// Flashes with options, and calls `progress` with each progress event: a map like the lines of
    /// `bty flash --json`. If `progress` throws, the flash is cancelled.
    #[rhai_fn(name = "flash", return_raw)]
    pub fn flash_watched(
        call: NativeCallContext,
        image: AnyImage,
        disks: AnyDisks,
        options: Map,
        progress: FnPtr,
    ) -> CallResult<FlashReport> {
        crate::api::flash::flash(&call, &image, &disks, &options, Some(progress))
    }

    /// Compares a disk with an image, and writes nothing. Returns a `Comparison`.
    #[rhai_fn(return_raw)]
    pub fn verify(
        call: NativeCallContext,
        image: AnyImage,
        disk: AnyDisk,
    ) -> CallResult<VerifyReport> {
        crate::api::flash::verify(&call, &image, &disk)
    }

    /// Waits for a number of seconds.
    #[rhai_fn(name = "sleep", volatile, return_raw)]
    pub fn sleep(call: NativeCallContext, seconds: INT) -> CallResult<()> {
        wait(&call, Duration::try_from_secs_f64(seconds as f64))
    }

    /// Waits for a number of seconds, with fractions.
    #[rhai_fn(name = "sleep", volatile, return_raw)]
    pub fn sleep_parts(call: NativeCallContext, seconds: f64) -> CallResult<()> {
        wait(&call, Duration::try_from_secs_f64(seconds))
    }

    /// Ends the script and restarts the machine.
    #[rhai_fn(volatile, return_raw)]
    pub fn reboot(call: NativeCallContext) -> CallResult<Never> {
        end(&call, PowerAction::Reboot)
    }

    /// Ends the script and starts the kernel of the system on `disk`, without going through the
    /// firmware. Fails if no kernel is found on the disk; use `reboot()` then.
    #[rhai_fn(volatile, return_raw)]
    pub fn kexec(call: NativeCallContext, disk: AnyDisk) -> CallResult<Never> {
        let context = ScriptContext::require(&call, Capability::Power)?;
        let disk = crate::api::disk_argument::one_disk(&call, &disk)?;
        context.world.platform.load_kernel(&disk.path).map_err(raise)?;
        end(&call, PowerAction::Kexec)
    }

    /// Ends the script and powers the machine off.
    #[rhai_fn(volatile, return_raw)]
    pub fn power_off(call: NativeCallContext) -> CallResult<Never> {
        end(&call, PowerAction::PowerOff)
    }

    /// Ends the script; `bty run` exits with 0.
    #[rhai_fn(volatile, return_raw)]
    pub fn exit() -> CallResult<Never> {
        exit_with(0)
    }

    /// Ends the script; `bty run` exits with `code` (0 to 255).
    #[rhai_fn(name = "exit", volatile, return_raw)]
    pub fn exit_with(code: INT) -> CallResult<Never> {
        let code = u8::try_from(code).map_err(|_| {
            raise_unplaced(HostError::usage(format!(
                "cannot exit with code {code}: exit codes are 0 to 255"
            )))
        })?;
        Err(EvalAltResult::ErrorTerminated(Dynamic::from(Stop::Exit(code)), Position::NONE).into())
    }

    /// Writes a line to the machine's kernel log.
    #[rhai_fn(volatile, return_raw)]
    pub fn log(call: NativeCallContext, line: &str) -> CallResult<()> {
        let context = ScriptContext::require(&call, Capability::Read)?;
        context.world.platform.log(&bty::text::escape(line));
        Ok(())
    }
}
