//! Plans, and comparing without writing. [`Plan::execute`] is the only function that writes to a
//! disk.

use bty::ErrorKind;
use bty::flash::{DeltaMode, FlashOptions, FlashPlan};
use bty::image::OpenOptions;
use pyo3::prelude::*;
use pyo3::types::PyType;

use crate::arguments::Size;
use crate::cancel::Cancel;
use crate::catalog::Entry;
use crate::client::Client;
use crate::images::{Image, Opening, open};
use crate::run::run;
use crate::values::{Disk, FlashReport, ImageInfo, Refusal, VerifyReport};
use crate::{arguments, errors, hosts, json, targets, value, values};

/// A plan to write an image to disks. Creating and validating it changes nothing.
#[pyclass(frozen, module = "bty")]
pub(crate) struct Plan {
    plan: FlashPlan,
    image: Option<bty::Image>,
}

#[pymethods]
impl Plan {
    #[new]
    #[pyo3(signature = (
        image, disks, *, sha256=None, client=None, cancel=None, verify=true, fix_gpt=false,
        fit=false, uefi_boot=false, allow_partition=false, raw=false, overwrite=false, efivars=None,
        stall_ms=120_000, delta="auto", stash=None, proven_disk=false
    ))]
    // keyword arguments in Python
    #[allow(clippy::too_many_arguments, clippy::fn_params_excessive_bools)]
    fn new(
        image: &Bound<'_, PyAny>,
        disks: &Bound<'_, PyAny>,
        sha256: Option<&str>,
        client: Option<&Bound<'_, Client>>,
        cancel: Option<Bound<'_, PyAny>>,
        verify: bool,
        fix_gpt: bool,
        fit: bool,
        uefi_boot: bool,
        allow_partition: bool,
        raw: bool,
        overwrite: bool,
        efivars: Option<&Bound<'_, PyAny>>,
        stall_ms: u64,
        delta: &str,
        stash: Option<Size>,
        proven_disk: bool,
    ) -> PyResult<Self> {
        let mut options = FlashOptions::default();
        options.delta = delta.parse().map_err(|error| errors::of(image.py(), &error))?;
        options.stash_bytes = stash.map_or(options.stash_bytes, |size| size.0);
        options.proven_disk = proven_disk;
        options.verify = verify;
        options.fix_gpt = fix_gpt;
        options.fit = fit;
        options.uefi_boot = uefi_boot;
        options.allow_partition = allow_partition;
        options.raw = raw || image.cast::<Entry>().is_ok_and(|entry| entry.get().0.raw);
        options.overwrite = overwrite;
        options.stall_ms = stall_ms;
        if let Some(path) = efivars {
            options.efivars = arguments::path(path)?;
        }
        // before the image, because opening it may take long
        let disks = targets::disks(disks)?;
        if let Ok(info) = image.cast::<ImageInfo>() {
            return Ok(Self { plan: FlashPlan::new(&info.get().0, disks, options), image: None });
        }
        let cancel = Cancel::of(cancel)?;
        let opening = Opening {
            options: with_sha256(image.py(), sha256)?,
            delta: options.delta,
            client,
            cancel: &cancel,
        };
        let image = open(image, &opening)?;
        Ok(Self { plan: FlashPlan::new(image.info(), disks, options), image: Some(image) })
    }

    /// The image, as examined.
    #[getter]
    fn image(&self) -> ImageInfo {
        self.plan.image.clone().into()
    }

    /// The disks, as probed when the plan was created.
    #[getter]
    fn targets(&self) -> Vec<Disk> {
        self.plan.targets.iter().cloned().map(Disk).collect()
    }

    /// The options of the flash.
    #[getter]
    fn options(&self) -> values::FlashOptions {
        self.plan.options.clone().into()
    }

    /// Remarks for display that do not prevent the flash.
    #[getter]
    fn notes(&self) -> Vec<String> {
        self.plan.notes.clone()
    }

    /// Returns words for what helps against the causes of `notes`: `sha256`, `fix_gpt`.
    fn remedies(&self) -> Vec<&'static str> {
        self.plan.remedies().into_iter().map(bty::Remedy::as_str).collect()
    }

    /// Returns every reason to refuse the plan; empty if it can be executed.
    fn validate(&self) -> Vec<Refusal> {
        self.plan.validate().into_iter().map(Refusal).collect()
    }

    /// Raises `RefusedError` with all reasons if the plan is refused.
    fn check(&self, py: Python<'_>) -> PyResult<()> {
        self.plan.check().map_err(|error| errors::refused(py, &error, self.plan.validate()))
    }

    /// Returns the report of an execution without errors. Reads and writes nothing.
    fn dry_run_report(&self) -> FlashReport {
        self.plan.dry_run_report().into()
    }

    /// Deprecated name of `dry_run_report()`.
    fn foresee(&self, py: Python<'_>) -> PyResult<FlashReport> {
        value::warn_deprecated(py, c"Plan.foresee() is deprecated: use dry_run_report()")?;
        Ok(self.dry_run_report())
    }

    /// Writes the image to the targets and proves it.
    #[pyo3(signature = (*, image=None, progress=None, cancel=None, client=None))]
    fn execute(
        &self,
        py: Python<'_>,
        image: Option<&Bound<'_, Image>>,
        progress: Option<Bound<'_, PyAny>>,
        cancel: Option<Bound<'_, PyAny>>,
        client: Option<&Bound<'_, Client>>,
    ) -> PyResult<FlashReport> {
        self.check(py)?;
        let cancel = Cancel::of(cancel)?;
        let image = match image {
            Some(image) => image.get().get()?,
            None => self.open(py, client, &cancel)?,
        };
        let report = run(py, &cancel, progress.as_ref(), |caller, token| {
            let mut plan = self.plan.clone();
            plan.options.efivars = hosts::efivars(&plan.options.efivars);
            plan.execute(&image, &*hosts::current(), caller, token)
        })?;
        // the check above passed, so a refusal now means that a disk has changed
        let raise = |error: &bty::Error| match error.kind() {
            ErrorKind::Refused => errors::as_kind(py, error, "race"),
            _ => errors::of(py, error),
        };
        let report = report.map_err(|error| raise(&error))?;
        of_report(py, &report).map_or(Ok(FlashReport(report)), Err)
    }

    /// Returns the plan as plain data, from which `from_dict()` creates it again.
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        json::from_rust(py, &self.plan)
    }

    /// Creates a plan from the result of `to_dict()`. The image is opened when the plan is
    /// executed.
    #[classmethod]
    fn from_dict(_: &Bound<'_, PyType>, data: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(Self { plan: json::to_rust(data)?, image: None })
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> bool {
        other.cast::<Self>().is_ok_and(|other| other.get().plan == self.plan)
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        value::repr(slf.as_any(), &["image", "targets", "options", "notes"])
    }

    fn __hash__(&self) -> PyResult<u64> {
        json::hash(&self.plan)
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<value::Reduced<'py>> {
        value::reduce(slf.as_any())
    }
}

