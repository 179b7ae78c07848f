//! Cancellation by tokens and functions.

use pyo3::prelude::*;

/// Cancels long operations, also from another thread. Cannot be reset. As a context manager, it
/// cancels at the end of the block.
#[pyclass(frozen, module = "bty")]
#[derive(Clone, Default)]
pub(crate) struct CancelToken(bty::CancelToken);

#[pymethods]
impl CancelToken {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    /// Cancels the operations that use this token.
    fn cancel(&self) {
        self.0.cancel();
    }

    /// True once `cancel()` has been called.
    #[getter]
    fn is_cancelled(&self) -> bool {
        self.0.is_cancelled()
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_failure))]
    fn __exit__(&self, _failure: &Bound<'_, PyAny>) {
        self.0.cancel();
    }

    fn __repr__(&self) -> String {
        format!(
            "<bty.CancelToken {}>",
            if self.0.is_cancelled() { "cancelled" } else { "not cancelled" }
        )
    }
}

/// The argument `cancel` of an operation: none, a token, or a function that returns true to cancel.
pub(crate) enum Cancel<'py> {
    Never,
    Token(bty::CancelToken),
    Function(Bound<'py, PyAny>),
}

impl<'py> Cancel<'py> {
    /// Converts the argument; raises `TypeError` for anything else.
    pub(crate) fn of(argument: Option<Bound<'py, PyAny>>) -> PyResult<Self> {
        let Some(argument) = argument else { return Ok(Self::Never) };
        if let Ok(token) = argument.cast::<CancelToken>() {
            return Ok(Self::Token(token.get().0.clone()));
        }
        if argument.is_callable() {
            return Ok(Self::Function(argument));
        }
        let message = "cancel must be a CancelToken, or a function that returns True to cancel";
        Err(pyo3::exceptions::PyTypeError::new_err(message))
    }

    /// True if the operation should be canceled. Calls the function, and raises what it raises.
    pub(crate) fn is_requested(&self) -> PyResult<bool> {
        match self {
            Self::Never => Ok(false),
            Self::Token(token) => Ok(token.is_cancelled()),
            Self::Function(function) => function.call0()?.is_truthy(),
        }
    }
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<CancelToken>()
}
