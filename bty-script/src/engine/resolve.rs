//! Resolves `import`: only below one directory, and among the bundled scripts.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rhai::{Engine, EvalAltResult, Module, ModuleResolver, Position, Scope};

use super::caught::CatchVariables;
use crate::bundled;
use crate::context::ScriptContext;
use crate::error::{HostError, Sources, raise};

/// Where `import` looks for scripts.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ImportRoot {
    /// Nowhere: every import fails.
    None,
    /// Only among the [bundled scripts](crate::bundled).
    Bundled,
    /// In this directory and below, then among the bundled scripts, so that a changed copy of a
    /// bundled script is used instead of the original.
    Directory(PathBuf),
}

/// Finds and compiles modules for the script that the engine is running.
#[derive(Clone)]
pub(super) struct Resolver(Arc<ResolverState>);

struct ResolverState {
    context: ScriptContext,
    sources: Sources,
    caught: CatchVariables,
    imports: Mutex<Imports>,
}

/// The imports of the running script so far.
struct Imports {
    root: ImportRoot,
    /// Compiled modules; `None` while one compiles, to detect import cycles.
    modules: HashMap<String, Option<Arc<Module>>>,
}

impl Resolver {
    pub(super) fn new(context: ScriptContext, sources: Sources, caught: CatchVariables) -> Self {
        let imports = Mutex::new(Imports { root: ImportRoot::None, modules: HashMap::new() });
        Self(Arc::new(ResolverState { context, sources, caught, imports }))
    }

    /// Forgets the imports of the previous script; the next one looks in `root`.
    pub(super) fn begin(&self, root: &ImportRoot) {
        *self.imports() = Imports { root: root.clone(), modules: HashMap::new() };
    }

    fn imports(&self) -> MutexGuard<'_, Imports> {
        self.0.imports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn compile(&self, engine: &Engine, path: &str) -> Result<Arc<Module>, ImportError> {
        let root = self.imports().root.clone();
        let (file, text) = root.find(path).map_err(ImportError::Host)?;
        self.0.sources.add(&file, &text);
        let failed = |e: Box<EvalAltResult>| ImportError::Script(file.clone(), e);
        let scope: Scope<'_> = super::standard_scope(&self.0.context, &[]);
        let mut ast = engine
            .compile_with_scope(&super::names_to_compile_with(), &text)
            .map_err(|e| failed(EvalAltResult::from(e).into()))?;
        ast.set_source(file.as_str());
        self.0.caught.note(&ast);
        Module::eval_ast_as_new(scope, &ast, engine).map(Arc::new).map_err(failed)
    }
}

enum ImportError {
    Host(HostError),
    Script(String, Box<EvalAltResult>),
}

impl ImportRoot {
    /// File name and text of the module that `import "path"` means.
    pub(crate) fn find(&self, path: &str) -> Result<(String, String), HostError> {
        let refused = |why: &str| HostError::usage(format!("cannot import {path:?}: {why}"));
        let bundled = || bundled::text(path).map(|text| (format!("{path}.rhai"), text.to_owned()));
        match self {
            Self::None => Err(refused("this script may not import anything")),
            Self::Bundled => {
                bundled().ok_or_else(|| refused("there is no bundled script of that name"))
            }
            Self::Directory(root) => match module_file(root, path).map_err(|why| refused(&why))? {
                Some(file) => {
                    let text =
                        std::fs::read_to_string(&file).map_err(|e| refused(&e.to_string()))?;
                    Ok((file.display().to_string(), text))
                }
                None => bundled().ok_or_else(|| {
                    refused(&format!(
                        "{path}.rhai is not in {}, and there is no bundled script of that name",
                        root.display()
                    ))
                }),
            },
        }
    }
}

/// The file of module `path` below `root`; `None` if it does not exist.
fn module_file(root: &Path, path: &str) -> Result<Option<PathBuf>, String> {
    let relative = Path::new(path);
    if relative.components().any(|c| !matches!(c, std::path::Component::Normal(_))) {
        return Err("scripts can import only from their own directory and below".into());
    }
    let mut file = root.join(relative).into_os_string();
    file.push(".rhai");
    let file = PathBuf::from(file);
    if !file.is_file() {
        return Ok(None);
    }
    // a symbolic link may point outside the root
    let (real_root, real_file) = (root.canonicalize(), file.canonicalize());
    match (real_root, real_file) {
        (Ok(root), Ok(real)) if real.starts_with(&root) => Ok(Some(file)),
        _ => Err("it is a link to a file outside the directory of the script".into()),
    }
}

impl ModuleResolver for Resolver {
    fn resolve(
        &self,
        engine: &Engine,
        _source: Option<&str>,
        path: &str,
        position: Position,
    ) -> Result<Arc<Module>, Box<EvalAltResult>> {
        let at = |error: HostError| {
            let mut error = raise(error);
            error.set_position(position);
            error
        };
        match self.imports().modules.get(path) {
            Some(Some(module)) => return Ok(Arc::clone(module)),
            Some(None) => {
                let message =
                    format!("cannot import {path:?}: it imports itself through other modules");
                return Err(at(HostError::usage(message)));
            }
            None => {}
        }
        self.imports().modules.insert(path.to_owned(), None);
        let compiled = self.compile(engine, path);
        self.imports().modules.insert(path.to_owned(), compiled.as_ref().ok().cloned());
        if compiled.is_err() {
            self.imports().modules.remove(path);
        }
        compiled.map_err(|error| match error {
            ImportError::Host(error) => at(error),
            ImportError::Script(file, error) => {
                EvalAltResult::ErrorInModule(file, error, position).into()
            }
        })
    }
}
