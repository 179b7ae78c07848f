//! Open images, directories of image files, and references to registries.

use std::sync::{Mutex, PoisonError};

use bty::Location;
use bty::catalog::ImageForms;
use bty::create::{self, CreateOptions};
use bty::flash::DeltaMode;
use bty::image::{OpenOptions, directory, name};
use bty::pack::{self, PackOptions};
use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::arguments::Size;
use crate::cancel::Cancel;
use crate::catalog::Entry;
use crate::client::{self, Client};
use crate::run::run;
use crate::values::{Contents, CreateReport, ImageFile, ImageInfo, OciBlob, PackCheck, PackReport};
use crate::{arguments, errors, hosts, targets};

/// An open image. It may be read several times, also from several threads at once.
#[pyclass(frozen, module = "bty")]
pub(crate) struct Image {
    opened: Mutex<Option<bty::Image>>,
    info: bty::image::ImageInfo,
    process: u32,
}

impl From<bty::Image> for Image {
    fn from(image: bty::Image) -> Self {
        Self {
            info: image.info().clone(),
            opened: Mutex::new(Some(image)),
            process: std::process::id(),
        }
    }
}

impl Image {
    /// The image. Raises `ValueError` if it was closed, and `RuntimeError` if it is remote and was
    /// opened before a fork.
    pub(crate) fn get(&self) -> PyResult<bty::Image> {
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let image = opened.ok_or_else(|| PyValueError::new_err("the image is closed"))?;
        let is_local = matches!(image.source().location(), Location::File(_) | Location::Stdin);
        if !is_local && self.process != std::process::id() {
            // the threads that read it exist only in the parent process
            return Err(PyRuntimeError::new_err(
                "the image was opened before the fork: open it again",
            ));
        }
        Ok(image)
    }
}

#[pymethods]
impl Image {
    /// The known properties of the image.
    #[getter(info)]
    fn py_info(&self) -> ImageInfo {
        self.info.clone().into()
    }

    /// True once `close()` has been called.
    #[getter]
    fn closed(&self) -> bool {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// Closes its file or connection. Operations that are reading it continue.
    fn close(&self) {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Reads and decodes the whole image, and checks its digest.
    #[pyo3(signature = (*, progress=None, cancel=None))]
    fn read_fully(
        &self,
        py: Python<'_>,
        progress: Option<Bound<'_, PyAny>>,
        cancel: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Contents> {
        let image = self.get()?;
        let cancel = Cancel::of(cancel)?;
        let contents =
            run(py, &cancel, progress.as_ref(), |caller, token| image.read_fully(caller, token))?;
        contents.map(Contents).map_err(|error| errors::of(py, &error))
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_failure))]
    fn __exit__(&self, _failure: &Bound<'_, PyAny>) {
        self.close();
    }

    fn __repr__(&self) -> String {
        let state = if self.closed() { ", closed" } else { "" };
        format!("<bty.Image {:?}, {}{state}>", self.info.source, self.info.summary())
    }
}

/// The forms to open for a path, a URL, an image file or a catalog entry, with the digests that an
/// entry declares.
fn forms(image: &Bound<'_, PyAny>) -> PyResult<ImageForms> {
    let plain = |reference| Ok(ImageForms::new(reference, OpenOptions::default()));
    if let Ok(entry) = image.cast::<Entry>() {
        return Ok(entry.get().0.forms());
    }
    if let Ok(file) = image.cast::<ImageFile>() {
        return plain(bty::text::path_reference(&file.get().0.path));
    }
    if image.is_instance_of::<PyString>() || image.hasattr("__fspath__")? {
        return plain(arguments::text(image)?);
    }
    let name = image.get_type().qualname()?;
    Err(PyTypeError::new_err(format!(
        "expected an Image, a path, an address or an Entry, got {name}"
    )))
}

/// Options for opening an image.
pub(crate) struct Opening<'a, 'py> {
    pub(crate) options: OpenOptions,
    /// Which form of a catalog entry to open.
    pub(crate) delta: DeltaMode,
    pub(crate) client: Option<&'a Bound<'py, Client>>,
    pub(crate) cancel: &'a Cancel<'py>,
}

/// Opens an image, or returns it if it is open already.
pub(crate) fn open(image: &Bound<'_, PyAny>, opening: &Opening<'_, '_>) -> PyResult<bty::Image> {
    let py = image.py();
    let OpenOptions { sha256, sha512, image_sha256, .. } = opening.options;
    if let Ok(opened) = image.cast::<Image>() {
        let opened = opened.get().get()?;
        let info = opened.info();
        let has_other_digest = sha256.is_some() && sha256 != info.expected_sha256
            || sha512.is_some() && sha512 != info.expected_sha512
            || image_sha256.is_some() && image_sha256 != info.expected_image_sha256;
        if has_other_digest {
            return Err(PyValueError::new_err(
                "the image was opened without this digest: pass the digest when opening it",
            ));
        }
        return Ok(opened);
    }
    let forms = forms(image)?;
    let (mut options, promised) = (opening.options.clone(), forms.options());
    (options.sha256, options.sha512) = (sha256.or(promised.sha256), sha512.or(promised.sha512));
    options.pack_index_sha256 = promised.pack_index_sha256;
    let (forms, delta) = (forms.with_options(options), opening.delta);
    let client = client::of(py, opening.client);
    let opened = run(py, opening.cancel, None, |_, token| forms.open(&client, delta, token))?;
    opened.map_err(|error| errors::of(py, &error))
}

/// Opens an image and examines it.
#[pyfunction]
#[pyo3(signature = (
    reference, *, sha256=None, ignore_sidecar=false, client=None, cancel=None, sha512=None,
    image_sha256=None, member=None, ignore_trailing=false, compute_sha256=false
))]
// keyword arguments in Python
#[allow(clippy::too_many_arguments, clippy::fn_params_excessive_bools)]
fn images_open(
    reference: &Bound<'_, PyAny>,
    sha256: Option<&str>,
    ignore_sidecar: bool,
    client: Option<&Bound<'_, Client>>,
    cancel: Option<Bound<'_, PyAny>>,
    sha512: Option<&str>,
    image_sha256: Option<&str>,
    member: Option<String>,
    ignore_trailing: bool,
    compute_sha256: bool,
) -> PyResult<Image> {
    let (py, cancel) = (reference.py(), Cancel::of(cancel)?);
    let options = OpenOptions::default()
        .sha256(arguments::digest(py, sha256)?)
        .sha512(arguments::digest(py, sha512)?)
        .image_sha256(arguments::digest(py, image_sha256)?)
        .ignore_sidecar(ignore_sidecar)
        .member(member)
        .ignore_trailing(ignore_trailing)
        .compute_sha256(compute_sha256);
    let opening = Opening { options, delta: DeltaMode::Never, client, cancel: &cancel };
    open(reference, &opening).map(Image::from)
}

