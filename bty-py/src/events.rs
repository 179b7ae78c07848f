//! Progress events: one Python class for each kind, so that type checkers know which fields there
//! are.

use bty::progress::Counts;
use pyo3::exceptions::PyAttributeError;
use pyo3::prelude::*;
use pyo3::types::PyList;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::json;
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
        /// Zero ranges of the image, zeroed on the target.
        zeroed_bytes: u64 = |it| it.zeroed_bytes;
        /// Bytes read back and found equal.
        verified_bytes: u64 = |it| it.verified_bytes;
        /// Total bytes to read back; none while unknown.
        verify_total: Option<u64> = |it| it.verify_total;
    }
}

/// Values of the field `event`, at the indices by which [`Of`] distinguishes kinds.
const KINDS: [&str; 4] = ["phase", "progress", "notice", "target_failed"];
const PHASE: usize = 0;
const PROGRESS: usize = 1;
const NOTICE: usize = 2;
const TARGET_FAILED: usize = 3;

/// All fields of all kinds.
const FIELDS: [&str; 10] = [
    "phase",
    "elapsed_ms",
    "source_bytes",
    "source_total",
    "decoded_bytes",
    "decoded_total",
    "targets",
    "message",
    "target",
    "kind",
];

/// An event of the kind with the index `KIND`.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Map<String, Value>")]
pub(crate) struct Of<const KIND: usize>(bty::Event);

impl<const KIND: usize> TryFrom<Map<String, Value>> for Of<KIND> {
    type Error = String;

    /// The field `event` may be missing, because the class says it.
    fn try_from(mut fields: Map<String, Value>) -> Result<Self, String> {
        fields.entry("event").or_insert_with(|| KINDS[KIND].into());
        let event: bty::Event =
            serde_json::from_value(Value::Object(fields)).map_err(|error| error.to_string())?;
        match index(&event) {
            found if found == KIND => Ok(Self(event)),
            found => Err(format!("expected event {:?}, found {:?}", KINDS[KIND], KINDS[found])),
        }
    }
}

fn index(event: &bty::Event) -> usize {
    match event {
        bty::Event::Phase { .. } => PHASE,
        bty::Event::Progress { .. } => PROGRESS,
        bty::Event::TargetFailed { .. } => TARGET_FAILED,
        _ => NOTICE,
    }
}

fn phase(event: &bty::Event) -> &'static str {
    match event {
        bty::Event::Phase { phase } | bty::Event::Progress { phase, .. } => phase.as_str(),
        _ => "",
    }
}

fn counts(event: &bty::Event) -> Counts {
    match event {
        bty::Event::Progress { counts, .. } => counts.clone(),
        _ => Counts::default(),
    }
}

fn message(event: &bty::Event) -> String {
    match event {
        bty::Event::Notice { message } | bty::Event::TargetFailed { message, .. } => {
            message.clone()
        }
        _ => String::new(),
    }
}

/// The value of a field that only events of other kinds have: none, so that a callback that does
/// not ask for the kind first does not fail at a rare event.
fn absent<'py>(py: Python<'py>, class: &str, name: &str) -> PyResult<Bound<'py, PyAny>> {
    match name {
        "targets" => Ok(PyList::empty(py).into_any()),
        name if FIELDS.contains(&name) => Ok(py.None().into_bound(py)),
        _ => {
            let message = format!("{class:?} object has no attribute {name:?}");
            Err(PyAttributeError::new_err(message))
        }
    }
}

value! {
    /// A phase of the operation begins.
    PhaseEvent = Of<PHASE> {
        /// Always `phase`.
        event: &'static str = |it| KINDS[index(&it.0)];
        /// `read`, `scan`, `wipe`, `write`, `verify` or `finish`.
        phase: &'static str = |it| phase(&it.0);
    } {
        fn __getattr__<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
            absent(py, "PhaseEvent", name)
        }
    }
}

value! {
    /// Progress, a few times a second and at the end of each phase. All counts are in bytes.
    ProgressEvent = Of<PROGRESS> {
        /// Always `progress`.
        event: &'static str = |it| KINDS[index(&it.0)];
        /// `read`, `scan`, `wipe`, `write`, `verify` or `finish`.
        phase: &'static str = |it| phase(&it.0);
        /// Milliseconds since the operation began.
        elapsed_ms: u64 = |it| match it.0 {
            bty::Event::Progress { elapsed_ms, .. } => elapsed_ms,
            _ => 0,
        };
        /// Bytes read from the source so far.
        source_bytes: u64 = |it| counts(&it.0).source_bytes;
        /// Total bytes of the source; none if unknown.
        source_total: Option<u64> = |it| counts(&it.0).source_total;
        /// Bytes decoded so far: the position in the disk image.
        decoded_bytes: u64 = |it| counts(&it.0).decoded_bytes;
        /// Size of the disk image, in bytes; none if unknown.
        decoded_total: Option<u64> = |it| counts(&it.0).decoded_total;
        /// Progress of each target.
        targets: Vec<TargetCounts> = |it| match &it.0 {
            bty::Event::Progress { targets, .. } => {
                targets.iter().cloned().map(TargetCounts).collect()
            }
            _ => Vec::new(),
        };
    } {
        fn __getattr__<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
            absent(py, "ProgressEvent", name)
        }
    }
}

value! {
    /// A warning that does not stop the operation, such as the retry of a failed request.
    NoticeEvent = Of<NOTICE> {
        /// Always `notice`.
        event: &'static str = |it| KINDS[index(&it.0)];
        /// The warning: one sentence without a full stop.
        message: String = |it| message(&it.0);
    } {
        fn __getattr__<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
            absent(py, "NoticeEvent", name)
        }
    }
}

value! {
    /// One of several targets failed; the others continue.
    TargetFailedEvent = Of<TARGET_FAILED> {
        /// Always `target_failed`.
        event: &'static str = |it| KINDS[index(&it.0)];
        /// Path of the target.
        target: String = |it| match &it.0 {
            bty::Event::TargetFailed { target, .. } => target.clone(),
            _ => String::new(),
        };
        /// Kind of the failure, as `bty.Error.kind`.
        kind: String = |it| match &it.0 {
            bty::Event::TargetFailed { kind, .. } => kind.to_string(),
            _ => String::new(),
        };
        /// Text of the error, with its causes.
        message: String = |it| message(&it.0);
    } {
        fn __getattr__<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
            absent(py, "TargetFailedEvent", name)
        }
    }
}

/// The object for `event`, of the class for its kind.
pub(crate) fn to_python(py: Python<'_>, event: bty::Event) -> PyResult<Bound<'_, PyAny>> {
    Ok(match index(&event) {
        PHASE => PhaseEvent(Of(event)).into_pyobject(py)?.into_any(),
        PROGRESS => ProgressEvent(Of(event)).into_pyobject(py)?.into_any(),
        TARGET_FAILED => TargetFailedEvent(Of(event)).into_pyobject(py)?.into_any(),
        _ => NoticeEvent(Of(event)).into_pyobject(py)?.into_any(),
    })
}

/// Creates an event from the result of its `to_dict()`.
#[pyfunction]
fn event_from_dict<'py>(data: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    to_python(data.py(), json::to_rust(data)?)
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<TargetCounts>()?;
    module.add_class::<PhaseEvent>()?;
    module.add_class::<ProgressEvent>()?;
    module.add_class::<NoticeEvent>()?;
    module.add_class::<TargetFailedEvent>()?;
    module.add_function(wrap_pyfunction!(event_from_dict, module)?)
}
