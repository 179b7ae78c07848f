//! The module `flash`, and the types `Plan`, `Report` and `Comparison`. Every write of a script
//! goes through here, and so through the library's plan, validation and executor.

use std::sync::mpsc;
use std::thread;

use bty::catalog::Entry;
use bty::flash::{
    DeltaMode, EraseReport, EraseWay, FlashOptions, FlashPlan, FlashReport, Refusal, VerifyReport,
    plan_erase,
};
use bty::{CancelToken, Disk, Error, ErrorKind, Event};
use rhai::plugin::*;
use rhai::{Array, Dynamic, FnPtr, Map, NativeCallContext};
use serde::Serialize;

use super::disk_argument::{disks_of, one_disk};
use super::images::from_value as image_of;
use crate::api::types::{
    AnyDisks, AnyImage, Bytes, Disks, Maps, MaybeMap, MaybeString, Object, Strings,
};
use crate::context::{Capability, ScriptContext};
use crate::convert::{Size, from_rust};
use crate::error::{CallResult, HostError, raise};
use crate::world::{Image, PlannedFlash};

/// Names of the options of a flash.
pub(super) const FLASH_OPTIONS: [&str; 10] = [
    "verify",
    "fix_gpt",
    "fit",
    "uefi_boot",
    "allow_partition",
    "raw",
    "overwrite",
    "delta",
    "stash",
    "proven_disk",
];

/// Unknown options fail: a misspelled one may be the one that protects data.
fn options_of(map: &Map) -> CallResult<FlashOptions> {
    let mut options = FlashOptions::default();
    for (name, value) in map {
        let flag = value.as_bool().map_err(|_| {
            raise(HostError::usage(format!("the option {name} of flash must be true or false")))
        });
        match name.as_str() {
            "verify" => options.verify = flag?,
            "fix_gpt" => options.fix_gpt = flag?,
            "fit" => options.fit = flag?,
            "uefi_boot" => options.uefi_boot = flag?,
            "allow_partition" => options.allow_partition = flag?,
            "raw" => options.raw = flag?,
            "overwrite" => options.overwrite = flag?,
            "delta" => options.delta = delta_of(value)?,
            "stash" => options.stash_bytes = Size::from_dynamic(value)?.0,
            "proven_disk" => options.proven_disk = flag?,
            _ => {
                let hint = format!("the options are {}", FLASH_OPTIONS.join(", "));
                return Err(raise(
                    HostError::usage(format!("unknown option {name} of flash")).hint(hint),
                ));
            }
        }
    }
    Ok(options)
}

fn delta_of(value: &Dynamic) -> CallResult<DeltaMode> {
    value.clone().into_string().unwrap_or_default().parse().map_err(raise)
}

/// Adds what the map of an image, as a plan has it, says about the flash. `given` are the options
/// of the script, which win. They are in that map because the flash of older versions refuses
/// options that it does not know, and ignores unknown keys of an image.
fn add_hints(image: &Dynamic, given: &Map, options: &mut FlashOptions) -> CallResult<()> {
    let Some(map) = image.read_lock::<Map>() else { return Ok(()) };
    if let Some(delta) = map.get("delta").filter(|_| !given.contains_key("delta")) {
        options.delta = delta_of(delta)?;
    }
    if let Some(proven) = map.get("proven_disk").filter(|_| !given.contains_key("proven_disk")) {
        options.proven_disk = proven.as_bool() == Ok(true);
    }
    Ok(())
}

/// True if the catalog entry, or the map of a plan, allows an unrecognized image.
fn is_raw(image: &Dynamic) -> bool {
    let of_entry = image.read_lock::<Entry>().is_some_and(|entry| entry.raw);
    let of_map = image
        .read_lock::<Map>()
        .is_some_and(|map| map.get("raw").is_some_and(|raw| raw.as_bool() == Ok(true)));
    of_entry || of_map
}

fn plan(
    call: &NativeCallContext<'_>,
    image: &Dynamic,
    disks: &Dynamic,
    options: &Map,
) -> CallResult<PlannedFlash> {
    let given = options;
    let mut options = options_of(given)?;
    add_hints(image, given, &mut options)?;
    options.raw |= is_raw(image);
    // first, since opening the image may mean a download
    let disks = disks_of(call, disks)?;
    let image = image_of(call, image, options.delta)?;
    Ok(PlannedFlash { plan: FlashPlan::new(&image.info, disks, options), image })
}

