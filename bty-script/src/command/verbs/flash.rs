//! `bty flash`: shows the plan, asks, executes it, and reports the result.

use std::io::{BufRead, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use bty::catalog::Catalog;
use bty::digest::Checksums;
use bty::flash::{
    DeltaMode, DeltaReport, FlashOptions, FlashPlan, FlashReport, Proof, Refusal, TargetReport,
};
use bty::image::OpenOptions;
use bty::size::human;
use bty::{
    CancelToken, Client, Disk, DiskHost, Error, ErrorKind, Image, Result, Selector, SystemHost,
    text,
};
use bty_script::terminal::Style;
use serde_json::json;

use crate::cli::{Flash, Network};
use crate::output::Output;
use crate::progress::ProgressDisplay;
use crate::verbs::disks;
use crate::{exit, network, remedies, signals};

pub(super) fn run(flash: &Flash, network: &Network, output: &Output) -> Result<ExitCode> {
    let cancel = signals::cancel_on_signal()?;
    let progress = Arc::new(ProgressDisplay::new(output.is_json()));
    let client = network::client(network, progress.clone())?;
    let opening = OpenOptions::default()
        .sha256(flash.sha256)
        .sha512(flash.sha512)
        .image_sha256(flash.image_sha256)
        .pack_index_sha256(flash.index_sha256)
        .ignore_trailing(flash.ignore_trailing);
    let (mut image, is_raw) =
        open_image(&client, &flash.src, flash.catalog.as_deref(), opening, flash.delta, &cancel)?;
    if flash.create == Some(None)
        && image.info().disk_bytes.is_none()
        && !image.source().is_repeatable()
    {
        output.warn(
            "the size of the image is unknown until its end: copying it to the spool directory \
             first",
        );
        image = image.spooled(&client, &cancel)?;
    }
    let system = SystemHost::new();
    let mut created = Created::default();
    let targets = find_targets(flash, &image, &system, &mut created, output, &cancel)?;
    let mut options = options(flash);
    options.raw |= is_raw;
    let mut plan = FlashPlan::new(image.info(), targets, options);
    let refusals = plan.validate();
    let estimates = if flash.dry_run && refusals.is_empty() && flash.create.is_none() {
        plan.estimate(&image, &system, &cancel)?
    } else {
        Vec::new()
    };
    show(&plan, &refusals, &estimates, flash, output);
    let asks_for_raw = can_ask_for_raw(&refusals, flash);
    if !refusals.is_empty() && !asks_for_raw {
        return Ok(ExitCode::from(exit::REFUSED));
    }
    if flash.dry_run {
        output.say("dry run: nothing was written");
        return Ok(ExitCode::SUCCESS);
    }
    let word = if asks_for_raw { "raw" } else { "yes" };
    let names: Vec<String> = plan.targets.iter().map(|d| text::escape_name(&d.path)).collect();
    let question = format!("write to {}", names.join(", "));
    if !flash.yes && !ask(&question, word, output, &cancel)? {
        output.say("nothing was written");
        return Ok(ExitCode::from(exit::CANCELLED));
    }
    plan.options.raw |= asks_for_raw;
    created.create(&system)?;
    let result = plan.execute(&image, &system, &*progress, &cancel);
    progress.clear();
    let report = result.inspect_err(|_| created.remove(|_| true))?;
    created
        .remove(|path| report.targets.iter().any(|t| t.disk.path == path && t.failure.is_some()));
    output.event("report", &report);
    show_report(&report, output);
    match report.failure_kind() {
        None => Ok(ExitCode::SUCCESS),
        Some(kind) => Ok(exit::code(kind)),
    }
}

/// Opens the image `src`, or the entry `src` of `catalog`, in the form that a flash with `delta`
/// wants. Also returns whether the catalog allows an unrecognized image (`raw`).
pub(super) fn open_image(
    client: &Client,
    src: &str,
    catalog: Option<&str>,
    mut options: OpenOptions,
    delta: DeltaMode,
    cancel: &CancelToken,
) -> Result<(Image, bool)> {
    let Some(catalog) = catalog else {
        return Ok((Image::open(client, src, &options, cancel)?, false));
    };
    let catalog = Catalog::load(client, catalog, cancel)?;
    let entry = catalog.find(src)?;
    let (given, listed) =
        (Checksums { sha256: options.sha256, sha512: options.sha512 }, entry.checksums());
    let merged = given.merged(listed).ok_or_else(|| {
        let message = format!(
            "the catalog lists {listed} for {src:?}, but the command line requires {given}"
        );
        Error::new(ErrorKind::Integrity, message)
            .hint("find out which of them is right; nothing was written")
    })?;
    (options.sha256, options.sha512) = (merged.sha256, merged.sha512);
    let forms = entry.forms();
    let listed_index = forms.options().pack_index_sha256;
    options.pack_index_sha256 = listed_index.or(options.pack_index_sha256);
    Ok((forms.with_options(options).open(client, delta, cancel)?, entry.raw))
}

/// True if the only objection is an unrecognized image, and a person is there to overrule it.
fn can_ask_for_raw(refusals: &[Refusal], flash: &Flash) -> bool {
    let is_only_unrecognized =
        !refusals.is_empty() && refusals.iter().all(Refusal::is_unrecognized_image);
    is_only_unrecognized && !flash.yes && !flash.dry_run && std::io::stdin().is_terminal()
}

fn options(flash: &Flash) -> FlashOptions {
    FlashOptions::default()
        .verify(!flash.no_verify)
        .fix_gpt(flash.fix_gpt)
        .fit(flash.fit)
        .uefi_boot(flash.uefi_boot)
        .allow_partition(flash.allow_partition)
        .raw(flash.raw)
        .overwrite(flash.overwrite)
        .delta(flash.delta)
        .stash_bytes(flash.stash.unwrap_or(FlashOptions::default().stash_bytes))
        .proven_disk(flash.proven_disk)
}

fn find_targets(
    flash: &Flash,
    image: &Image,
    system: &SystemHost,
    created: &mut Created,
    output: &Output,
    cancel: &CancelToken,
) -> Result<Vec<Disk>> {
    let Some(size) = flash.create else {
        return flash.target.iter().map(|t| t.parse::<Selector>()?.select(system)).collect();
    };
    // checked before a read of the whole image
    let paths: Vec<PathBuf> =
        flash.target.iter().map(|target| text::path_of_reference(target)).collect();
    paths.iter().try_for_each(|path| system.plan_file(path, 0).map(drop))?;
    let size = match size.or(image.info().disk_bytes) {
        Some(size) => size,
        None => {
            output.warn("the size of the image is unknown: reading it once to find out");
            image.read_fully(&(), cancel)?.disk_bytes
        }
    };
    paths.iter().map(|path| created.plan(system, path, size)).collect()
}

/// Files for `--create`. They are created only after all checks and the confirmation.
#[derive(Default)]
struct Created(Vec<(PathBuf, u64)>);

impl Created {
    fn plan(&mut self, system: &SystemHost, path: &Path, size_bytes: u64) -> Result<Disk> {
        let disk = system.plan_file(path, size_bytes)?;
        self.0.push((disk.path.clone(), disk.size_bytes));
        Ok(disk)
    }

    /// Creates all files or none.
    fn create(&self, system: &SystemHost) -> Result<()> {
        for (i, (path, size)) in self.0.iter().enumerate() {
            if let Err(error) = system.create(path, *size) {
                self.remove(|path| self.0[..i].iter().any(|(created, _)| created == path));
                return Err(error);
            }
        }
        Ok(())
    }

    /// Removes the files whose flash `failed`.
    fn remove(&self, failed: impl Fn(&Path) -> bool) {
        for (path, _) in self.0.iter().filter(|(path, _)| failed(path)) {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn show(
    plan: &FlashPlan,
    refusals: &[Refusal],
    estimates: &[Option<DeltaReport>],
    flash: &Flash,
    output: &Output,
) {
    if flash.dry_run || !refusals.is_empty() {
        let plan = json!({ "plan": plan, "refusals": refusals, "estimates": estimates });
        output.event("plan", &plan);
    }
    output.say(&format!(
        "image   {}\n        {}",
        text::escape(&plan.image.name),
        text::escape(&plan.image.summary())
    ));
    for promise in plan.image.expected_digests() {
        // a line of its own just fits in 80 columns
        output.say(&format!("        {promise}"));
    }
    let will_write = !flash.dry_run && (refusals.is_empty() || can_ask_for_raw(refusals, flash));
    for (i, disk) in plan.targets.iter().enumerate() {
        output.say(&format!("target  {}", disks::headline(disk)));
        if flash.create.is_some() {
            output.say("        new file");
        } else {
            say_contents(disk, output);
            if will_write {
                say_loss(output);
            }
        }
        if let Some(Some(estimate)) = estimates.get(i) {
            output.say(&format!("        delta: {}", delta_summary(estimate, true)));
        }
    }
    for note in &plan.notes {
        output.warn(note);
    }
    if let Some(tip) = remedies::tip(plan) {
        output.say_styled("", Style::Strong, "tip", &format!(": {tip}"));
    }
    for refusal in refusals {
        output.say_styled("", Style::Bad, "refused", &format!(" {}", remedies::refusal(refusal)));
    }
}

/// Shows a disk that is about to be overwritten.
pub(crate) fn show_target(disk: &Disk, output: &Output) {
    output.say(&format!("target  {}", disks::headline(disk)));
    say_contents(disk, output);
    say_loss(output);
}

fn say_contents(disk: &Disk, output: &Output) {
    output.say(&format!("        now: {}", text::escape(&disk.contents())));
}

pub(super) fn say_loss(output: &Output) {
    output.say_styled("        ", Style::Bad, "ALL DATA ON IT WILL BE LOST", "");
}

/// Asks the person to type `word` to do what `question` says: `write to /dev/sda`.
pub(super) fn ask(
    question: &str,
    word: &'static str,
    output: &Output,
    cancel: &CancelToken,
) -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Err(Error::new(
            ErrorKind::Usage,
            "cannot ask for confirmation: stdin is not a terminal",
        )
        .hint("use --yes to write without confirmation"));
    }
    output.say_styled("Type ", Style::Strong, word, &format!(" to {question}:"));
    // on a separate thread, so that Ctrl-C can end the wait
    let (sender, receiver) = mpsc::channel();
    let reading = thread::Builder::new().spawn(move || {
        let mut answer = String::new();
        let read = std::io::stdin().lock().read_line(&mut answer);
        let _ = sender.send(read.map(|_| answer));
    });
    reading.map_err(|e| Error::new(ErrorKind::Host, "starting a thread").because(e))?;
    while !cancel.is_cancelled() {
        match receiver.recv_timeout(Duration::from_millis(50)) {
            Ok(answer) => {
                let answer = answer
                    .map_err(|e| Error::new(ErrorKind::Host, "reading the answer").because(e))?;
                return Ok(answer.trim() == word);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    Ok(false)
}

fn show_report(report: &FlashReport, output: &Output) {
    let total: u64 = report.phases.iter().map(|p| p.elapsed_ms).sum();
    for target in &report.targets {
        let name = text::escape_name(&target.disk.path);
        match &target.failure {
            None => output.say_styled(
                "",
                Style::Good,
                "done",
                &format!(" {name}: {}", describe(report, target)),
            ),
            Some(failure) => {
                output.say_styled(
                    "",
                    Style::Bad,
                    "failed",
                    &format!(" {name}: {}", failure.message),
                );
                if let Some(hint) = &failure.hint {
                    output.say(&format!(" next: {hint}"));
                }
            }
        }
        target.notes.iter().for_each(|note| output.warn(note));
    }
    let digest = match (report.source_sha256, report.is_digest_checked) {
        (_, true) => {
            format!("the digest matches:\n  {}", report.image.expected_digests().join("\n  "))
        }
        (Some(digest), false) => {
            format!("no digest was expected; it is:\n  sha256 {digest}")
        }
        (None, false) if report.image.pack_index_sha256.is_some() => {
            "each part matches the index of the image".into()
        }
        (None, false) => "no digest was computed".into(),
    };
    output.say(&format!(
        "{} read in {:.1} s; {digest}",
        human(report.source_bytes),
        seconds(total)
    ));
}

fn describe(report: &FlashReport, target: &TargetReport) -> String {
    let proof = match target.verified_bytes {
        0 => "not verified".to_owned(),
        bytes => format!("{} read back and equal", human(bytes)),
    };
    let sample = if target.proof == Proof::Sample { " (a sample of what was kept)" } else { "" };
    let mut text = if let Some(delta) = &target.delta {
        format!(
            "{}; {} written, {proof}{sample}",
            delta_summary(delta, false),
            human(target.written_bytes)
        )
    } else {
        // the first MiB is written with its zeros
        let zeros = human(report.disk_bytes.saturating_sub(target.written_bytes));
        format!("{} written, {zeros} zeroed, {proof}", human(target.written_bytes))
    };
    if target.backup_gpt_offset.is_some() {
        text.push_str(", backup GPT moved to the end");
    }
    if let Some(entry) = &target.boot_entry {
        text.push_str(&format!(", {entry} boots next"));
    }
    text
}

/// What was kept, moved and fetched, or what is expected to be.
pub(super) fn delta_summary(delta: &DeltaReport, is_estimate: bool) -> String {
    let about = if is_estimate { "about " } else { "" };
    let [kept, moved, fetched, file] =
        [delta.kept_bytes, delta.moved_bytes, delta.fetched_bytes, delta.source_bytes].map(human);
    let file =
        if delta.source_bytes > 0 { format!(" ({file} of the file)") } else { String::new() };
    format!("{about}{kept} kept, {moved} moved, {fetched} fetched{file}")
}

#[allow(clippy::cast_precision_loss)] // shown with one decimal
fn seconds(millis: u64) -> f64 {
    millis as f64 / 1000.0
}
