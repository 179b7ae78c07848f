//! Catalogs: lists of images.

use bty::catalog;
use pyo3::exceptions::{PyIndexError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyIterator, PyTuple, PyType};
use serde_json::{Map, Value};

use crate::arguments::Size;
use crate::cancel::Cancel;
use crate::client::{self, Client};
use crate::run::run;
use crate::values::EntryCheck;
use crate::{arguments, errors, json, value};

/// The arguments of `Entry`, in their order.
const ARGUMENTS: [&str; 11] = [
    "name",
    "src",
    "sha256",
    "format",
    "size_bytes",
    "description",
    "arch",
    "sha512",
    "raw",
    "index_sha256",
    "packed",
];

/// An image of a catalog.
#[pyclass(frozen, eq, module = "bty")]
#[derive(Clone, PartialEq)]
pub(crate) struct Entry(pub(crate) catalog::Entry);

#[pymethods]
impl Entry {
    #[new]
    #[pyo3(signature = (
        name, src, sha256=None, format=None, size_bytes=None, description=None, arch=None,
        sha512=None, raw=false, index_sha256=None, packed=None
    ))]
    #[allow(clippy::too_many_arguments)] // keyword arguments in Python
    fn new(
        py: Python<'_>,
        name: String,
        src: String,
        sha256: Option<&str>,
        format: Option<String>,
        size_bytes: Option<Size>,
        description: Option<String>,
        arch: Option<String>,
        sha512: Option<&str>,
        raw: bool,
        index_sha256: Option<&str>,
        packed: Option<String>,
    ) -> PyResult<Self> {
        let mut entry = catalog::Entry::new(name, src).map_err(|error| errors::of(py, &error))?;
        entry.sha512 = arguments::digest(py, sha512)?;
        entry.sha256 = arguments::digest(py, sha256)?;
        entry.index_sha256 = arguments::digest(py, index_sha256)?;
        entry.format = format.or(entry.format);
        entry.size_bytes = size_bytes.map(|size| size.0);
        entry.description = description;
        entry.arch = arch.or(entry.arch);
        entry.raw = raw;
        entry.packed = packed;
        Ok(Self(entry))
    }

    /// Creates an entry from a table of a catalog, and validates it.
    #[staticmethod]
    fn from_dict(raw: &Bound<'_, PyDict>) -> PyResult<Self> {
        let py = raw.py();
        let table: Map<String, Value> = json::to_rust(raw.as_any())?;
        // TOML has no null: leave out absent values
        let table: Map<_, _> = table.into_iter().filter(|(_, value)| !value.is_null()).collect();
        let document = serde_json::json!({ "version": catalog::VERSION, "images": [table] });
        let text =
            toml::to_string(&document).map_err(|error| PyValueError::new_err(error.to_string()))?;
        let parsed = catalog::Catalog::parse(text.as_bytes());
        let parsed = parsed.map_err(|error| errors::of(py, &error))?;
        parsed
            .entries()
            .first()
            .cloned()
            .map(Self)
            .ok_or_else(|| PyIndexError::new_err("the table has no entry"))
    }

    #[getter]
    fn name(&self) -> &str {
        &self.0.name
    }

    #[getter]
    fn src(&self) -> &str {
        self.0.src()
    }

    #[getter]
    fn sha256(&self) -> Option<String> {
        self.0.sha256.map(|digest| digest.to_string())
    }

    #[getter]
    fn sha512(&self) -> Option<String> {
        self.0.sha512.map(|digest| digest.to_string())
    }

    #[getter]
    fn index_sha256(&self) -> Option<String> {
        self.0.index_sha256.map(|digest| digest.to_string())
    }

    #[getter]
    fn packed(&self) -> Option<&str> {
        self.0.packed.as_deref()
    }

    #[getter]
    fn format(&self) -> Option<&str> {
        self.0.format.as_deref()
    }

    #[getter]
    fn size_bytes(&self) -> Option<u64> {
        self.0.size_bytes
    }

    #[getter]
    fn description(&self) -> Option<&str> {
        self.0.description.as_deref()
    }

    #[getter]
    fn arch(&self) -> Option<&str> {
        self.0.arch.as_deref()
    }

    #[getter]
    fn raw(&self) -> bool {
        self.0.raw
    }

    /// The reference by which servers assign the image to machines: 64 hexadecimal digits.
    #[getter]
    fn r#ref(&self) -> String {
        self.0.image_ref().to_string()
    }

    /// Returns plain data, with the names and units of the command's `--json`.
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        json::from_rust(py, &self.0)
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let fields =
            ["name", "src", "sha256", "sha512", "format", "size_bytes", "description", "arch"];
        value::repr(slf.as_any(), &fields)
    }

    fn __hash__(&self) -> u64 {
        let digest = self.0.image_ref();
        digest.as_bytes().iter().take(8).fold(0, |hash, byte| hash << 8 | u64::from(*byte))
    }

    /// Pickles as a call with the arguments of `new`.
    fn __reduce__<'py>(
        slf: &Bound<'py, Self>,
    ) -> PyResult<(Bound<'py, PyType>, Bound<'py, PyTuple>)> {
        let arguments = ARGUMENTS.iter().map(|name| slf.as_any().getattr(*name));
        let arguments = PyTuple::new(slf.py(), arguments.collect::<PyResult<Vec<_>>>()?)?;
        Ok((slf.get_type(), arguments))
    }
}

