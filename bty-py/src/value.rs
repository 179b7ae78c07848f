//! Immutable Python objects for data types of the library, with a constructor, `repr`, `==`,
//! `hash`, `to_dict()`, `from_dict()`, `replace()`, and pickling.

use pyo3::exceptions::{PyDeprecationWarning, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::arguments::Size;
use crate::json;

/// Emits a `DeprecationWarning` at the caller's line.
pub(crate) fn warn_deprecated(py: Python<'_>, message: &std::ffi::CStr) -> PyResult<()> {
    PyErr::warn(py, py.get_type::<PyDeprecationWarning>().as_any(), message, 1)
}

/// Formats `Name(field=…, field=…)`.
pub(crate) fn repr(value: &Bound<'_, PyAny>, fields: &[&str]) -> PyResult<String> {
    let name = value.get_type().qualname()?;
    let shown = fields.iter().map(|field| {
        // `r#type` in Rust is `type` in Python
        let field = field.trim_start_matches("r#");
        Ok(format!("{field}={}", value.getattr(field)?.repr()?))
    });
    Ok(format!("{name}({})", shown.collect::<PyResult<Vec<_>>>()?.join(", ")))
}

/// Creates a value of `class` from its fields. `names` are the attributes of the class; one that is
/// not a field of `T` is computed, so it is accepted and ignored.
///
/// # Errors
/// `TypeError` for an unknown field, `ValueError` for a missing or invalid one.
pub(crate) fn build<'py, T: Serialize + DeserializeOwned>(
    py: Python<'py>,
    class: &str,
    names: &[&str],
    given: Option<&Bound<'py, PyDict>>,
) -> PyResult<T> {
    let given = given.map_or_else(|| Ok(PyDict::new(py)), sizes_in_bytes)?;
    let value: T = json::to_rust(given.as_any())?;
    let fields = json::from_rust(py, &value)?.cast_into::<PyDict>()?;
    for name in given.keys() {
        let is_known = fields.contains(&name)? || names.contains(&&*name.extract::<String>()?);
        if !is_known {
            return Err(PyTypeError::new_err(format!("{class} has no field {name}")));
        }
    }
    Ok(value)
}

/// A copy of `fields` in which sizes as text, such as `8 GiB`, are numbers.
fn sizes_in_bytes<'py>(fields: &Bound<'py, PyDict>) -> PyResult<Bound<'py, PyDict>> {
    let converted = fields.copy()?;
    for (name, value) in fields {
        if value.is_instance_of::<PyString>() && name.extract::<String>()?.ends_with("_bytes") {
            converted.set_item(name, value.extract::<Size>()?.0)?;
        }
    }
    Ok(converted)
}

/// A copy of `value` with some fields changed. The arguments are those of [`build`].
pub(crate) fn replace<T: Serialize + DeserializeOwned>(
    py: Python<'_>,
    class: &str,
    names: &[&str],
    value: &T,
    changes: Option<&Bound<'_, PyDict>>,
) -> PyResult<T> {
    let fields = json::from_rust(py, value)?.cast_into::<PyDict>()?;
    if let Some(changes) = changes {
        fields.update(changes.as_mapping())?;
    }
    build(py, class, names, Some(&fields))
}

/// The result of `__reduce__`: `from_dict`, and its argument.
pub(crate) type Reduced<'py> = (Bound<'py, PyAny>, (Bound<'py, PyAny>,));

pub(crate) fn reduce<'py>(value: &Bound<'py, PyAny>) -> PyResult<Reduced<'py>> {
    Ok((value.get_type().getattr("from_dict")?, (value.call_method0("to_dict")?,)))
}

/// Declares the Python class for a data type: a constructor from keyword arguments, a getter for
/// each field, and further methods. After `own constructor`, the constructor is among these
/// methods. The documentation comments are those that Python shows.
///
/// ```text
/// value! {
///     /// A partition of a disk.
///     Partition = bty::disks::Partition {
///         /// Size of the partition in bytes.
///         size_bytes: u64 = |it| it.size_bytes;
///     } {
///         fn __len__(&self) -> usize { … }
///     }
/// }
/// ```
macro_rules! value {
    (
        $(#[$about:meta])* $name:ident = $inner:ty { $($fields:tt)* }
        own constructor { $($methods:tt)* }
    ) => {
        crate::value::value! {
            @class $(#[$about])* $name = $inner { $($fields)* } { $($methods)* }
        }
    };
    (
        $(#[$about:meta])* $name:ident = $inner:ty { $($fields:tt)* }
        $({ $($methods:tt)* })?
    ) => {
        crate::value::value! {
            @class $(#[$about])* $name = $inner { $($fields)* } {
                #[new]
                #[pyo3(signature = (**fields))]
                fn new<'py>(
                    py: pyo3::Python<'py>,
                    fields: Option<&pyo3::Bound<'py, pyo3::types::PyDict>>,
                ) -> pyo3::PyResult<Self> {
                    crate::value::build(py, stringify!($name), Self::FIELDS, fields).map(Self)
                }

                $($($methods)*)?
            }
        }
    };
    (
        @class $(#[$about:meta])* $name:ident = $inner:ty {
            $($(#[$doc:meta])* $field:ident: $out:ty = $get:expr;)*
        }
        { $($methods:tt)* }
    ) => {
        $(#[$about])*
        #[pyo3::pyclass(frozen, eq, module = "bty")]
        #[derive(Clone, PartialEq)]
        pub(crate) struct $name(pub(crate) $inner);

        impl From<$inner> for $name {
            fn from(inner: $inner) -> Self {
                Self(inner)
            }
        }

        impl $name {
            /// Names of the attributes.
            const FIELDS: &[&str] = &[$(stringify!($field)),*];
        }

        #[pyo3::pymethods]
        impl $name {
            $(
                $(#[$doc])*
                #[getter]
                fn $field(&self) -> $out {
                    let get: fn(&$inner) -> $out = $get;
                    get(&self.0)
                }
            )*

            /// Returns plain data, with the names and units of the command's `--json`.
            fn to_dict<'py>(
                &self,
                py: pyo3::Python<'py>,
            ) -> pyo3::PyResult<pyo3::Bound<'py, pyo3::PyAny>> {
                crate::json::from_rust(py, &self.0)
            }

            /// Creates an object from the result of `to_dict()`. Raises `ValueError` for invalid
            /// data.
            #[staticmethod]
            fn from_dict(data: &pyo3::Bound<'_, pyo3::PyAny>) -> pyo3::PyResult<Self> {
                crate::json::to_rust::<$inner>(data).map(Self)
            }

            /// Returns a copy with some fields changed. Raises `TypeError` for an unknown field.
            #[pyo3(signature = (**changes))]
            fn replace(
                &self,
                py: pyo3::Python<'_>,
                changes: Option<&pyo3::Bound<'_, pyo3::types::PyDict>>,
            ) -> pyo3::PyResult<Self> {
                crate::value::replace(py, stringify!($name), Self::FIELDS, &self.0, changes)
                    .map(Self)
            }

            fn __repr__(slf: &pyo3::Bound<'_, Self>) -> pyo3::PyResult<String> {
                crate::value::repr(slf.as_any(), Self::FIELDS)
            }

            fn __hash__(&self) -> pyo3::PyResult<u64> {
                crate::json::hash(&self.0)
            }

            fn __reduce__<'py>(
                slf: &pyo3::Bound<'py, Self>,
            ) -> pyo3::PyResult<crate::value::Reduced<'py>> {
                crate::value::reduce(slf.as_any())
            }

            $($methods)*
        }
    };
}

pub(crate) use value;
