//! Values: immutable objects that hold data of the library, with `repr`, `==`, `to_dict()`,
//! `from_dict()`, `replace()`, and pickling.

use pyo3::prelude::*;
use pyo3::types::PyDict;

/// `Name(field=…, field=…)`.
pub(crate) fn repr(value: &Bound<'_, PyAny>, fields: &[&str]) -> PyResult<String> {
    let name = value.get_type().qualname()?;
    let shown =
        fields.iter().map(|field| Ok(format!("{field}={}", value.getattr(*field)?.repr()?)));
    Ok(format!("{name}({})", shown.collect::<PyResult<Vec<_>>>()?.join(", ")))
}

/// A copy with some fields changed, by way of dictionaries.
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

/// What `pickle` makes it from again.
pub(crate) type Reduced<'py> = (Bound<'py, PyAny>, (Bound<'py, PyAny>,));

/// See [`Reduced`].
pub(crate) fn reduce<'py>(value: &Bound<'py, PyAny>) -> PyResult<Reduced<'py>> {
    Ok((value.get_type().getattr("from_dict")?, (value.call_method0("to_dict")?,)))
}

/// Declares the Python class of a type of the library: a getter a field, and further methods.
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

            /// The same as plain data, with the names and units of the command's `--json`.
            fn to_dict<'py>(&self, py: pyo3::Python<'py>) -> pyo3::PyResult<pyo3::Bound<'py, pyo3::PyAny>> {
                crate::json::from_rust(py, &self.0)
            }

            /// Makes it from what `to_dict()` gave.
            #[staticmethod]
            fn from_dict(data: &pyo3::Bound<'_, pyo3::PyAny>) -> pyo3::PyResult<Self> {
                crate::json::to_rust::<$inner>(data).map(Self)
            }

            /// A copy with some fields changed.
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
