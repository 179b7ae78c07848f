//! Scripts typed line by line: variables, functions and imports stay for the next line.

use std::path::PathBuf;

use bty::CancelToken;
use rhai::{AST, ASTNode, Dynamic, Expr, Scope, Stmt};

use super::{Engine, ImportRoot, Script, ScriptOutcome, standard_scope};
use crate::error::ScriptError;

/// The file name of typed lines in error messages.
const NAME: &str = "repl";

/// An engine together with the variables, functions and imports of the lines so far.
///
/// ```
/// use bty_script::engine::InteractiveSession;
/// use bty_script::{Engine, ScriptContext, Limits};
///
/// let engine = Engine::new(ScriptContext::compute_only(), Limits::operator());
/// let mut session = InteractiveSession::new(engine);
/// session.eval("let x = 20; fn twice(n) { n * 2 }", &Default::default())?;
/// let outcome = session.eval("twice(x) + 2", &Default::default())?;
/// assert_eq!(outcome.value.as_int(), Ok(42));
/// # Ok::<(), bty_script::ScriptError>(())
/// ```
pub struct InteractiveSession {
    engine: Engine,
    scope: Scope<'static>,
    /// Number of variables that every script has; they come first in `scope`.
    standard: usize,
    functions: AST,
    /// Everything typed so far, so that an error in an earlier function can show its line.
    typed: String,
    history: Vec<SuccessfulLine>,
}

struct SuccessfulLine {
    text: String,
    /// Name and number of parameters of each function that the line defines.
    defines: Vec<(String, usize)>,
    /// True if the line only defines functions.
    is_definition: bool,
}

/// A variable of a session.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Variable {
    /// Name of the variable.
    pub name: String,
    /// Type of the value, as scripts name it.
    pub kind: String,
    /// The value that the variable has now.
    pub value: Dynamic,
}

impl InteractiveSession {
    /// Starts a session without variables and functions of its own.
    #[must_use]
    pub fn new(engine: Engine) -> Self {
        let scope = standard_scope(&engine.context, &[]);
        let standard = scope.len();
        Self {
            engine,
            scope,
            standard,
            functions: AST::empty(),
            typed: String::new(),
            history: Vec::new(),
        }
    }

    /// The engine that runs the lines.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Runs `line`, which may contain line breaks. If it fails, it defines nothing, but assignments
    /// to existing variables stay.
    ///
    /// # Errors
    /// - [`Cause::Host`](crate::Cause::Host): a host function failed, and the line did not catch it
    /// - [`Cause::Throw`](crate::Cause::Throw): the line threw a value
    /// - [`Cause::Script`](crate::Cause::Script): the line has a wrong syntax, or uses something
    ///   unknown
    /// - [`Cause::Limit`](crate::Cause::Limit): the line exceeded a limit
    /// - [`Cause::Cancelled`](crate::Cause::Cancelled): `cancel` was cancelled, or the context was
    ///   interrupted
    ///
    /// The session can go on after each of them.
    pub fn eval(&mut self, line: &str, cancel: &CancelToken) -> Result<ScriptOutcome, ScriptError> {
        let line = line.trim_end();
        let lines_before = self.typed.matches('\n').count();
        self.typed.push_str(line);
        self.typed.push('\n');
        let text = format!("{}{line}", "\n".repeat(lines_before));
        let root = ImportRoot::Directory(PathBuf::from("."));
        let compiled = self.engine.compile_for(NAME, &text, &root, &self.scope);
        self.engine.sources.add(NAME, &self.typed);
        let script = compiled.map_err(|mut error| {
            // while it compiled, `sources` had only the new line under this name
            error.place =
                error.place.and_then(|p| self.engine.sources.line_of(NAME, p.line, p.column));
            error
        })?;
        let mut ast = self.functions.merge(&script.ast);
        ast.set_source(NAME);
        let merged = Script { ast, name: NAME.to_owned(), root };
        let variables = self.scope.len();
        let outcome = self.engine.run_in(&mut self.scope, &merged, cancel);
        match outcome {
            Ok(outcome) => {
                self.keep_imports(&script.ast);
                self.functions = merged.ast.clone_functions_only();
                let defines = script
                    .ast
                    .iter_functions()
                    .map(|f| (f.name.to_owned(), f.params.len()))
                    .collect();
                let is_definition = script.ast.statements().is_empty();
                self.history.push(SuccessfulLine {
                    text: line.trim().to_owned(),
                    defines,
                    is_definition,
                });
                Ok(outcome)
            }
            Err(error) => {
                self.scope.rewind(variables);
                Err(error)
            }
        }
    }

    /// Makes the modules that a line imports available to the following lines.
    fn keep_imports(&mut self, ast: &AST) {
        let mut imports = Vec::new();
        ast.walk(&mut |path: &[ASTNode<'_>]| {
            // an import inside a block ends with the block
            if let [ASTNode::Stmt(Stmt::Import(import, position))] = path
                && let Expr::StringConstant(module, _) = &import.0
            {
                imports.push((module.to_string(), import.1.name.to_string(), *position));
            }
            true
        });
        let rhai = &mut self.engine.rhai;
        for (module, alias, position) in imports {
            // resolves from the cache, since the line has just run
            if let Ok(module) = rhai.module_resolver().resolve(rhai, None, &module, position) {
                rhai.register_static_module(alias, module);
            }
        }
    }