/// Plans and executes a flash; fails unless every disk is flashed.
pub(crate) fn flash(
    call: &NativeCallContext<'_>,
    image: &Dynamic,
    disks: &Dynamic,
    options: &Map,
    progress: Option<FnPtr>,
) -> CallResult<FlashReport> {
    ScriptContext::require(call, Capability::Flash)?;
    let plan = plan(call, image, disks, options)?;
    let report = execute(call, &plan, progress)?;
    match failure(&report) {
        None => Ok(report),
        Some(error) => Err(raise(error)),
    }
}

/// The failures of all disks in a report as one error.
fn failure(report: &FlashReport) -> Option<HostError> {
    let kind = report.failure_kind()?;
    let failed =
        report.targets.iter().filter_map(|target| Some((target, target.failure.as_ref()?)));
    let texts: Vec<String> = failed
        .clone()
        .map(|(target, failure)| format!("{}: {}", target.disk.path.display(), failure.message))
        .collect();
    let mut error = HostError::new(kind.as_str(), texts.join("; "));
    let first = failed.clone().next();
    error.path = first.map(|(target, _)| target.disk.path.display().to_string());
    error.offset = first.and_then(|(_, failure)| failure.offset);
    error.hint = failed.clone().find_map(|(_, failure)| failure.hint.clone());
    error.report = serde_json::to_value(report).ok();
    error.has_written = true;
    Some(error)
}

fn execute(
    call: &NativeCallContext<'_>,
    plan: &PlannedFlash,
    progress: Option<FnPtr>,
) -> CallResult<FlashReport> {
    let context = ScriptContext::require(call, Capability::Flash)?;
    let cancel = context.meter.operation();
    let run = || {
        let flasher = &context.world.flasher;
        match &progress {
            None => flasher
                .execute(&plan.plan, &plan.image, &*context.world.observer, &cancel)
                .map_err(raise),
            Some(progress) => execute_with_progress(call, &context, plan, progress, &cancel),
        }
    };
    let result = context.meter.with_buffers(run);
    context.world.observer.finished();
    result
}

/// Executes the plan on another thread and calls the script's `progress` function on this one:
/// the engine must stay on its thread.
fn execute_with_progress(
    call: &NativeCallContext<'_>,
    context: &ScriptContext,
    plan: &PlannedFlash,
    progress: &FnPtr,
    outer: &CancelToken,
) -> CallResult<FlashReport> {
    let cancel = CancelToken::new();
    let (sender, events) = mpsc::channel::<Event>();
    let sender = std::sync::Mutex::new(sender);
    thread::scope(|scope| {
        let (own, flasher) = (&cancel, &context.world.flasher);
        let work = move || {
            let observer = |event: &Event| {
                // fails only after the progress function has thrown
                let _ = sender.lock().map(|sender| sender.send(event.clone()));
            };
            // when this thread ends it drops the sender, which ends the loop below
            flasher.execute(&plan.plan, &plan.image, &observer, own)
        };
        let started = thread::Builder::new().spawn_scoped(scope, work);
        let work = started
            .map_err(|e| raise(Error::new(ErrorKind::Host, "starting a thread").because(e)))?;
        let mut thrown = None;
        loop {
            if outer.is_cancelled() {
                cancel.cancel();
            }
            match events.recv_timeout(std::time::Duration::from_millis(100)) {
                Ok(event) if thrown.is_none() => {
                    let called = from_rust(&event).and_then(|event| {
                        progress.call_within_context::<Dynamic>(call, (event,)).map(drop)
                    });
                    if let Err(error) = called {
                        cancel.cancel();
                        thrown = Some(error);
                    }
                }
                Ok(_) | Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
            }
        }
        ScriptContext::from_call(call)?;
        let result = work
            .join()
            .unwrap_or_else(|_| Err(Error::new(ErrorKind::Host, "the flash ended unexpectedly")));
        match thrown {
            Some(error) => Err(error),
            None => result.map_err(raise),
        }
    })
}

/// Erases a disk, and reads it back.
pub(super) fn erase(
    call: &NativeCallContext<'_>,
    disk: &Dynamic,
    way: &str,
) -> CallResult<EraseReport> {
    ScriptContext::require(call, Capability::Flash)?;
    let way = way.parse::<EraseWay>().map_err(raise)?;
    let disk = one_disk(call, disk)?;
    let (plan, image) = plan_erase(&disk, way).map_err(raise)?;
    let report = execute(call, &PlannedFlash { plan, image: image.into() }, None)?;
    EraseReport::new(&report).map_err(raise)
}

