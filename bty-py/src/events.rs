//! Events of the progress.

use pyo3::prelude::*;

use crate::value::value;

value! {
    /// How far one target is. All counts are bytes.
    TargetCounts = bty::progress::TargetCounts {
        /// Which target.
        target: String = |it| it.target.clone();
        /// Data handed to the device.
        written_bytes: u64 = |it| it.written_bytes;
        /// Data that survives a power cut.
        durable_bytes: u64 = |it| it.durable_bytes;
        /// Ranges made zero.
        zeroed_bytes: u64 = |it| it.zeroed_bytes;
        /// Read back and found equal.
        verified_bytes: u64 = |it| it.verified_bytes;
        /// How much there is to read back, once it is known.
        verify_total: Option<u64> = |it| it.verify_total;
    }
}

/// The counts of an event that has some.
fn counts(event: &bty::Event) -> Option<&bty::progress::Counts> {
    match event {
        bty::Event::Progress { counts, .. } => Some(counts),
        _ => None,
    }
}

value! {
    /// Something that happened in long work. What an event of its kind has not is `None`. All
    /// counts are bytes.
    Event = bty::Event {
        /// `phase`, `progress`, `notice` or `target_failed`.
        event: &'static str = |it| match it {
            bty::Event::Phase { .. } => "phase",
            bty::Event::Progress { .. } => "progress",
            bty::Event::TargetFailed { .. } => "target_failed",
            // also what a later library has to say
            _ => "notice",
        };
        /// `read`, `wipe`, `write`, `verify` or `finish`.
        phase: Option<&'static str> = |it| match it {
            bty::Event::Phase { phase } | bty::Event::Progress { phase, .. } => Some(phase.as_str()),
            _ => None,
        };
        /// Milliseconds since the work began.
        elapsed_ms: Option<u64> = |it| match it {
            bty::Event::Progress { elapsed_ms, .. } => Some(*elapsed_ms),
            _ => None,
        };
        /// Read from the source, as it came over the wire.
        source_bytes: Option<u64> = |it| counts(it).map(|counts| counts.source_bytes);
        /// How many the source will give, when known.
        source_total: Option<u64> = |it| counts(it)?.source_total;
        /// Decoded so far: the position in the disk image.
        decoded_bytes: Option<u64> = |it| counts(it).map(|counts| counts.decoded_bytes);
        /// Size of the disk image, when known.
        decoded_total: Option<u64> = |it| counts(it)?.decoded_total;
        /// Each target's side.
        targets: Vec<TargetCounts> = |it| match it {
            bty::Event::Progress { targets, .. } => targets.iter().cloned().map(TargetCounts).collect(),
            _ => Vec::new(),
        };
        /// The sentence of a notice or a failure.
        message: Option<String> = |it| match it {
            bty::Event::Notice { message } | bty::Event::TargetFailed { message, .. } => Some(message.clone()),
            _ => None,
        };
        /// The target that failed.
        target: Option<String> = |it| match it {
            bty::Event::TargetFailed { target, .. } => Some(target.clone()),
            _ => None,
        };
        /// The kind of its failure.
        kind: Option<String> = |it| match it {
            bty::Event::TargetFailed { kind, .. } => Some(kind.clone()),
            _ => None,
        };
    }
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<TargetCounts>()?;
    module.add_class::<Event>()
}