/// A list of images with unique names. Immutable: `with_entry` returns a new catalog.
#[pyclass(frozen, eq, module = "bty")]
#[derive(Clone, PartialEq)]
pub(crate) struct Catalog(pub(crate) catalog::Catalog);

#[pymethods]
impl Catalog {
    #[new]
    #[pyo3(signature = (entries=None))]
    fn new(py: Python<'_>, entries: Option<Vec<Bound<'_, Entry>>>) -> PyResult<Self> {
        let mut catalog = catalog::Catalog::new();
        for entry in entries.unwrap_or_default() {
            catalog.add(entry.get().0.clone()).map_err(|error| errors::of(py, &error))?;
        }
        Ok(Self(catalog))
    }

    #[getter]
    fn version(&self) -> u32 {
        self.0.version()
    }

    #[getter]
    fn entries<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.0.entries().iter().cloned().map(Entry))
    }

    /// Returns the image whose name is exactly `name`, or none.
    fn by_name(&self, name: &str) -> Option<Entry> {
        self.0.by_name(name).cloned().map(Entry)
    }

    /// Returns the image with this name or reference.
    fn find(&self, py: Python<'_>, text: &str) -> PyResult<Entry> {
        self.0.find(text).cloned().map(Entry).map_err(|error| errors::of(py, &error))
    }

    /// Returns a copy of the catalog with another entry at the end.
    fn with_entry(&self, py: Python<'_>, entry: &Bound<'_, Entry>) -> PyResult<Self> {
        let mut catalog = self.0.clone();
        catalog.add(entry.get().0.clone()).map_err(|error| errors::of(py, &error))?;
        Ok(Self(catalog))
    }

    /// Returns the catalog as TOML.
    fn to_toml(&self) -> String {
        self.0.to_toml()
    }

    /// Returns plain data, with the names and units of the command's `--json`.
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        json::from_rust(py, &self.0)
    }

    /// Checks every image without downloading it.
    #[pyo3(signature = (*, client=None, cancel=None))]
    fn check(
        &self,
        py: Python<'_>,
        client: Option<&Bound<'_, Client>>,
        cancel: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Vec<EntryCheck>> {
        let client = client::of(py, client);
        let found = run(py, &Cancel::of(cancel)?, None, |_, token| {
            catalog::check(&client, &self.0, token)
        })?;
        let found = found.map_err(|error| errors::of(py, &error))?;
        Ok(found.into_iter().map(EntryCheck).collect())
    }

    fn __len__(&self) -> usize {
        self.0.entries().len()
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyIterator>> {
        self.entries(py)?.try_iter()
    }

    fn __getitem__(&self, index: isize) -> PyResult<Entry> {
        let entries = self.0.entries();
        let index = if index < 0 {
            entries.len().checked_add_signed(index)
        } else {
            usize::try_from(index).ok()
        };
        let entry = index.and_then(|index| entries.get(index));
        entry.cloned().map(Entry).ok_or_else(|| PyIndexError::new_err("catalog index out of range"))
    }

    fn __contains__(&self, name: &str) -> bool {
        self.0.by_name(name).is_some()
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        value::repr(slf.as_any(), &["entries"])
    }

    fn __hash__(&self) -> PyResult<u64> {
        json::hash(&self.0)
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> (Bound<'py, PyType>, (Vec<Entry>,)) {
        (slf.get_type(), (slf.get().0.entries().iter().cloned().map(Entry).collect(),))
    }
}

/// Parses the TOML text of a catalog.
#[pyfunction]
fn catalog_parse(py: Python<'_>, text: &[u8]) -> PyResult<Catalog> {
    catalog::Catalog::parse(text).map(Catalog).map_err(|error| errors::of(py, &error))
}

/// Loads the catalog at a path or URL.
#[pyfunction]
#[pyo3(signature = (reference, *, client=None, cancel=None))]
fn catalog_load(
    reference: &Bound<'_, PyAny>,
    client: Option<&Bound<'_, Client>>,
    cancel: Option<Bound<'_, PyAny>>,
) -> PyResult<Catalog> {
    let py = reference.py();
    let reference = arguments::text(reference)?;
    let client = client::of(py, client);
    let loaded = run(py, &Cancel::of(cancel)?, None, |_, token| {
        catalog::Catalog::load(&client, &reference, token)
    })?;
    loaded.map(Catalog).map_err(|error| errors::of(py, &error))
}

/// Reads a source completely, up to a limit.
#[pyfunction]
#[pyo3(signature = (reference, limit_bytes, *, client=None, cancel=None))]
fn read_small<'py>(
    reference: &Bound<'py, PyAny>,
    limit_bytes: Size,
    client: Option<&Bound<'py, Client>>,
    cancel: Option<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, pyo3::types::PyBytes>> {
    let py = reference.py();
    let reference = arguments::text(reference)?;
    let client = client::of(py, client);
    let bytes = run(py, &Cancel::of(cancel)?, None, |_, token| {
        client.read_small(&reference, limit_bytes.0, token)
    })?;
    bytes.map(|bytes| pyo3::types::PyBytes::new(py, &bytes)).map_err(|error| errors::of(py, &error))
}

/// The canonical form of a `src`.
#[pyfunction]
fn canonical_src(py: Python<'_>, src: &str) -> PyResult<String> {
    catalog::canonical_src(src).map_err(|error| errors::of(py, &error))
}

/// The reference by which servers assign an image to machines.
#[pyfunction]
fn image_ref(py: Python<'_>, src: &str) -> PyResult<String> {
    catalog::image_ref(src).map(|digest| digest.to_string()).map_err(|error| errors::of(py, &error))
}

/// The digest of a file in a checksum file.
#[pyfunction]
fn find_in_checksums(text: &str, name: &str) -> Option<String> {
    bty::digest::find_in_checksums(text, name).map(|digest| digest.to_string())
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("CATALOG_DEFAULT_URL", catalog::DEFAULT_URL)?;
    module.add("CATALOG_MAX_BYTES", catalog::MAX_BYTES)?;
    module.add_class::<Entry>()?;
    module.add_class::<Catalog>()?;
    module.add_function(wrap_pyfunction!(catalog_parse, module)?)?;
    module.add_function(wrap_pyfunction!(catalog_load, module)?)?;
    module.add_function(wrap_pyfunction!(read_small, module)?)?;
    module.add_function(wrap_pyfunction!(canonical_src, module)?)?;
    module.add_function(wrap_pyfunction!(image_ref, module)?)?;
    module.add_function(wrap_pyfunction!(find_in_checksums, module)?)
}
