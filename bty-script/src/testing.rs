//! `bty test`: runs the functions `test_…` of `*_test.rhai` files.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bty::{CancelToken, Error, ErrorKind, Result};
use serde::Serialize;

use crate::api::test::TEST_DIR;
use crate::context::{Capabilities, Capability, ScriptContext};
use crate::engine::{Engine, Limits};
use crate::error::{Cause, ScriptError};
use crate::world::World;

/// How long one test may take.
const TIME: Duration = Duration::from_secs(60);

/// The outcome of one test.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct TestResult {
    /// The file.
    pub file: PathBuf,
    /// The function; empty when the file as a whole is wrong.
    pub name: String,
    /// Why it failed; absent when it passed.
    pub failure: Option<serde_json::Value>,
    /// The failure as people read it.
    #[serde(skip)]
    pub text: Option<String>,
}

impl TestResult {
    /// True when it passed.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.failure.is_none()
    }

    fn new(file: &Path, name: &str, result: std::result::Result<(), ScriptError>) -> Self {
        let error = result.err();
        let text = error.as_ref().map(|error| match &error.hint {
            Some(hint) => format!("{error}\n next: {hint}"),
            None => error.to_string(),
        });
        Self {
            file: file.to_owned(),
            name: name.to_owned(),
            failure: error.map(|e| e.to_json()),
            text,
        }
    }
}

/// The test files in `dir` and below it, sorted; `dir` may also be one file.
///
/// # Errors
/// [`ErrorKind::Usage`] when it cannot be read, or there is no test.
pub fn find(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let failed = |path: &Path, e: std::io::Error| {
        Error::new(ErrorKind::Usage, format!("listing {}", path.display())).because(e)
    };
    if dir.is_file() {
        return Ok(vec![dir.to_owned()]);
    }
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).map_err(|e| failed(&dir, e))? {
            let path = entry.map_err(|e| failed(&dir, e))?.path();
            let is_link = path.is_symlink();
            if path.is_dir() && !is_link {
                dirs.push(path);
            } else if path.to_string_lossy().ends_with("_test.rhai") {
                files.push(path);
            }
        }
    }
    files.sort();
    if files.is_empty() {
        let message = format!("no test is in {}", dir.display());
        return Err(
            Error::new(ErrorKind::Usage, message).hint("name test files something_test.rhai")
        );
    }
    Ok(files)
}

/// Runs all tests of one file. `told` hears of each as it ends.
pub fn run_file(file: &Path, cancel: &CancelToken, told: &mut dyn FnMut(TestResult)) {
    // a test only reads: what it runs acts on described machines
    let dir = file.parent().unwrap_or(Path::new("")).display().to_string();
    let host = ScriptContext::new(Capabilities::NONE.with(Capability::Read), World::nothing());
    let host = host.with_facts([(TEST_DIR, dir.into())]);
    let engine = Engine::new(host, Limits::operator().with_time(Some(TIME)));
    let script = match engine.compile_file(file) {
        Ok(script) => script,
        Err(error) => return told(TestResult::new(file, "", Err(error))),
    };
    let mut names = script.plain_functions();
    names.retain(|name| name.starts_with("test_"));
    names.sort();
    if names.is_empty() {
        let mut error = ScriptError::new(Cause::Script, "the file has no test");
        error.hint = Some("write tests as fn test_something() { … }".into());
        return told(TestResult::new(file, "", Err(error)));
    }
    for name in names {
        let result = engine.call(&script, &name, Vec::new(), cancel).map(drop);
        told(TestResult::new(file, &name, result));
        if cancel.is_cancelled() {
            return;
        }
    }
}
