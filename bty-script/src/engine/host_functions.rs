//! Registers the functions that the program around the engine adds. They take and return JSON, so
//! that the program need not know rhai's types.

use std::any::TypeId;
use std::collections::BTreeMap;
use std::sync::Arc;

use bty::CancelToken;
use rhai::{Dynamic, FuncRegistration, Module, NativeCallContext, RhaiFunc};
use serde_json::Value;

use super::{Engine, Script, ScriptOutcome};
use crate::convert::{from_json, to_json};
use crate::error::{CallResult, HostError, ScriptError, note_call, raise};
use crate::host_function::{HostCallback, HostFunction};

impl Engine {
    /// Lets scripts call `functions`.
    ///
    /// # Errors
    /// An error of kind `usage`: a name is not an identifier, or its module belongs to bty.
    pub fn add_functions(&mut self, functions: &[HostFunction]) -> Result<(), HostError> {
        let mut modules: BTreeMap<&str, Module> = BTreeMap::new();
        for added in functions {
            let (module, name) = added.name.split_once("::").unwrap_or(("", &added.name));
            check_name(name)?;
            if module.is_empty() {
                for &arity in &added.arities {
                    self.rhai.register_raw_fn(name, any(arity), caller(&added.function));
                }
                continue;
            }
            check_name(module)?;
            if (self.library.modules)().contains(&module) {
                let message = format!("cannot add {}: {module} is a module of bty", added.name);
                return Err(HostError::usage(message).hint("use another module name"));
            }
            let module = modules.entry(module).or_default();
            for &arity in &added.arities {
                let function = caller(&added.function);
                let function = RhaiFunc::Pure {
                    func: Arc::new(
                        move |context: Option<NativeCallContext<'_>>, args: &mut [&mut Dynamic]| {
                            match context {
                                Some(context) => function(context, args),
                                None => Err(raise(HostError::new(
                                    "host",
                                    "the engine gave no call context",
                                ))),
                            }
                        },
                    ),
                    has_context: true,
                    is_pure: false,
                    is_volatile: true,
                };
                FuncRegistration::new(name).set_into_module_raw(module, any(arity), function);
            }
        }
        for (name, module) in modules {
            self.rhai.register_static_module(name, module.into());
        }
        Ok(())
    }

    /// Like [`call`](Self::call), with JSON values as arguments.
    ///
    /// # Errors
    /// - [`Cause::Host`](crate::Cause::Host): a host function failed, and the script did not catch
    ///   it
    /// - [`Cause::Throw`](crate::Cause::Throw): the script threw a value
    /// - [`Cause::Script`](crate::Cause::Script): the script is wrong: it has no function `name`,
    ///   or uses something unknown
    /// - [`Cause::Limit`](crate::Cause::Limit): the script exceeded a limit
    /// - [`Cause::Cancelled`](crate::Cause::Cancelled): `cancel` was cancelled, or the context was
    ///   interrupted
    pub fn call_with(
        &self,
        script: &Script,
        name: &str,
        args: &[Value],
        cancel: &CancelToken,
    ) -> Result<ScriptOutcome, ScriptError> {
        self.call(script, name, args.iter().map(|arg| from_json(arg, false)).collect(), cancel)
    }
}

impl ScriptOutcome {
    /// The value as JSON.
    ///
    /// # Errors
    /// [`Cause::Host`](crate::Cause::Host) with kind `usage`: the value cannot be JSON, for example
    /// a function.
    pub fn data(&self) -> Result<Value, ScriptError> {
        to_json(&self.value).map_err(|_| {
            let what = self.value.type_name();
            HostError::usage(format!(
                "the script returned a value of type {what}, which cannot be JSON"
            ))
            .into()
        })
    }
}

fn check_name(name: &str) -> Result<(), HostError> {
    let is_start = |c: char| c.is_ascii_alphabetic() || c == '_';
    if name.starts_with(is_start) && name.chars().all(|c| is_start(c) || c.is_ascii_digit()) {
        return Ok(());
    }
    Err(HostError::usage(format!("{name:?} is not a valid function name"))
        .hint("use letters, digits and _, as in name or module::name"))
}

/// The signature of a function that takes `arity` arguments of any type.
fn any(arity: usize) -> Vec<TypeId> {
    vec![TypeId::of::<Dynamic>(); arity]
}

fn caller(
    function: &HostCallback,
) -> impl Fn(NativeCallContext<'_>, &mut [&mut Dynamic]) -> CallResult<Dynamic> + Send + Sync + 'static
{
    let function = Arc::clone(function);
    move |context, args| {
        note_call(context.call_position());
        let args = args.iter().map(|arg| to_json(arg)).collect::<CallResult<Vec<Value>>>()?;
        function(args).map(|value| from_json(&value, false)).map_err(raise)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ImportRoot, Limits, ScriptContext};

    fn engine(functions: &[(&str, usize)]) -> Result<Engine, HostError> {
        let mut engine = Engine::new(ScriptContext::compute_only(), Limits::server());
        let sum: HostCallback =
            Arc::new(|args| match args.iter().map(Value::as_i64).sum::<Option<i64>>() {
                Some(sum) => Ok(sum.into()),
                None => Err(HostError::new("lab", "only numbers can be added")),
            });
        let functions: Vec<HostFunction> = functions
            .iter()
            .map(|&(name, arity)| HostFunction {
                name: name.into(),
                arities: vec![arity],
                function: Arc::clone(&sum),
            })
            .collect();
        engine.add_functions(&functions).map(|()| engine)
    }

    fn value(engine: &Engine, text: &str) -> Result<Value, ScriptError> {
        let script = engine.compile("a.rhai", text, &ImportRoot::None)?;
        engine.run(&script, &[], &CancelToken::new())?.data()
    }

    #[test]
    fn scripts_call_added_functions_and_catch_their_errors() {
        let engine = engine(&[("lab::sum", 2), ("sum", 3)]).unwrap();
        assert_eq!(value(&engine, "lab::sum(1, 2) + sum(1, 1, 1)").unwrap(), 6);
        let caught = value(
            &engine,
            "let kind = (); try { lab::sum(1, \"a\") } catch (e) { kind = e.kind; } kind",
        )
        .unwrap();
        assert_eq!(caught, "lab");
        let error = value(&engine, "\n lab::sum(1, \"a\")").unwrap_err();
        assert_eq!((error.kind(), error.place.as_ref().map(|place| place.line)), ("lab", Some(2)));
    }

    #[test]
    fn bty_check_knows_added_functions() {
        let engine = engine(&[("lab::sum", 2), ("sum", 3)]).unwrap();
        let findings = |text: &str| {
            let script = engine.compile("a.rhai", text, &ImportRoot::None).unwrap();
            crate::check::check(&engine, &script)
                .into_iter()
                .map(|finding| finding.message)
                .collect::<Vec<_>>()
        };
        assert_eq!(findings("lab::sum(1, 2) + sum(1, 1, 1)"), Vec::<String>::new());
        assert_eq!(findings("lab::summ(1, 2)"), ["there is no function lab::summ"]);
    }

    #[test]
    fn modules_of_bty_and_invalid_names_are_rejected() {
        assert!(engine(&[("disks::list", 0)]).is_err());
        assert!(engine(&[("no name", 0)]).is_err());
        assert!(engine(&[("a::b::c", 0)]).is_err());
    }
}
