//! `flash`: every write of a script goes through here, by plan, validation and executor of the
//! library.

use std::sync::mpsc;
use std::thread;

use bty::catalog::Entry;
use bty::flash::{FlashOptions, FlashPlan, FlashReport, VerifyReport};
use bty::{CancelToken, Disk, Error, ErrorKind, Event, Selector};
use rhai::plugin::*;
use rhai::{Array, Dynamic, FnPtr, ImmutableString, Map, NativeCallContext};
use serde::Serialize;

use super::images::from_value as image_of;
use crate::context::{Capability, ScriptContext};
use crate::convert::from_rust;
use crate::error::{HostError, Outcome, raise};
use crate::world::Image;

/// A plan together with its image.
#[derive(Clone)]
pub struct Plan {
    pub(crate) plan: FlashPlan,
    image: Image,
}

/// The disks that a script means: disks, selectors, or an array of them.
fn disks_of(context: &NativeCallContext<'_>, value: &Dynamic) -> Outcome<Vec<Disk>> {
    if let Some(disk) = value.read_lock::<Disk>() {
        return Ok(vec![disk.clone()]);
    }
    if let Some(items) = value.read_lock::<Array>() {
        let disks =
            items.iter().map(|item| disks_of(context, item)).collect::<Outcome<Vec<_>>>()?;
        return Ok(disks.into_iter().flatten().collect());
    }
    let Some(text) = value.read_lock::<ImmutableString>() else {
        let message = format!("{} is no disk", super::type_name(context, value));
        return Err(raise(
            HostError::usage(message)
                .hint("give a disk, a selector such as \"serial:…\", or an array of them"),
        ));
    };
    let host = ScriptContext::of(context, Capability::Read)?;
    let disk = text.parse::<Selector>().and_then(|selector| selector.select(&*host.world.disks));
    Ok(vec![disk.map_err(raise)?])
}

/// A misspelt option must not be ignored: it may be the one that keeps data.
fn options_of(map: &Map) -> Outcome<FlashOptions> {
    let mut options = FlashOptions::default();
    for (name, value) in map {
        let flag = value
            .as_bool()
            .map_err(|_| raise(HostError::usage(format!("the option {name} is true or false"))));
        match name.as_str() {
            "verify" => options.verify = flag?,
            "fix_gpt" => options.fix_gpt = flag?,
            "fit" => options.fit = flag?,
            "uefi_boot" => options.uefi_boot = flag?,
            "allow_partition" => options.allow_partition = flag?,
            "raw" => options.raw = flag?,
            "overwrite" => options.overwrite = flag?,
            _ => {
                let hint = "the options are verify, fix_gpt, fit, uefi_boot, allow_partition, raw, overwrite";
                return Err(raise(
                    HostError::usage(format!("flash has no option {name}")).hint(hint),
                ));
            }
        }
    }
    Ok(options)
}

/// True when the entry of a catalog, or the map of a plan, says that the image is written whatever
/// it looks like.
fn says_raw(image: &Dynamic) -> bool {
    let of_entry = image.read_lock::<Entry>().is_some_and(|entry| entry.raw);
    let of_map = image
        .read_lock::<Map>()
        .is_some_and(|map| map.get("raw").is_some_and(|raw| raw.as_bool() == Ok(true)));
    of_entry || of_map
}

fn plan(
    context: &NativeCallContext<'_>,
    image: &Dynamic,
    disks: &Dynamic,
    options: &Map,
) -> Outcome<Plan> {
    let mut options = options_of(options)?;
    options.raw |= says_raw(image);
    // before a download that would be for nothing
    let disks = disks_of(context, disks)?;
    let image = image_of(context, image)?;
    Ok(Plan { plan: FlashPlan::new(&image.info, disks, options), image })
}

/// Plans, executes, and fails unless all disks are flashed.
pub(crate) fn flash(
    context: &NativeCallContext<'_>,
    image: &Dynamic,
    disks: &Dynamic,
    options: &Map,
    progress: Option<FnPtr>,
) -> Outcome<Dynamic> {
    ScriptContext::of(context, Capability::Flash)?;
    let plan = plan(context, image, disks, options)?;
    let report = execute(context, &plan, progress)?;
    match failure(&report) {
        None => Ok(Dynamic::from(report)),
        Some(error) => Err(raise(error)),
    }
}