/// Writes an image as a packed image.
#[pyfunction]
#[pyo3(signature = (
    image, path, *, level, frame_bytes, sha256=None, progress=None, cancel=None, client=None
))]
#[allow(clippy::too_many_arguments)] // keyword arguments in Python
fn images_pack(
    image: &Bound<'_, PyAny>,
    path: &Bound<'_, PyAny>,
    level: i32,
    frame_bytes: Size,
    sha256: Option<&str>,
    progress: Option<Bound<'_, PyAny>>,
    cancel: Option<Bound<'_, PyAny>>,
    client: Option<&Bound<'_, Client>>,
) -> PyResult<PackReport> {
    let (py, cancel) = (image.py(), Cancel::of(cancel)?);
    let path = arguments::path(path)?;
    let frame_bytes = u32::try_from(frame_bytes.0).unwrap_or(u32::MAX);
    let options = PackOptions::default().level(level).frame_bytes(frame_bytes);
    let opening = OpenOptions::default().sha256(arguments::digest(py, sha256)?);
    let opening = Opening { options: opening, delta: DeltaMode::Auto, client, cancel: &cancel };
    let image = open(image, &opening)?;
    let report = run(py, &cancel, progress.as_ref(), |caller, token| {
        pack::pack(&image, &path, &options, caller, token)
    })?;
    report.map(PackReport).map_err(|error| errors::of(py, &error))
}

/// Compares the frames of a packed image with its index.
#[pyfunction]
#[pyo3(signature = (image, *, sha256=None, cancel=None, client=None))]
fn images_check_packed(
    image: &Bound<'_, PyAny>,
    sha256: Option<&str>,
    cancel: Option<Bound<'_, PyAny>>,
    client: Option<&Bound<'_, Client>>,
) -> PyResult<PackCheck> {
    let (py, cancel) = (image.py(), Cancel::of(cancel)?);
    let options = OpenOptions::default().sha256(arguments::digest(py, sha256)?);
    let opening = Opening { options, delta: DeltaMode::Auto, client, cancel: &cancel };
    let image = open(image, &opening)?;
    let checked = run(py, &cancel, None, |_, token| pack::check(image.source(), token))?;
    checked.map(PackCheck).map_err(|error| errors::of(py, &error))
}