impl Plan {
    fn open(
        &self,
        py: Python<'_>,
        client: Option<&Bound<'_, Client>>,
        cancel: &Cancel<'_>,
    ) -> PyResult<bty::Image> {
        if let Some(image) = &self.image {
            return Image::from(image.clone()).get();
        }
        let info = &self.plan.image;
        let options = OpenOptions::default()
            .sha256(info.expected_sha256)
            .sha512(info.expected_sha512)
            .image_sha256(info.expected_image_sha256)
            .pack_index_sha256(info.expected_pack_index_sha256);
        // the plan already names the form that it was made for
        let opening = Opening { options, delta: DeltaMode::Never, client, cancel };
        open(pyo3::types::PyString::new(py, &self.plan.image.source).as_any(), &opening)
    }
}

fn with_sha256(py: Python<'_>, sha256: Option<&str>) -> PyResult<OpenOptions> {
    Ok(OpenOptions::default().sha256(arguments::digest(py, sha256)?))
}

/// One exception for all failed targets of a report; none if every target was flashed.
fn of_report(py: Python<'_>, report: &bty::flash::FlashReport) -> Option<PyErr> {
    let kind = report.failure_kind()?;
    let failed =
        || report.targets.iter().filter_map(|target| Some((target, target.failure.as_ref()?)));
    let texts: Vec<String> = failed()
        .map(|(target, failure)| format!("{}: {}", target.disk.path.display(), failure.message))
        .collect();
    let path = failed().next().map(|(target, _)| target.disk.path.display().to_string());
    let failure = errors::Failure {
        kind: kind.as_str(),
        message: texts.join("; "),
        path: path.as_deref(),
        offset: failed().find_map(|(_, failure)| failure.offset),
        hint: failed().find_map(|(_, failure)| failure.hint.as_deref()),
        remedy: None,
        errno: None,
    };
    let raised = failure.raise(py);
    match raised.value(py).setattr("report", FlashReport(report.clone())) {
        Ok(()) => Some(raised),
        Err(error) => Some(error),
    }
}

/// Compares a disk with an image. Writes nothing.
#[pyfunction]
#[pyo3(signature = (
    image, disk, *, fix_gpt=false, sha256=None, progress=None, cancel=None, client=None
))]
#[allow(clippy::too_many_arguments)] // keyword arguments in Python
fn verify(
    py: Python<'_>,
    image: &Bound<'_, PyAny>,
    disk: &Bound<'_, PyAny>,
    fix_gpt: bool,
    sha256: Option<&str>,
    progress: Option<Bound<'_, PyAny>>,
    cancel: Option<Bound<'_, PyAny>>,
    client: Option<&Bound<'_, Client>>,
) -> PyResult<VerifyReport> {
    let cancel = Cancel::of(cancel)?;
    let disk = targets::disk(disk)?;
    // as published, so that its digest is checked too
    let opening = Opening {
        options: with_sha256(image.py(), sha256)?,
        delta: DeltaMode::Never,
        client,
        cancel: &cancel,
    };
    let image = open(image, &opening)?;
    let report = run(py, &cancel, progress.as_ref(), |caller, token| {
        let options = bty::flash::VerifyOptions::default().fix_gpt(fix_gpt);
        bty::flash::verify(&image, &disk, &*hosts::current(), &options, caller, token)
    })?;
    report.map(VerifyReport).map_err(|error| errors::of(py, &error))
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Plan>()?;
    module.add_function(wrap_pyfunction!(verify, module)?)
}
