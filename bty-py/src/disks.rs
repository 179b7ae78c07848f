//! Disks, the inventory of the machine, and sizes.

use bty::boot::{self, BootNext};
use bty::hardware::{HardwareRoots, Inventory};
use pyo3::prelude::*;

use crate::arguments::Size;
use crate::cancel::Cancel;
use crate::run::run;
use crate::values::{Disk, Dmi, EraseReport};
use crate::{arguments, errors, hosts, json, targets};

/// All whole disks and attached loop devices, sorted by path.
#[pyfunction]
fn disks_list(py: Python<'_>) -> PyResult<Vec<Disk>> {
    let disks = py.detach(|| hosts::current().list());
    Ok(disks.map_err(|error| errors::of(py, &error))?.into_iter().map(Disk::from).collect())
}

/// The disk, partition, loop device or file at a path.
#[pyfunction]
fn disks_probe(py: Python<'_>, path: &Bound<'_, PyAny>) -> PyResult<Disk> {
    let path = arguments::path(path)?;
    py.detach(|| hosts::current().probe(&path)).map(Disk).map_err(|error| errors::of(py, &error))
}

/// The only disk that a selector matches.
#[pyfunction]
fn disks_select(selector: &Bound<'_, PyAny>) -> PyResult<Disk> {
    targets::disk(selector).map(Disk)
}

/// Creates a regular file for use as a disk.
#[pyfunction]
fn disks_create_file(py: Python<'_>, path: &Bound<'_, PyAny>, size_bytes: Size) -> PyResult<Disk> {
    let path = arguments::path(path)?;
    let made = py.detach(|| {
        let host = hosts::current();
        host.create(&path, size_bytes.0)?;
        host.probe(&path)
    });
    made.map(Disk).map_err(|error| errors::of(py, &error))
}

/// Erases a disk, and reads it back.
#[pyfunction]
#[pyo3(signature = (disk, way="zeros", *, progress=None, cancel=None))]
fn disks_erase(
    disk: &Bound<'_, PyAny>,
    way: &str,
    progress: Option<Bound<'_, PyAny>>,
    cancel: Option<Bound<'_, PyAny>>,
) -> PyResult<EraseReport> {
    let py = disk.py();
    let way = way.parse().map_err(|error| errors::of(py, &error))?;
    let (cancel, disk) = (Cancel::of(cancel)?, targets::disk(disk)?);
    let report = run(py, &cancel, progress.as_ref(), |caller, token| {
        bty::flash::erase(&disk, way, &*hosts::current(), caller, token)
    })?;
    report.map(EraseReport).map_err(|error| errors::of(py, &error))
}

/// Has the firmware boot a disk once, at the next boot. Returns the number of the boot entry, or
/// the reason why nothing was changed.
#[pyfunction]
fn disks_boot_next(
    disk: &Bound<'_, PyAny>,
    label: &str,
    efivars: &Bound<'_, PyAny>,
) -> PyResult<(Option<u16>, &'static str)> {
    let py = disk.py();
    let efivars = hosts::efivars(&arguments::path(efivars)?);
    let disk = targets::disk(disk)?;
    let set = py.detach(|| boot::set_boot_next(&*hosts::current(), &disk, label, &efivars));
    match set.map_err(|error| errors::of(py, &error))? {
        BootNext::Set { entry } => Ok((Some(entry), "")),
        BootNext::Skipped { reason } => Ok((None, reason)),
    }
}

/// Disks and hardware, as a machine posts them to a server.
#[pyfunction]
fn inventory(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let found = py.detach(|| Inventory::collect(&*hosts::current(), &HardwareRoots::default()));
    json::from_rust(py, &found.map_err(|error| errors::of(py, &error))?)
}

/// Identification of the machine by its firmware.
#[pyfunction]
fn dmi(py: Python<'_>) -> Dmi {
    Dmi(py.detach(|| bty::hardware::dmi(&HardwareRoots::default())))
}

/// Parses a size; returns bytes.
#[pyfunction]
fn size_parse(py: Python<'_>, text: &str) -> PyResult<u64> {
    bty::size::parse(text).map_err(|error| errors::of(py, &error))
}

/// Formats a size in bytes for display.
#[pyfunction]
fn size_human(bytes: Size) -> String {
    bty::size::human(bytes.0)
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(disks_list, module)?)?;
    module.add_function(wrap_pyfunction!(disks_probe, module)?)?;
    module.add_function(wrap_pyfunction!(disks_select, module)?)?;
    module.add_function(wrap_pyfunction!(disks_create_file, module)?)?;
    module.add_function(wrap_pyfunction!(disks_erase, module)?)?;
    module.add_function(wrap_pyfunction!(disks_boot_next, module)?)?;
    module.add_function(wrap_pyfunction!(inventory, module)?)?;
    module.add_function(wrap_pyfunction!(dmi, module)?)?;
    module.add_function(wrap_pyfunction!(size_parse, module)?)?;
    module.add_function(wrap_pyfunction!(size_human, module)?)
}
