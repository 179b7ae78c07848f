//! Progress events.

use pyo3::prelude::*;

use crate::value::value;

value! {
    /// Progress of one target. All counts are in bytes.
    TargetCounts = bty::progress::TargetCounts {
        /// Path of the target.
        target: String = |it| it.target.clone();
        /// Bytes passed to the device.
        written_bytes: u64 = |it| it.written_bytes;
        /// Bytes flushed to the medium, which survive a power cut.
        durable_bytes: u64 = |it| it.durable_bytes;
        /// Bytes zeroed.
        zeroed_bytes: u64 = |it| it.zeroed_bytes;
        /// Bytes read back and found equal.
        verified_bytes: u64 = |it| it.verified_bytes;
        /// Total bytes to read back; none while unknown.
        verify_total: Option<u64> = |it| it.verify_total;
    }
}

/// The counts of a progress event; none for other events.
fn counts(event: &bty::Event) -> Option<&bty::progress::Counts> {
    match event {
        bty::Event::Progress { counts, .. } => Some(counts),
        _ => None,
    }
}

value! {
    /// An event of a long operation. Fields that an event of this kind does not have are `None`.
    /// All counts are in bytes.
    Event = bty::Event {
        /// `phase`, `progress`, `notice` or `target_failed`.
        event: &'static str = |it| match it {
            bty::Event::Phase { .. } => "phase",
            bty::Event::Progress { .. } => "progress",
            bty::Event::TargetFailed { .. } => "target_failed",
            _ => "notice",
        };
        /// `read`, `wipe`, `write`, `verify` or `finish`.
        phase: Option<&'static str> = |it| match it {
            bty::Event::Phase { phase } | bty::Event::Progress { phase, .. } => Some(phase.as_str()),
            _ => None,
        };
        /// Milliseconds since the operation began.
        elapsed_ms: Option<u64> = |it| match it {
            bty::Event::Progress { elapsed_ms, .. } => Some(*elapsed_ms),
            _ => None,
        };
        /// Bytes read from the source so far.
        source_bytes: Option<u64> = |it| counts(it).map(|counts| counts.source_bytes);
        /// Total bytes of the source; none if unknown.
        source_total: Option<u64> = |it| counts(it)?.source_total;
        /// Bytes decoded so far: the position in the disk image.
        decoded_bytes: Option<u64> = |it| counts(it).map(|counts| counts.decoded_bytes);
        /// Size of the disk image, in bytes; none if unknown.
        decoded_total: Option<u64> = |it| counts(it)?.decoded_total;
        /// Progress of each target.
        targets: Vec<TargetCounts> = |it| match it {
            bty::Event::Progress { targets, .. } => targets.iter().cloned().map(TargetCounts).collect(),
            _ => Vec::new(),
        };
        /// Message of a notice or a failure.
        message: Option<String> = |it| match it {
            bty::Event::Notice { message } | bty::Event::TargetFailed { message, .. } => Some(message.clone()),
            _ => None,
        };
        /// The target that failed.
        target: Option<String> = |it| match it {
            bty::Event::TargetFailed { target, .. } => Some(target.clone()),
            _ => None,
        };
        /// Kind of the failure, as `bty.Error.kind`.
        kind: Option<String> = |it| match it {
            bty::Event::TargetFailed { kind, .. } => Some(kind.to_string()),
            _ => None,
        };
    }
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<TargetCounts>()?;
    module.add_class::<Event>()
}
