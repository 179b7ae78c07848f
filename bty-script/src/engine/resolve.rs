//! `import`: only below a given root, and from what is bundled.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rhai::{Engine, EvalAltResult, Module, ModuleResolver, Position, Scope};

use crate::context::ScriptContext;
use crate::error::{HostError, Sources, raise};
use crate::scripts;

/// Where `import` looks.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Root {
    /// Nowhere: importing is refused.
    None,
    /// In the bundled scripts.
    Bundled,
    /// Below this directory, then in the bundled scripts: an own copy of a flow goes before the
    /// bundled one.
    Directory(PathBuf),
}

/// Finds and compiles modules for the script that runs at the moment.
#[derive(Clone)]
pub(super) struct Resolver(Arc<Shared>);

struct Shared {
    host: ScriptContext,
    sources: Sources,
    now: Mutex<Imports>,
}

/// What the running script has imported so far.
struct Imports {
    root: Root,
    /// Compiled modules; `None` while one is being compiled, to notice a circle.
    modules: HashMap<String, Option<Arc<Module>>>,
}

impl Resolver {
    pub(super) fn new(host: ScriptContext, sources: Sources) -> Self {
        let now = Mutex::new(Imports { root: Root::None, modules: HashMap::new() });
        Self(Arc::new(Shared { host, sources, now }))
    }

    /// Another script begins, whose imports are looked up in `root`.
    pub(super) fn begin(&self, root: &Root) {
        *self.now() = Imports { root: root.clone(), modules: HashMap::new() };
    }

    fn now(&self) -> MutexGuard<'_, Imports> {
        self.0.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn compile(&self, engine: &Engine, path: &str) -> Result<Arc<Module>, Fault> {
        let root = self.now().root.clone();
        let (file, text) = root.find(path).map_err(Fault::Host)?;
        self.0.sources.add(&file, &text);
        let failed = |e: Box<EvalAltResult>| Fault::Script(file.clone(), e);
        let scope: Scope<'_> = super::standard_scope(&self.0.host, &[]);
        let mut ast = engine
            .compile_with_scope(&super::names_to_compile_with(), &text)
            .map_err(|e| failed(EvalAltResult::from(e).into()))?;
        ast.set_source(file.as_str());
        Module::eval_ast_as_new(scope, &ast, engine).map(Arc::new).map_err(failed)
    }
}

enum Fault {
    Host(HostError),
    Script(String, Box<EvalAltResult>),
}

impl Root {
    /// File name and text of the module `path`.
    pub(crate) fn find(&self, path: &str) -> Result<(String, String), HostError> {
        let refused = |why: &str| HostError::usage(format!("cannot import {path:?}: {why}"));
        let bundled = || scripts::text(path).map(|text| (format!("{path}.rhai"), text.to_owned()));
        match self {
            Self::None => Err(refused("nothing can be imported here")),
            Self::Bundled => bundled().ok_or_else(|| refused("there is no such bundled script")),
            Self::Directory(root) => match below(root, path).map_err(|why| refused(&why))? {
                Some(file) => {
                    let text =
                        std::fs::read_to_string(&file).map_err(|e| refused(&e.to_string()))?;
                    Ok((file.display().to_string(), text))
                }
                None => bundled().ok_or_else(|| {
                    refused(&format!(
                        "{path}.rhai is not in {}, and nothing of that name is bundled",
                        root.display()
                    ))
                }),
            },
        }
    }
}

/// The file of module `path` below `root`; `None` when there is none.
fn below(root: &Path, path: &str) -> Result<Option<PathBuf>, String> {
    let asked = Path::new(path);
    if asked.components().any(|c| !matches!(c, std::path::Component::Normal(_))) {
        return Err("only names below the directory of the script can be imported".into());
    }
    let mut file = root.join(asked).into_os_string();
    file.push(".rhai");
    let file = PathBuf::from(file);
    if !file.is_file() {
        return Ok(None);
    }
    // a symbolic link may lead out of the root
    let (real_root, real_file) = (root.canonicalize(), file.canonicalize());
    match (real_root, real_file) {
        (Ok(root), Ok(real)) if real.starts_with(&root) => Ok(Some(file)),
        _ => Err("it leads out of the directory of the script".into()),
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
        match self.now().modules.get(path) {
            Some(Some(module)) => return Ok(Arc::clone(module)),
            Some(None) => {
                let message = format!("{path:?} is imported while it is being imported: a circle");
                return Err(at(HostError::usage(message)));
            }
            None => {}
        }
        self.now().modules.insert(path.to_owned(), None);
        let compiled = self.compile(engine, path);
        self.now().modules.insert(path.to_owned(), compiled.as_ref().ok().cloned());
        if compiled.is_err() {
            self.now().modules.remove(path);
        }
        compiled.map_err(|fault| match fault {
            Fault::Host(error) => at(error),
            Fault::Script(file, error) => {
                EvalAltResult::ErrorInModule(file, error, position).into()
            }
        })
    }
}
