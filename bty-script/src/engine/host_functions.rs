//! Functions of the program around the engine: data in, data out. So that programs in other
//! languages can give some to scripts without knowing the engine's types.

use std::any::TypeId;
use std::collections::BTreeMap;
use std::sync::Arc;

use bty::CancelToken;
use rhai::{Dynamic, FuncRegistration, Module, NativeCallContext, RhaiFunc};
use serde_json::Value;

use super::{Ended, Engine, Script};
use crate::convert::{from_json, to_json};
use crate::error::{HostError, Outcome, ScriptError, note_call, raise};

/// What is done when a script calls it.
pub type Foreign = Arc<dyn Fn(Vec<Value>) -> Result<Value, HostError> + Send + Sync>;

/// A function of the program around the engine.
#[derive(Clone)]
pub struct ForeignFunction {
    /// Its name, `power_cycle` or `lab::power_cycle`.
    pub name: String,
    /// With how many arguments it may be called.
    pub arities: Vec<usize>,
    /// What it does.
    pub function: Foreign,
}

impl Engine {
    /// Lets scripts call `functions`. What they fail with is raised in the script, which may catch
    /// it.
    ///
    /// # Errors
    /// A name is none, or names a module of bty.
    pub fn add_functions(&mut self, functions: &[ForeignFunction]) -> Result<(), HostError> {
        let mut modules: BTreeMap<&str, Module> = BTreeMap::new();
        for foreign in functions {
            let (module, name) = foreign.name.split_once("::").unwrap_or(("", &foreign.name));
            check_name(name)?;
            if module.is_empty() {
                for &arity in &foreign.arities {
                    self.rhai.register_raw_fn(name, any(arity), caller(&foreign.function));
                }
                continue;
            }
            check_name(module)?;
            if crate::api::MODULES.iter().any(|(taken, _)| *taken == module) {
                return Err(HostError::usage(format!("{module} is a module of bty"))
                    .hint("choose another name"));
            }
            let module = modules.entry(module).or_default();
            for &arity in &foreign.arities {
                let function = caller(&foreign.function);
                let function = RhaiFunc::Pure {
                    func: Arc::new(
                        move |context: Option<NativeCallContext<'_>>, args: &mut [&mut Dynamic]| {
                            match context {
                                Some(context) => function(context, args),
                                None => {
                                    Err(raise(HostError::new("host", "the engine tells no place")))
                                }
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

    /// The same as [`call`](Self::call), with data as arguments.
    ///
    /// # Errors
    /// As of [`call`](Self::call).
    pub fn call_with(
        &self,
        script: &Script,
        name: &str,
        args: &[Value],
        cancel: &CancelToken,
    ) -> Result<Ended, ScriptError> {
        self.call(script, name, args.iter().map(|arg| from_json(arg, false)).collect(), cancel)
    }
}

impl Ended {
    /// Its value as data.
    ///
    /// # Errors
    /// It is none: a function, say.
    pub fn data(&self) -> Result<Value, ScriptError> {
        to_json(&self.value).map_err(|_| {
            let what = self.value.type_name();
            HostError::usage(format!("the script gives a value of type {what}, which is no data"))
                .into()
        })
    }
}

fn check_name(name: &str) -> Result<(), HostError> {
    let is_start = |c: char| c.is_ascii_alphabetic() || c == '_';
    if name.starts_with(is_start) && name.chars().all(|c| is_start(c) || c.is_ascii_digit()) {
        return Ok(());
    }
    Err(HostError::usage(format!("{name:?} is no name of a function"))
        .hint("write name, or module::name"))
}

/// That many arguments of any type.
fn any(arity: usize) -> Vec<TypeId> {
    vec![TypeId::of::<Dynamic>(); arity]
}

fn caller(
    function: &Foreign,
) -> impl Fn(NativeCallContext<'_>, &mut [&mut Dynamic]) -> Outcome<Dynamic> + Send + Sync + 'static
{
    let function = Arc::clone(function);
    move |context, args| {
        note_call(context.call_position());
        let args = args.iter().map(|arg| to_json(arg)).collect::<Outcome<Vec<Value>>>()?;
        function(args).map(|value| from_json(&value, false)).map_err(raise)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Limits, Root, ScriptContext};

    fn engine(functions: &[(&str, usize)]) -> Result<Engine, HostError> {
        let mut engine = Engine::new(ScriptContext::compute_only(), Limits::server());
        let sum: Foreign =
            Arc::new(|args| match args.iter().map(Value::as_i64).sum::<Option<i64>>() {
                Some(sum) => Ok(sum.into()),
                None => Err(HostError::new("lab", "only numbers can be added")),
            });
        let functions: Vec<ForeignFunction> = functions
            .iter()
            .map(|&(name, arity)| ForeignFunction {
                name: name.into(),
                arities: vec![arity],
                function: Arc::clone(&sum),
            })
            .collect();
        engine.add_functions(&functions).map(|()| engine)
    }

    fn value(engine: &Engine, text: &str) -> Result<Value, ScriptError> {
        let script = engine.compile("a.rhai", text, &Root::None)?;
        engine.run(&script, &[], &CancelToken::new())?.data()
    }

    #[test]
    fn scripts_call_functions_of_the_program_around_them() {
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
    fn checks_know_them() {
        let engine = engine(&[("lab::sum", 2), ("sum", 3)]).unwrap();
        let findings = |text: &str| {
            let script = engine.compile("a.rhai", text, &Root::None).unwrap();
            crate::check::check(&engine, &script)
                .into_iter()
                .map(|finding| finding.message)
                .collect::<Vec<_>>()
        };
        assert_eq!(findings("lab::sum(1, 2) + sum(1, 1, 1)"), Vec::<String>::new());
        assert_eq!(findings("lab::summ(1, 2)"), ["there is no function lab::summ"]);
    }

    #[test]
    fn the_words_of_bty_cannot_be_replaced() {
        assert!(engine(&[("disks::list", 0)]).is_err());
        assert!(engine(&[("no name", 0)]).is_err());
        assert!(engine(&[("a::b::c", 0)]).is_err());
    }
}
