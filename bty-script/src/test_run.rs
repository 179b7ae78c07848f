//! The record of a script that a test has run on a simulated machine.

use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;

use crate::engine::ScriptOutcome;
use crate::error::ScriptError;
use crate::exit_code;
use crate::world::Effect;

/// How a script ended, and what it did; the script type `Outcome`.
#[derive(Clone)]
pub(crate) struct TestRun(Arc<RunRecord>);

pub(crate) struct RunRecord {
    pub(crate) result: Result<ScriptOutcome, ScriptError>,
    pub(crate) effects: Vec<Effect>,
    /// The results that the script printed.
    pub(crate) printed: Vec<String>,
    /// Everything that the person saw and typed.
    pub(crate) transcript: Vec<String>,
}

/// A disk that the script flashed.
#[derive(Serialize)]
pub(crate) struct FlashedTarget<'a> {
    path: &'a PathBuf,
    serial: Option<&'a str>,
    image: &'a str,
}

impl TestRun {
    pub(crate) fn new(record: RunRecord) -> Self {
        Self(Arc::new(record))
    }

    pub(crate) fn record(&self) -> &RunRecord {
        &self.0
    }

    pub(crate) fn flashed(&self) -> Vec<FlashedTarget<'_>> {
        let flashes = self.0.effects.iter().filter_map(|effect| match effect {
            Effect::Flash { image, targets, .. } => Some((image, targets)),
            _ => None,
        });
        flashes
            .flat_map(|(image, targets)| targets.iter().map(move |target| (image, target)))
            .map(|(image, target)| FlashedTarget {
                path: &target.path,
                serial: target.serial.as_deref(),
                image,
            })
            .collect()
    }

    /// The exit code that `bty run` would have.
    pub(crate) fn exit_code(&self) -> u8 {
        exit_code::of_script(self.0.result.as_ref())
    }
}
