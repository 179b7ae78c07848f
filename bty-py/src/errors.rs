//! Converts errors to exceptions of `bty.errors`, with kind, path, offset and hint.

use std::io;

use bty::flash::{FlashReport, Refusal};
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// The data of an exception.
#[derive(Default)]
pub(crate) struct Failure<'a> {
    pub(crate) kind: &'a str,
    pub(crate) message: String,
    pub(crate) path: Option<&'a str>,
    pub(crate) offset: Option<u64>,
    pub(crate) hint: Option<&'a str>,
    /// Name of Python's built-in exception for the cause, such as `FileNotFoundError`.
    pub(crate) system: Option<&'a str>,
}

impl Failure<'_> {
    /// Creates the exception, which the caller returns.
    pub(crate) fn raise(&self, py: Python<'_>) -> PyErr {
        self.make(py).map_or_else(|error| error, PyErr::from_value)
    }

    fn make<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let fields = PyDict::new(py);
        fields.set_item("path", self.path)?;
        fields.set_item("offset", self.offset)?;
        fields.set_item("hint", self.hint)?;
        fields.set_item("system", self.system)?;
        py.import("bty.errors")?.getattr("_make")?.call((self.kind, &self.message), Some(&fields))
    }
}

/// The exception for an error of the library.
pub(crate) fn of(py: Python<'_>, error: &bty::Error) -> PyErr {
    as_kind(py, error, error.kind().as_str())
}

/// The exception for an error of the library, but of another kind.
pub(crate) fn as_kind(py: Python<'_>, error: &bty::Error, kind: &str) -> PyErr {
    let system = match error.io_kind() {
        Some(io::ErrorKind::NotFound) => Some("FileNotFoundError"),
        Some(io::ErrorKind::PermissionDenied) => Some("PermissionError"),
        Some(io::ErrorKind::IsADirectory) => Some("IsADirectoryError"),
        Some(io::ErrorKind::NotADirectory) => Some("NotADirectoryError"),
        _ => None,
    };
    let failure = Failure {
        kind,
        message: format!("{error:#}"),
        path: error.path(),
        offset: error.offset(),
        hint: error.next_step(),
        system,
    };
    failure.raise(py)
}

/// The exception for a plan that is refused, with all reasons.
pub(crate) fn refused(py: Python<'_>, error: &bty::Error, refusals: Vec<Refusal>) -> PyErr {
    let raised = of(py, error);
    let refusals: Vec<_> = refusals.into_iter().map(super::values::Refusal::from).collect();
    match raised.value(py).setattr("refusals", refusals) {
        Ok(()) => raised,
        Err(error) => error,
    }
}

/// One exception for all failed targets of a report; none if every target was flashed.
pub(crate) fn of_report(py: Python<'_>, report: &FlashReport) -> Option<PyErr> {
    let kind = report.failure_kind()?;
    let failed =
        || report.targets.iter().filter_map(|target| Some((target, target.failure.as_ref()?)));
    let texts: Vec<String> = failed()
        .map(|(target, failure)| format!("{}: {}", target.disk.path.display(), failure.message))
        .collect();
    let path = failed().next().map(|(target, _)| target.disk.path.display().to_string());
    let failure = Failure {
        kind: kind.as_str(),
        message: texts.join("; "),
        path: path.as_deref(),
        offset: failed().find_map(|(_, failure)| failure.offset),
        hint: failed().find_map(|(_, failure)| failure.hint.as_deref()),
        system: None,
    };
    let raised = failure.raise(py);
    match raised.value(py).setattr("report", super::values::FlashReport(report.clone())) {
        Ok(()) => Some(raised),
        Err(error) => Some(error),
    }
}