    /// The variables of the session; of several with one name only the latest.
    #[must_use]
    pub fn variables(&self) -> Vec<Variable> {
        let mut all: Vec<Variable> = Vec::new();
        for (name, _, value) in self.scope.iter().skip(self.standard) {
            all.retain(|known| known.name != name);
            all.push(Variable {
                name: name.to_owned(),
                kind: self.engine.type_name(&value),
                value,
            });
        }
        all
    }

    /// Signatures of the functions that the session defines, such as `note(l, n)`.
    #[must_use]
    pub fn functions(&self) -> Vec<String> {
        self.functions
            .iter_functions()
            .map(|f| format!("{}({})", f.name, f.params.join(", ")))
            .collect()
    }

    /// The lines that succeeded so far, as a script that does the same.
    ///
    /// # Errors
    /// [`Cause::Syntax`](crate::Cause::Syntax): the lines do not compile as one script.
    pub fn script(&self) -> Result<String, ScriptError> {
        // of several definitions of a function only the last one counts
        let is_replaced = |at: usize, line: &SuccessfulLine| {
            let later = |function| {
                self.history[at + 1..].iter().any(|other| other.defines.contains(function))
            };
            line.is_definition && !line.defines.is_empty() && line.defines.iter().all(later)
        };
        let statement = |line: &SuccessfulLine| {
            let text = &line.text;
            // a semicolon after a comment would be part of the comment
            let end = if text.contains("//") { "\n;" } else { ";" };
            format!("{text}{}\n", if line.is_definition || text.ends_with(';') { "" } else { end })
        };
        let kept = self.history.iter().enumerate().filter(|(at, line)| !is_replaced(*at, line));
        let text: String = kept.map(|(_, line)| statement(line)).collect();
        self.engine.compile(NAME, &text, &ImportRoot::Directory(PathBuf::from(".")))?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cause, Limits, ScriptContext};

    fn session() -> InteractiveSession {
        InteractiveSession::new(Engine::new(ScriptContext::compute_only(), Limits::operator()))
    }

    fn say(session: &mut InteractiveSession, line: &str) -> Result<ScriptOutcome, ScriptError> {
        session.eval(line, &CancelToken::new())
    }

    #[test]
    fn functions_and_variables_stay_and_statements_do_not_run_again() {
        let mut session = session();
        say(&mut session, "let log = [];").unwrap();
        say(&mut session, "fn note(l, n) { l.push(n); l }\nlog = note(log, 1);").unwrap();
        say(&mut session, "log = note(log, 2);").unwrap();
        assert_eq!(say(&mut session, "log.len()").unwrap().value.as_int(), Ok(2));
        let names: Vec<String> = session.variables().into_iter().map(|v| v.name).collect();
        assert_eq!(
            (names, session.functions()),
            (vec!["log".to_owned()], vec!["note(l, n)".to_owned()])
        );
    }

    #[test]
    fn an_error_keeps_the_session_and_shows_the_line_that_it_is_in() {
        let mut session = session();
        say(&mut session, "let x = 1;").unwrap();
        say(&mut session, "fn bad() {\n    throw \"oh\"\n}").unwrap();
        let error = say(&mut session, "let y = 2; bad();").unwrap_err();
        assert_eq!(
            (error.cause, error.place.unwrap().text.as_str()),
            (Cause::Throw, "    throw \"oh\"")
        );
        let error = say(&mut session, "let z = ;").unwrap_err();
        assert_eq!((error.cause, error.place.unwrap().text.as_str()), (Cause::Syntax, "let z = ;"));
        assert!(say(&mut session, "y").is_err(), "what failed defined nothing");
        assert_eq!(say(&mut session, "x").unwrap().value.as_int(), Ok(1));
    }

    #[test]
    fn an_import_stays() {
        let mut session = session();
        say(&mut session, "import \"screen\" as screen;").unwrap();
        assert_eq!(
            say(&mut session, "screen::cell(())").unwrap().value.into_string().as_deref(),
            Ok("-")
        );
        say(&mut session, "fn dash() { screen::cell(()) }").unwrap();
        assert_eq!(say(&mut session, "dash()").unwrap().value.into_string().as_deref(), Ok("-"));
        assert!(session.script().unwrap().starts_with("import"));
    }

    #[test]
    fn a_session_becomes_a_script_that_does_the_same() {
        let mut session = session();
        for line in [
            "let x = 3",
            "fn twice(n) { n * 2 }",
            "x = twice(x)",
            "if x > 5 { x += 1 }",
            "let m = #{ a: 1 }",
            "m.a += x // more",
            "oops(",
            "x",
        ] {
            let _ = say(&mut session, line);
        }
        let text = session.script().unwrap();
        assert!(!text.contains("oops"), "{text}");
        let engine = Engine::new(ScriptContext::compute_only(), Limits::operator());
        let script = engine.compile("saved", &format!("{text}x"), &ImportRoot::None).unwrap();
        assert_eq!(engine.run(&script, &[], &CancelToken::new()).unwrap().value.as_int(), Ok(7));
    }
}
