//! Finds mistakes in a script without running it: calls of unknown functions or with a wrong number
//! of arguments, failing imports, comparisons that always fail, unknown fields of bty's types, and
//! unknown options.
//!
//! ```
//! use bty_script::check::check;
//! use bty_script::{Engine, ImportRoot, Limits, ScriptContext};
//!
//! let engine = Engine::new(ScriptContext::compute_only(), Limits::operator());
//! let script = engine.compile("a.rhai", "disks::by_serail(\"S1\")", &ImportRoot::None)?;
//! let findings = check(&engine, &script);
//! assert_eq!(findings[0].message, "there is no function disks::by_serail");
//! assert_eq!(findings[0].hint.as_deref(), Some("did you mean by_serial?"));
//! # Ok::<(), bty_script::ScriptError>(())
//! ```

use std::collections::HashMap;

use rhai::{AST, ASTNode, Expr, Position, Stmt};
use serde::Serialize;

use crate::engine::{Engine, ImportRoot, Script};
use crate::error::{Place, ScriptError};
use crate::reference::{self, Function, FunctionKind};

mod properties;
mod types;

/// A mistake in a script.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// One sentence without a full stop.
    pub message: String,
    /// How to fix it, if known.
    pub hint: Option<String>,
    /// Where it is; `None` for the script as a whole.
    pub place: Option<Place>,
}

impl Finding {
    /// A finding about a script as a whole.
    #[must_use]
    pub fn new(message: impl Into<String>, hint: Option<String>) -> Self {
        Self { message: message.into(), hint, place: None }
    }
}

impl From<ScriptError> for Finding {
    fn from(error: ScriptError) -> Self {
        Self { message: error.message, hint: error.hint, place: error.place }
    }
}

/// Checks `script` and the scripts that it imports. Findings are sorted: those of `script` first,
/// then by file and place.
#[must_use]
pub fn check(engine: &Engine, script: &Script) -> Vec<Finding> {
    let mut checker = Checker {
        engine,
        known: reference::functions(engine),
        findings: Vec::new(),
        seen: Vec::new(),
    };
    checker.file(&script.ast, script.name(), script.root());
    // rhai keeps functions in no particular order
    checker.findings.sort_by_key(|finding| {
        let place = finding.place.as_ref();
        place.map(|p| (p.file != script.name(), p.file.clone(), p.line, p.column))
    });
    // nodes of the syntax tree that contain each other report the same mistake
    checker.findings.dedup();
    checker.findings
}

struct Checker<'a> {
    engine: &'a Engine,
    known: Vec<Function>,
    findings: Vec<Finding>,
    seen: Vec<String>,
}

/// Functions of a module: name and number of parameters.
type Exports = Vec<(String, usize)>;

