//! Immutable Python objects for data types of the library, with `repr`, `==`, `to_dict()`,
//! `from_dict()`, `replace()`, and pickling.

use pyo3::exceptions::PyDeprecationWarning;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// Emits a `DeprecationWarning` at the caller's line.
pub(crate) fn warn_deprecated(py: Python<'_>, message: &std::ffi::CStr) -> PyResult<()> {
    PyErr::warn(py, py.get_type::<PyDeprecationWarning>().as_any(), message, 1)
}

/// Formats `Name(field=…, field=…)`.
pub(crate) fn repr(value: &Bound<'_, PyAny>, fields: &[&str]) -> PyResult<String> {
    let name = value.get_type().qualname()?;
    let shown =
        fields.iter().map(|field| Ok(format!("{field}={}", value.getattr(*field)?.repr()?)));
    Ok(format!("{name}({})", shown.collect::<PyResult<Vec<_>>>()?.join(", ")))
}

/// A copy with some fields changed, made by way of `to_dict` and `from_dict`.
pub(crate) fn replace<'py>(
    value: &Bound<'py, PyAny>,
    changes: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    let fields = value.call_method0("to_dict")?.cast_into::<PyDict>()?;
    for (name, change) in changes.iter().flat_map(|changes| changes.iter()) {
        if !fields.contains(&name)? {
            let message = format!("{} has no field {name}", value.get_type().qualname()?);
            return Err(pyo3::exceptions::PyTypeError::new_err(message));
        }
        fields.set_item(name, change)?;
    }
    value.get_type().call_method1("from_dict", (fields,))
}

/// The result of `__reduce__`: `from_dict`, and its argument.
pub(crate) type Reduced<'py> = (Bound<'py, PyAny>, (Bound<'py, PyAny>,));

pub(crate) fn reduce<'py>(value: &Bound<'py, PyAny>) -> PyResult<Reduced<'py>> {
    Ok((value.get_type().getattr("from_dict")?, (value.call_method0("to_dict")?,)))
}

/// Declares the Python class for a data type: a getter for each field, and further methods.
macro_rules! value {
    (
        $(#[$about:meta])* $name:ident = $inner:ty {
            $($(#[$doc:meta])* $field:ident: $out:ty = $get:expr;)*
        }
        $({ $($methods:tt)* })?
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
            fn to_dict<'py>(&self, py: pyo3::Python<'py>) -> pyo3::PyResult<pyo3::Bound<'py, pyo3::PyAny>> {
                crate::json::from_rust(py, &self.0)
            }

            /// Creates an object from the result of `to_dict()`.
            #[staticmethod]
            fn from_dict(data: &pyo3::Bound<'_, pyo3::PyAny>) -> pyo3::PyResult<Self> {
                crate::json::to_rust::<$inner>(data).map(Self)
            }

            /// Returns a copy with some fields changed. Raises `TypeError` for an unknown field.
            #[pyo3(signature = (**changes))]
            fn replace<'py>(
                slf: &pyo3::Bound<'py, Self>,
                changes: Option<&pyo3::Bound<'py, pyo3::types::PyDict>>,
            ) -> pyo3::PyResult<pyo3::Bound<'py, pyo3::PyAny>> {
                crate::value::replace(slf.as_any(), changes)
            }

            fn __repr__(slf: &pyo3::Bound<'_, Self>) -> pyo3::PyResult<String> {
                crate::value::repr(slf.as_any(), &[$(stringify!($field)),*])
            }

            fn __reduce__<'py>(slf: &pyo3::Bound<'py, Self>) -> pyo3::PyResult<crate::value::Reduced<'py>> {
                crate::value::reduce(slf.as_any())
            }

            $($($methods)*)?
        }
    };
}

pub(crate) use value;