/// Compares a disk with an image.
pub(crate) fn verify(
    call: &NativeCallContext<'_>,
    image: &Dynamic,
    disk: &Dynamic,
) -> CallResult<VerifyReport> {
    let context = ScriptContext::require(call, Capability::Read)?;
    let disk = one_disk(call, disk)?;
    // as published, so that its digest is checked too
    let image = image_of(call, image, DeltaMode::Never)?;
    let cancel = context.meter.operation();
    let compare = || context.world.flasher.verify(&image, &disk, &*context.world.observer, &cancel);
    let report = context.meter.with_buffers(compare);
    context.world.observer.finished();
    report.map_err(raise)
}

/// Refusals as maps. The remedy is added here, because the library does not serialize it.
fn refusal_maps(refusals: &[Refusal]) -> CallResult<Maps> {
    let map = |refusal: &Refusal| {
        let mut fields = from_rust(refusal)?.try_cast::<Map>().unwrap_or_default();
        let remedy = refusal.remedy.map_or(Dynamic::UNIT, |remedy| remedy.as_str().into());
        fields.insert("remedy".into(), remedy);
        Ok(Dynamic::from(fields))
    };
    Ok(refusals.iter().map(map).collect::<CallResult<Array>>()?.into())
}

fn field<T: Serialize>(value: &T, name: &str) -> CallResult<Dynamic> {
    let all = from_rust(value)?;
    let found = all.read_lock::<Map>().and_then(|map| map.get(name).cloned());
    Ok(found.unwrap_or_default())
}

#[export_module]
pub(super) mod functions {
    /// Plans to write an image to one or more disks, with the same arguments as the global `flash`.
    /// Writes nothing.
    #[rhai_fn(name = "plan", return_raw)]
    pub fn plan_plainly(
        call: NativeCallContext,
        image: AnyImage,
        disks: AnyDisks,
    ) -> CallResult<PlannedFlash> {
        super::plan(&call, &image, &disks, &Map::new())
    }

    /// Plans a flash with the options of the global `flash`.
    #[rhai_fn(name = "plan", return_raw)]
    pub fn plan_with(
        call: NativeCallContext,
        image: AnyImage,
        disks: AnyDisks,
        options: Map,
    ) -> CallResult<PlannedFlash> {
        super::plan(&call, &image, &disks, &options)
    }

    /// All reasons against the plan: maps with `target`, `reason`, `message` and `remedy` (a word
    /// for what helps, or `()`). Empty if the plan may be executed.
    #[rhai_fn(global, pure, return_raw)]
    pub fn validate(plan: &mut PlannedFlash) -> CallResult<Maps> {
        refusal_maps(&plan.plan.validate())
    }

    /// Words for what helps against the warnings of the plan: `sha256`, `fix_gpt`.
    #[rhai_fn(global, pure)]
    pub fn remedies(plan: &mut PlannedFlash) -> Strings {
        plan.plan.remedies().into_iter().map(|remedy| remedy.as_str().into()).collect()
    }

    /// All reasons not to write to the disk, whatever the image: maps like those of
    /// `Plan.validate()`.
    #[rhai_fn(global, name = "refusals", pure, return_raw)]
    pub fn refusals_plainly(disk: &mut Disk) -> CallResult<Maps> {
        refusal_maps(&disk.refusals(&FlashOptions::default()))
    }

    /// The same with options of the global `flash`, of which `allow_partition` and `overwrite`
    /// matter.
    #[rhai_fn(global, name = "refusals", pure, return_raw)]
    pub fn refusals_with(disk: &mut Disk, options: Map) -> CallResult<Maps> {
        refusal_maps(&disk.refusals(&options_of(&options)?))
    }

    /// Executes the plan. If a disk fails, the report says so (`is_success` is false). Throws if
    /// the plan is refused, the image fails, or the flash is cancelled.
    #[rhai_fn(global, name = "execute", return_raw)]
    pub fn execute_plainly(
        call: NativeCallContext,
        plan: &mut PlannedFlash,
    ) -> CallResult<FlashReport> {
        super::execute(&call, plan, None)
    }

    /// Executes the plan, and calls `progress` with each progress event.
    #[rhai_fn(global, name = "execute", return_raw)]
    pub fn execute_watched(
        call: NativeCallContext,
        plan: &mut PlannedFlash,
        progress: FnPtr,
    ) -> CallResult<FlashReport> {
        super::execute(&call, plan, Some(progress))
    }