/// The failures of a report as one error.
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
    context: &NativeCallContext<'_>,
    plan: &Plan,
    progress: Option<FnPtr>,
) -> Outcome<FlashReport> {
    let host = ScriptContext::of(context, Capability::Flash)?;
    let cancel = host.meter.operation();
    let run = || {
        let flasher = &host.world.flasher;
        match &progress {
            None => flasher
                .execute(&plan.plan, &plan.image, &*host.world.observer, &cancel)
                .map_err(raise),
            Some(progress) => watched(context, &host, plan, progress, &cancel),
        }
    };
    let result = host.meter.with_buffers(run);
    host.world.observer.over();
    result
}

/// Executes on another thread, so that the script's function can be called on this one, where the
/// engine is.
fn watched(
    context: &NativeCallContext<'_>,
    host: &ScriptContext,
    plan: &Plan,
    progress: &FnPtr,
    outer: &CancelToken,
) -> Outcome<FlashReport> {
    let cancel = CancelToken::new();
    let (sender, events) = mpsc::channel::<Event>();
    let sender = std::sync::Mutex::new(sender);
    thread::scope(|scope| {
        let (own, flasher) = (&cancel, &host.world.flasher);
        let work = move || {
            let observer = |event: &Event| {
                // nobody listens after the function has failed
                let _ = sender.lock().map(|sender| sender.send(event.clone()));
            };
            // the end of this thread drops the sender, and so ends the loop below
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
                        progress.call_within_context::<Dynamic>(context, (event,)).map(drop)
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
        ScriptContext::behind(context)?;
        let result = work
            .join()
            .unwrap_or_else(|_| Err(Error::new(ErrorKind::Host, "the flash ended unexpectedly")));
        match thrown {
            Some(error) => Err(error),
            None => result.map_err(raise),
        }
    })
}

/// A disk or a selector that means one.
pub(crate) fn one_disk(context: &NativeCallContext<'_>, disk: &Dynamic) -> Outcome<Disk> {
    let mut disks = disks_of(context, disk)?;
    match (disks.pop(), disks.is_empty()) {
        (Some(disk), true) => Ok(disk),
        _ => Err(raise(HostError::usage("this is for one disk at a time"))),
    }
}

/// Compares a disk with an image.
pub(crate) fn verify(
    context: &NativeCallContext<'_>,
    image: &Dynamic,
    disk: &Dynamic,
) -> Outcome<Dynamic> {
    let host = ScriptContext::of(context, Capability::Read)?;
    let disk = one_disk(context, disk)?;
    let image = image_of(context, image)?;
    let cancel = host.meter.operation();
    let compare = || host.world.flasher.verify(&image, &disk, &*host.world.observer, &cancel);
    let report = host.meter.with_buffers(compare);
    host.world.observer.over();
    report.map(Dynamic::from).map_err(raise)
}

fn field<T: Serialize>(value: &T, name: &str) -> Outcome<Dynamic> {
    let all = from_rust(value)?;
    let found = all.read_lock::<Map>().and_then(|map| map.get(name).cloned());
    Ok(found.unwrap_or_default())
}

#[export_module]
pub(super) mod functions {
    /// Plans to write an image to a disk or several, as of the global `flash`; touches nothing.
    #[rhai_fn(name = "plan", return_raw)]
    pub fn plan_plainly(
        context: NativeCallContext,
        image: Dynamic,
        disks: Dynamic,
    ) -> Outcome<Plan> {
        super::plan(&context, &image, &disks, &Map::new())
    }

    /// The same with options.
    #[rhai_fn(name = "plan", return_raw)]
    pub fn plan_with(
        context: NativeCallContext,
        image: Dynamic,
        disks: Dynamic,
        options: Map,
    ) -> Outcome<Plan> {
        super::plan(&context, &image, &disks, &options)
    }

    /// Every reason against a plan, as maps with `target`, `reason` and `message`; empty when it
    /// may be executed.
    #[rhai_fn(global, pure, return_raw)]
    pub fn validate(plan: &mut Plan) -> Outcome<Dynamic> {
        from_rust(&plan.plan.validate())
    }

    /// Carries a plan out. Failures of disks are in the report (`is_success`); failures of the
    /// image, refusals and cancelling are raised.
    #[rhai_fn(global, name = "execute", return_raw)]
    pub fn execute_plainly(context: NativeCallContext, plan: &mut Plan) -> Outcome<FlashReport> {
        super::execute(&context, plan, None)
    }

    /// The same with a function that is called with each event of the progress.
    #[rhai_fn(global, name = "execute", return_raw)]
    pub fn execute_watched(
        context: NativeCallContext,
        plan: &mut Plan,
        progress: FnPtr,
    ) -> Outcome<FlashReport> {
        super::execute(&context, plan, Some(progress))
    }

    /// Its image.
    #[rhai_fn(global, get = "image", pure)]
    pub fn plan_image(plan: &mut Plan) -> Image {
        plan.image.clone()
    }

    /// Its disks.
    #[rhai_fn(global, get = "targets", pure)]
    pub fn plan_targets(plan: &mut Plan) -> Array {
        plan.plan.targets.iter().cloned().map(Dynamic::from).collect()
    }

    /// What a person should know that forbids nothing.
    #[rhai_fn(global, get = "notes", pure)]
    pub fn notes(plan: &mut Plan) -> Array {
        plan.plan.notes.iter().map(|note| note.clone().into()).collect()
    }

    /// Image and disks in one line.
    #[rhai_fn(global, name = "to_string", name = "to_debug", pure)]
    pub fn plan_to_string(plan: &mut Plan) -> String {
        crate::render::plain(&Dynamic::from(plan.clone()))
    }

    /// True when every disk was flashed and, unless switched off, verified.
    #[rhai_fn(global, get = "is_success", pure)]
    pub fn is_success(report: &mut FlashReport) -> bool {
        report.is_success()
    }

    /// The outcome of each disk, as maps: `disk`, `failure`, `written_bytes`, `zeroed_bytes`,
    /// `verified_bytes`, `notes`.
    #[rhai_fn(global, get = "targets", pure, return_raw)]
    pub fn targets(report: &mut FlashReport) -> Outcome<Dynamic> {
        field(report, "targets")
    }

    /// SHA-256 of the bytes over the wire; `()` when not all of them were read.
    #[rhai_fn(global, get = "source_sha256", pure, return_raw)]
    pub fn source_sha256(report: &mut FlashReport) -> Outcome<Dynamic> {
        field(report, "source_sha256")
    }

    /// True when that digest was promised by somebody, and is equal.
    #[rhai_fn(global, get = "is_digest_checked", pure)]
    pub fn is_digest_checked(report: &mut FlashReport) -> bool {
        report.is_digest_checked
    }

    /// Size of the disk image.
    #[rhai_fn(global, get = "disk_bytes", pure, return_raw)]
    pub fn disk_bytes(report: &mut FlashReport) -> Outcome<Dynamic> {
        field(report, "disk_bytes")
    }

    /// All of it as a map.
    #[rhai_fn(global, name = "to_map", pure, return_raw)]
    pub fn to_map(report: &mut FlashReport) -> Outcome<Dynamic> {
        from_rust(report)
    }

    /// How much was written to how many disks.
    #[rhai_fn(global, name = "to_string", name = "to_debug", pure)]
    pub fn report_to_string(report: &mut FlashReport) -> String {
        crate::render::plain(&Dynamic::from(report.clone()))
    }

    /// True when every byte of the image is on the disk.
    #[rhai_fn(global, get = "is_equal", pure)]
    pub fn is_equal(report: &mut VerifyReport) -> bool {
        report.is_equal
    }

    /// The first difference as a map with `offset` and `found`; `()` when there is none.
    #[rhai_fn(global, get = "first_difference", pure, return_raw)]
    pub fn first_difference(report: &mut VerifyReport) -> Outcome<Dynamic> {
        field(report, "first_difference")
    }

    /// How many bytes differ.
    #[rhai_fn(global, get = "different_bytes", pure, return_raw)]
    pub fn different_bytes(report: &mut VerifyReport) -> Outcome<Dynamic> {
        field(report, "different_bytes")
    }

    /// How many bytes were compared.
    #[rhai_fn(global, get = "compared_bytes", pure, return_raw)]
    pub fn compared_bytes(report: &mut VerifyReport) -> Outcome<Dynamic> {
        field(report, "compared_bytes")
    }

    /// All of it as a map.
    #[rhai_fn(global, name = "to_map", pure, return_raw)]
    pub fn comparison_to_map(report: &mut VerifyReport) -> Outcome<Dynamic> {
        from_rust(report)
    }

    /// Whether it is equal, or how much differs.
    #[rhai_fn(global, name = "to_string", name = "to_debug", pure)]
    pub fn comparison_to_string(report: &mut VerifyReport) -> String {
        crate::render::plain(&Dynamic::from(report.clone()))
    }
}