impl Checker<'_> {
    fn file(&mut self, ast: &AST, file: &str, root: &ImportRoot) {
        self.seen.push(file.to_owned());
        let own: Exports =
            ast.iter_functions().map(|f| (f.name.to_owned(), f.params.len())).collect();
        let imports = self.imports(ast, file, root);
        let mut calls = Vec::new();
        ast.walk(&mut |path: &[ASTNode<'_>]| {
            let call = match path.last() {
                Some(
                    ASTNode::Expr(Expr::FnCall(call, position))
                    | ASTNode::Stmt(Stmt::FnCall(call, position)),
                ) => Some((call, false, *position)),
                Some(ASTNode::Expr(Expr::MethodCall(call, position))) => {
                    Some((call, true, *position))
                }
                _ => None,
            };
            if let Some((call, is_method, position)) =
                call.filter(|(call, ..)| call.op_token.is_none())
            {
                let namespace = call
                    .namespace
                    .path
                    .iter()
                    .map(rhai::Ident::as_str)
                    .collect::<Vec<_>>()
                    .join("::");
                calls.push((
                    namespace,
                    call.name.to_string(),
                    call.args.len(),
                    is_method,
                    position,
                ));
            }
            true
        });
        self.comparisons(ast, file);
        for mistake in properties::find(ast, &self.known) {
            self.add_finding(mistake.message, mistake.hint, file, mistake.position);
        }
        for (namespace, name, args, is_method, position) in calls {
            let finding = match imports.get(&namespace) {
                _ if name.starts_with("anon$") => None,
                Some(None) => None,
                Some(Some(exports)) => check_imported_call(exports, &namespace, &name, args),
                None => self.check_call(&own, &namespace, &name, args, is_method),
            };
            if let Some((message, hint)) = finding {
                self.add_finding(message, hint, file, position);
            }
        }
    }

    /// Finds comparisons that always fail or are never true.
    fn comparisons(&mut self, ast: &AST, file: &str) {
        let mut mismatches = Vec::new();
        ast.walk(&mut |path: &[ASTNode<'_>]| {
            let found = match path.last() {
                Some(
                    ASTNode::Expr(Expr::FnCall(call, at)) | ASTNode::Stmt(Stmt::FnCall(call, at)),
                ) => types::comparison(call, &self.known).map(|found| (found, *at)),
                Some(ASTNode::Stmt(Stmt::Switch(switch, at))) => {
                    types::switch(&switch.0, &self.known).map(|found| (found, *at))
                }
                _ => None,
            };
            mismatches.extend(found);
            true
        });
        for ((message, hint), position) in mismatches {
            self.add_finding(message, hint, file, position);
        }
    }

    fn add_finding(
        &mut self,
        message: String,
        hint: Option<String>,
        file: &str,
        position: Position,
    ) {
        let place = self.engine.sources.place(file, position);
        self.findings.push(Finding { message, hint, place });
    }

    /// The modules that `ast` imports, by alias; `None` for modules that could not be compiled or
    /// whose name is computed.
    fn imports(
        &mut self,
        ast: &AST,
        file: &str,
        root: &ImportRoot,
    ) -> HashMap<String, Option<Exports>> {
        let mut found = Vec::new();
        ast.walk(&mut |path: &[ASTNode<'_>]| {
            if let Some(ASTNode::Stmt(Stmt::Import(import, position))) = path.last() {
                let name = match &import.0 {
                    Expr::StringConstant(name, _) => Some(name.to_string()),
                    _ => None,
                };
                found.push((name, import.1.name.to_string(), *position));
            }
            true
        });
        let mut imports = HashMap::new();
        for (name, alias, position) in found {
            let exports = name.and_then(|name| self.module(&name, file, root, position));
            imports.insert(alias, exports);
        }
        imports
    }

    fn module(
        &mut self,
        name: &str,
        file: &str,
        root: &ImportRoot,
        position: Position,
    ) -> Option<Exports> {
        let (path, text) = match root.find(name) {
            Ok(found) => found,
            Err(error) => {
                self.add_finding(error.message, error.hint, file, position);
                return None;
            }
        };
        match self.engine.compile(&path, &text, root) {
            Ok(script) => {
                if !self.seen.contains(&path) {
                    self.file(&script.ast, &path, root);
                }
                Some(
                    script
                        .ast
                        .iter_functions()
                        .map(|f| (f.name.to_owned(), f.params.len()))
                        .collect(),
                )
            }
            Err(error) => {
                self.findings.push(error.into());
                None
            }
        }
    }

    /// The finding about a call of one of bty's functions or of the script itself, if it is wrong.
    fn check_call(
        &self,
        own: &Exports,
        namespace: &str,
        name: &str,
        args: usize,
        is_method: bool,
    ) -> Option<(String, Option<String>)> {
        if !namespace.is_empty() && !self.known.iter().any(|f| f.module == namespace) {
            let modules = self.known.iter().map(|f| f.module.as_str());
            return Some((
                format!("there is no module {namespace}"),
                did_you_mean(namespace, modules),
            ));
        }
        // built-in functions of rhai that accept any number of arguments
        const BUILT_IN: [&str; 9] = [
            "call",
            "curry",
            "Fn",
            "is_def_fn",
            "is_def_var",
            "is_shared",
            "type_of",
            "print",
            "debug",
        ];
        if namespace.is_empty() && BUILT_IN.contains(&name) {
            return None;
        }
        let is_callable = |f: &&Function| match namespace {
            "" => {
                f.kind != FunctionKind::Field
                    && (f.module.is_empty() || f.kind == FunctionKind::Method)
            }
            _ => f.module == namespace && f.kind == FunctionKind::Function,
        };
        let mut arities: Vec<usize> = self
            .known
            .iter()
            .filter(is_callable)
            .filter(|f| f.name == name)
            .map(|f| f.params.len())
            .collect();
        let given = args + usize::from(is_method);
        if namespace.is_empty() {
            // a function of a script that is called as a method gets the object as `this`
            let own = own.iter().filter(|(known, _)| known == name);
            arities.extend(own.map(|(_, arity)| arity + usize::from(is_method)));
        }
        if arities.contains(&given) {
            return None;
        }
        let shown =
            if namespace.is_empty() { name.to_owned() } else { format!("{namespace}::{name}") };
        if arities.is_empty() {
            let names = self.known.iter().filter(is_callable).map(|f| f.name.as_str());
            let names = names
                .chain(own.iter().filter(|_| namespace.is_empty()).map(|(name, _)| name.as_str()));
            return Some((format!("there is no function {shown}"), did_you_mean(name, names)));
        }
        Some(wrong_count(
            &shown,
            args,
            arities.into_iter().map(|n| n - usize::from(is_method && n > 0)).collect(),
        ))
    }
}

fn check_imported_call(
    exports: &Exports,
    namespace: &str,
    name: &str,
    args: usize,
) -> Option<(String, Option<String>)> {
    let arities: Vec<usize> =
        exports.iter().filter(|(known, _)| known == name).map(|(_, arity)| *arity).collect();
    if arities.contains(&args) {
        return None;
    }
    let shown = format!("{namespace}::{name}");
    if arities.is_empty() {
        return Some((
            format!("there is no function {shown}"),
            did_you_mean(name, exports.iter().map(|(name, _)| name.as_str())),
        ));
    }
    Some(wrong_count(&shown, args, arities))
}

fn did_you_mean<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<String> {
    reference::closest(name, names).map(|name| format!("did you mean {name}?"))
}

fn wrong_count(shown: &str, given: usize, mut arities: Vec<usize>) -> (String, Option<String>) {
    arities.sort_unstable();
    arities.dedup();
    let counts: Vec<String> = arities.iter().map(ToString::to_string).collect();
    let expected = match counts.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    };
    let message =
        format!("wrong number of arguments for {shown}: expected {expected}, got {given}");
    (message, None)
}

#[cfg(test)]
mod tests;
