//! Converts between data types of the library, JSON, and plain Python objects.

use std::hash::{DefaultHasher, Hash, Hasher};

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Number, Value};

use crate::arguments;

/// Maximum nesting of Python data; deeper data could overflow the stack.
const DEPTH_MAX: usize = 128;

/// Converts a data type of the library to dictionaries, lists, strings and numbers.
pub(crate) fn from_rust<'py, T: Serialize + ?Sized>(
    py: Python<'py>,
    value: &T,
) -> PyResult<Bound<'py, PyAny>> {
    let value = serde_json::to_value(value).map_err(|e| PyValueError::new_err(e.to_string()))?;
    to_python(py, &value)
}

/// The hash of a data type of the library. Equal values have equal JSON.
pub(crate) fn hash<T: Serialize + ?Sized>(value: &T) -> PyResult<u64> {
    let text = serde_json::to_string(value).map_err(|e| PyValueError::new_err(e.to_string()))?;
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    Ok(hasher.finish())
}

/// Converts JSON to Python objects.
pub(crate) fn to_python<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    Ok(match value {
        Value::Null => py.None().into_bound(py),
        Value::Bool(is) => PyBool::new(py, *is).to_owned().into_any(),
        Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => number.into_pyobject(py)?.into_any(),
            (None, Some(number)) => number.into_pyobject(py)?.into_any(),
            (None, None) => PyFloat::new(py, number.as_f64().unwrap_or_default()).into_any(),
        },
        Value::String(text) => PyString::new(py, text).into_any(),
        Value::Array(items) => {
            let list = PyList::empty(py);
            for item in items {
                list.append(to_python(py, item)?)?;
            }
            list.into_any()
        }
        Value::Object(fields) => {
            let dict = PyDict::new(py);
            for (name, field) in fields {
                dict.set_item(name, to_python(py, field)?)?;
            }
            dict.into_any()
        }
    })
}

/// Converts Python data to a data type of the library; raises `ValueError` if it does not match.
pub(crate) fn to_rust<T: DeserializeOwned>(value: &Bound<'_, PyAny>) -> PyResult<T> {
    from_json(from_python(value)?)
}

/// Converts JSON to a data type of the library; raises `ValueError` if it does not match.
pub(crate) fn from_json<T: DeserializeOwned>(value: Value) -> PyResult<T> {
    serde_json::from_value(value).map_err(|e| PyValueError::new_err(e.to_string()))
}

/// Converts Python data to JSON: `None`, booleans, numbers, strings, paths, lists, tuples,
/// dictionaries with strings as keys, and objects with `to_dict()`.
pub(crate) fn from_python(value: &Bound<'_, PyAny>) -> PyResult<Value> {
    nested(value, 0)
}

fn nested(value: &Bound<'_, PyAny>, depth: usize) -> PyResult<Value> {
    if depth > DEPTH_MAX {
        return Err(PyValueError::new_err("the data is nested too deeply"));
    }
    if value.is_none() {
        return Ok(Value::Null);
    }
    if let Ok(is) = value.cast::<PyBool>() {
        return Ok(Value::Bool(is.is_true()));
    }
    if value.is_instance_of::<PyInt>() {
        let number = value
            .extract::<u64>()
            .map(Number::from)
            .or_else(|_| value.extract::<i64>().map(Number::from))?;
        return Ok(Value::Number(number));
    }
    if value.is_instance_of::<PyFloat>() {
        let number = Number::from_f64(value.extract()?);
        return number
            .map(Value::Number)
            .ok_or_else(|| PyValueError::new_err("the number is not finite"));
    }
    if let Ok(text) = value.cast::<PyString>() {
        return Ok(Value::String(text.to_cow()?.into_owned()));
    }
    if let Ok(dict) = value.cast::<PyDict>() {
        let fields = dict
            .iter()
            .map(|(name, field)| Ok((name.extract::<String>()?, nested(&field, depth + 1)?)));
        return Ok(Value::Object(fields.collect::<PyResult<Map<_, _>>>()?));
    }
    if value.is_instance_of::<PyList>() || value.is_instance_of::<PyTuple>() {
        let items = value.try_iter()?.map(|item| nested(&item?, depth + 1));
        return Ok(Value::Array(items.collect::<PyResult<_>>()?));
    }
    if let Ok(to_dict) = value.getattr("to_dict") {
        return nested(&to_dict.call0()?, depth + 1);
    }
    if value.hasattr("__fspath__")? {
        return Ok(Value::String(arguments::text(value)?));
    }
    let name = value.get_type().qualname()?;
    Err(PyTypeError::new_err(format!("cannot convert {name} to JSON")))
}