    /// The image to write.
    #[rhai_fn(global, get = "image", pure)]
    pub fn plan_image(plan: &mut PlannedFlash) -> Image {
        plan.image.clone()
    }

    /// The disks that will be written.
    #[rhai_fn(global, get = "targets", pure)]
    pub fn plan_targets(plan: &mut PlannedFlash) -> Disks {
        plan.plan.targets.iter().cloned().map(Dynamic::from).collect()
    }

    /// Warnings that do not prevent the flash.
    #[rhai_fn(global, get = "notes", pure)]
    pub fn notes(plan: &mut PlannedFlash) -> Strings {
        plan.plan.notes.iter().map(|note| note.clone().into()).collect()
    }

    /// Image and disks in one line.
    #[rhai_fn(global, name = "to_string", name = "to_debug", pure)]
    pub fn plan_to_string(plan: &mut PlannedFlash) -> String {
        crate::render::one_line(&Dynamic::from(plan.clone()))
    }

    /// True if every disk was flashed and, unless turned off, verified.
    #[rhai_fn(global, get = "is_success", pure)]
    pub fn is_success(report: &mut FlashReport) -> bool {
        report.is_success()
    }

    /// The result of each disk: maps with `disk`, `failure`, `written_bytes`, `zeroed_bytes`,
    /// `verified_bytes`, `proof` (`full`, `sample` or `none`), `delta` and `notes`. `delta` is
    /// `()` after a full flash; else a map with `kept_bytes`, `moved_bytes` and `fetched_bytes`.
    #[rhai_fn(global, get = "targets", pure, return_raw)]
    pub fn targets(report: &mut FlashReport) -> CallResult<Maps> {
        field(report, "targets")
    }

    /// SHA-256 of the image as published; `()` if it was not computed.
    #[rhai_fn(global, get = "source_sha256", pure, return_raw)]
    pub fn source_sha256(report: &mut FlashReport) -> CallResult<MaybeString> {
        field(report, "source_sha256")
    }

    /// True if an expected digest was given and matched.
    #[rhai_fn(global, get = "is_digest_checked", pure)]
    pub fn is_digest_checked(report: &mut FlashReport) -> bool {
        report.is_digest_checked
    }

    /// Size of the disk image.
    #[rhai_fn(global, get = "disk_bytes", pure, return_raw)]
    pub fn disk_bytes(report: &mut FlashReport) -> CallResult<Bytes> {
        field(report, "disk_bytes")
    }

    /// The whole report as a map.
    #[rhai_fn(global, name = "to_map", pure, return_raw)]
    pub fn to_map(report: &mut FlashReport) -> CallResult<Object> {
        from_rust(report)
    }

    /// The result in one line.
    #[rhai_fn(global, name = "to_string", name = "to_debug", pure)]
    pub fn report_to_string(report: &mut FlashReport) -> String {
        crate::render::one_line(&Dynamic::from(report.clone()))
    }

    /// True if the disk holds every byte of the image.
    #[rhai_fn(global, get = "is_equal", pure)]
    pub fn is_equal(report: &mut VerifyReport) -> bool {
        report.is_equal
    }

    /// The first difference: a map with `offset` and `found`; `()` if there is none.
    #[rhai_fn(global, get = "first_difference", pure, return_raw)]
    pub fn first_difference(report: &mut VerifyReport) -> CallResult<MaybeMap> {
        field(report, "first_difference")
    }

    /// Number of bytes in which they differ.
    #[rhai_fn(global, get = "different_bytes", pure, return_raw)]
    pub fn different_bytes(report: &mut VerifyReport) -> CallResult<Bytes> {
        field(report, "different_bytes")
    }

    /// Number of bytes compared.
    #[rhai_fn(global, get = "compared_bytes", pure, return_raw)]
    pub fn compared_bytes(report: &mut VerifyReport) -> CallResult<Bytes> {
        field(report, "compared_bytes")
    }

    /// The whole comparison as a map.
    #[rhai_fn(global, name = "to_map", pure, return_raw)]
    pub fn comparison_to_map(report: &mut VerifyReport) -> CallResult<Object> {
        from_rust(report)
    }

    /// The result in one line.
    #[rhai_fn(global, name = "to_string", name = "to_debug", pure)]
    pub fn comparison_to_string(report: &mut VerifyReport) -> String {
        crate::render::one_line(&Dynamic::from(report.clone()))
    }
}