/// Writes an image of a disk, and compares the two.
#[pyfunction]
#[pyo3(signature = (disk, path, *, shrink=false, progress=None, cancel=None))]
fn images_create(
    disk: &Bound<'_, PyAny>,
    path: &Bound<'_, PyAny>,
    shrink: bool,
    progress: Option<Bound<'_, PyAny>>,
    cancel: Option<Bound<'_, PyAny>>,
) -> PyResult<CreateReport> {
    let (py, cancel) = (disk.py(), Cancel::of(cancel)?);
    let (disk, path) = (targets::disk(disk)?, arguments::path(path)?);
    let options = CreateOptions::default().shrink(shrink);
    let report = run(py, &cancel, progress.as_ref(), |caller, token| {
        create::create(&disk, &path, &options, &*hosts::current(), caller, token)
    })?;
    report.map(CreateReport).map_err(|error| match error.kind() {
        bty::ErrorKind::Refused => {
            errors::refused(py, &error, create::validate(&disk, &path, &options))
        }
        _ => errors::of(py, &error),
    })
}

/// The image files in a directory, sorted by name.
#[pyfunction]
fn images_list(py: Python<'_>, dir: &Bound<'_, PyAny>) -> PyResult<Vec<ImageFile>> {
    let dir = arguments::path(dir)?;
    let files = py.detach(|| directory::list(&dir)).map_err(|error| errors::of(py, &error))?;
    Ok(files.into_iter().map(ImageFile).collect())
}

/// The digest that the `.sha256` file beside an image declares.
#[pyfunction]
fn images_sidecar(py: Python<'_>, path: &Bound<'_, PyAny>) -> PyResult<Option<String>> {
    let path = arguments::path(path)?;
    let digest =
        py.detach(|| directory::sidecar_digest(&path)).map_err(|error| errors::of(py, &error))?;
    Ok(digest.map(|digest| digest.to_string()))
}

/// The architecture suggested by a name.
#[pyfunction]
fn images_architecture(name: &str) -> Option<&'static str> {
    name::architecture(name)
}

/// The format suggested by a name.
#[pyfunction]
fn images_format(name: &str) -> Option<&'static str> {
    name::format(name)
}

/// True if the name is that of a tarball.
#[pyfunction]
fn images_is_tarball(name: &str) -> bool {
    name::is_tarball(name)
}

/// The blob to which an `oras://` reference resolves now.
#[pyfunction]
#[pyo3(signature = (reference, *, client=None, cancel=None))]
fn oci_resolve(
    py: Python<'_>,
    reference: &str,
    client: Option<&Bound<'_, Client>>,
    cancel: Option<Bound<'_, PyAny>>,
) -> PyResult<OciBlob> {
    let reference = reference.parse().map_err(|error| errors::of(py, &error))?;
    let client = client::of(py, client);
    let blob =
        run(py, &Cancel::of(cancel)?, None, |_, token| client.resolve_oci(&reference, token))?;
    let raise = |error: &bty::Error| match error.kind() {
        bty::ErrorKind::Source => errors::as_kind(py, error, "oras"),
        _ => errors::of(py, error),
    };
    blob.map(OciBlob).map_err(|error| raise(&error))
}

/// The registry, repository, tag and digest of an `oras://` reference.
#[pyfunction]
fn oci_parse(
    py: Python<'_>,
    reference: &str,
) -> PyResult<(String, String, Option<String>, Option<String>)> {
    let parsed: bty::oci::OciReference =
        reference.parse().map_err(|error| errors::of(py, &error))?;
    let digest = parsed.digest().map(|digest| format!("sha256:{digest}"));
    Ok((
        parsed.registry().to_owned(),
        parsed.repository().to_owned(),
        parsed.tag().map(str::to_owned),
        digest,
    ))
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Image>()?;
    module.add_function(wrap_pyfunction!(images_open, module)?)?;
    module.add_function(wrap_pyfunction!(images_pack, module)?)?;
    module.add_function(wrap_pyfunction!(images_check_packed, module)?)?;
    module.add_function(wrap_pyfunction!(images_create, module)?)?;
    module.add_function(wrap_pyfunction!(images_list, module)?)?;
    module.add_function(wrap_pyfunction!(images_sidecar, module)?)?;
    module.add_function(wrap_pyfunction!(images_architecture, module)?)?;
    module.add_function(wrap_pyfunction!(images_format, module)?)?;
    module.add_function(wrap_pyfunction!(images_is_tarball, module)?)?;
    module.add_function(wrap_pyfunction!(oci_resolve, module)?)?;
    module.add_function(wrap_pyfunction!(oci_parse, module)?)
}
