//! Functions that the program around the engine adds for scripts to call, such as one that switches
//! a socket of a power strip.

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::HostError;

/// The implementation of a [`HostFunction`]. A failure is raised in the script, which may catch it.
pub type HostCallback = Arc<dyn Fn(Vec<Value>) -> Result<Value, HostError> + Send + Sync>;

/// A function that the program around the engine adds for scripts to call.
///
/// [`new`](Self::new) makes one of a function with typed arguments. The fields are for programs
/// that know the arguments only at run time: values cross the border as JSON.
#[derive(Clone)]
pub struct HostFunction {
    /// Its name, with or without a module: `power_cycle` or `lab::power_cycle`.
    pub name: String,
    /// The numbers of arguments that it accepts.
    pub arities: Vec<usize>,
    /// Runs on the thread of the script.
    pub function: HostCallback,
}

impl HostFunction {
    /// A function whose arguments are converted to the types of `function`. An argument that does
    /// not convert fails the call with an error of kind `usage`. Sizes of scripts arrive as numbers
    /// of bytes, and `()` as `None` of an option.
    ///
    /// Two functions of one name with different numbers of arguments may be added.
    ///
    /// ```
    /// use bty_script::{Engine, HostError, HostFunction, ImportRoot, Limits, ScriptContext};
    ///
    /// let set = |socket: u8, is_on: bool| match socket {
    ///     1..=8 => Ok(format!("socket {socket} is {}", if is_on { "on" } else { "off" })),
    ///     _ => Err(HostError::usage(format!("there is no socket {socket}"))),
    /// };
    /// let mut engine = Engine::new(ScriptContext::compute_only(), Limits::server());
    /// engine.add_functions(&[HostFunction::new("power::set", set)])?;
    /// let run = |text| {
    ///     let script = engine.compile("power.rhai", text, &ImportRoot::None)?;
    ///     engine.run(&script, &[], &Default::default())?.data()
    /// };
    /// assert_eq!(run("power::set(3, true)")?, "socket 3 is on");
    /// let error = run(r#"power::set("three", true)"#).unwrap_err();
    /// assert!(error.message.starts_with("cannot call power::set: argument 1: "), "{error}");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new<Args, F: TypedFunction<Args>>(name: impl Into<String>, function: F) -> Self {
        let name = name.into();
        let shown = name.clone();
        let function: HostCallback = Arc::new(move |args| function.call_with_json(&shown, args));
        Self { name, arities: vec![F::ARITY], function }
    }
}

/// A function with up to six arguments that can be read from JSON, and a result that can be written
/// as JSON, or a [`HostError`]. Closures and functions with such a signature implement it.
pub trait TypedFunction<Args>: Send + Sync + 'static {
    /// Number of arguments that a script must pass.
    const ARITY: usize;

    /// Converts `args`, calls the function, and converts its result. Messages call it `name`.
    ///
    /// # Errors
    /// - kind `usage`: an argument or the result cannot be converted
    /// - the error of the function
    fn call_with_json(&self, name: &str, args: Vec<Value>) -> Result<Value, HostError>;
}

/// The arguments of a call that are not converted yet.
struct Arguments<'a> {
    name: &'a str,
    number: usize,
    values: std::vec::IntoIter<Value>,
}

impl Arguments<'_> {
    fn next<T: DeserializeOwned>(&mut self) -> Result<T, HostError> {
        self.number += 1;
        let value = self.values.next().unwrap_or_default();
        serde_json::from_value(value).map_err(|e| {
            HostError::usage(format!("cannot call {}: argument {}: {e}", self.name, self.number))
        })
    }
}

macro_rules! typed_functions {
    ($($arity:literal => $($arg:ident)*;)*) => {$(
        impl<F, R, $($arg,)*> TypedFunction<($($arg,)*)> for F
        where
            F: Fn($($arg),*) -> Result<R, HostError> + Send + Sync + 'static,
            R: Serialize,
            $($arg: DeserializeOwned,)*
        {
            const ARITY: usize = $arity;

            fn call_with_json(&self, name: &str, args: Vec<Value>) -> Result<Value, HostError> {
                #[allow(unused_mut, unused_variables)] // without arguments
                let mut arguments = Arguments { name, number: 0, values: args.into_iter() };
                let result = self($(arguments.next::<$arg>()?),*)?;
                serde_json::to_value(result)
                    .map_err(|e| HostError::usage(format!("the result of {name}: {e}")))
            }
        }
    )*};
}

typed_functions! {
    0 => ;
    1 => A;
    2 => A B;
    3 => A B C;
    4 => A B C D;
    5 => A B C D E;
    6 => A B C D E G;
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn typed_functions_take_the_arguments_that_convert() {
        let join = |n: u16, parts: Vec<String>, end: Option<String>| {
            Ok(json!({ "n": n, "text": format!("{}{}", parts.concat(), end.unwrap_or_default()) }))
        };
        let function = HostFunction::new("join", join);
        assert_eq!(function.arities, [3]);
        let call = |args: Value| {
            (function.function)(args.as_array().unwrap().clone()).map_err(|e| e.message)
        };
        assert_eq!(call(json!([7, ["a", "b"], null])), Ok(json!({ "n": 7, "text": "ab" })));
        for (args, number) in [(json!([70_000, [], "c"]), 1), (json!([7, ["a", 1], null]), 2)] {
            let message = call(args).unwrap_err();
            assert!(
                message.starts_with(&format!("cannot call join: argument {number}: ")),
                "{message}"
            );
        }
    }

    #[test]
    fn functions_without_arguments_or_a_result_and_failures_are_converted_too() {
        fn fail() -> Result<(), HostError> {
            Err(HostError::new("lab", "no power"))
        }
        let nothing = HostFunction::new("nothing", || Ok(()));
        assert_eq!((nothing.arities, (nothing.function)(vec![]).unwrap()), (vec![0], Value::Null));
        assert_eq!((HostFunction::new("fail", fail).function)(vec![]).unwrap_err().kind, "lab");
    }
}
