//! Runs the functions `test_…` in `*_test.rhai` files, for `bty test`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bty::{CancelToken, Error, ErrorKind, Result};
use serde::Serialize;

use crate::api::test::TEST_DIR;
use crate::context::{Capabilities, Capability, ScriptContext};
use crate::engine::{Engine, Limits};
use crate::error::{Cause, ScriptError};
use crate::terminal::ScriptedTerminal;
use crate::world::World;

/// Time limit of one test.
const TIME: Duration = Duration::from_secs(60);

/// The result of one test.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct TestResult {
    /// The test file.
    pub file: PathBuf,
    /// Name of the function; empty if the whole file failed, for example to compile.
    pub name: String,
    /// Why the test failed, in the form of [`ScriptError::to_json`]; `None` if it passed.
    pub failure: Option<serde_json::Value>,
    /// The lines that the test itself printed.
    pub printed: Vec<String>,
    /// The failure as text, with place and hint.
    #[serde(skip)]
    pub text: Option<String>,
}

impl TestResult {
    /// True if the test passed.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.failure.is_none()
    }

    fn new(
        file: &Path,
        name: &str,
        result: std::result::Result<(), ScriptError>,
        printed: Vec<String>,
    ) -> Self {
        let error = result.err();
        let text = error.as_ref().map(|error| match &error.hint {
            Some(hint) => format!("{error}\n next: {hint}"),
            None => error.to_string(),
        });
        Self {
            file: file.to_owned(),
            name: name.to_owned(),
            failure: error.map(|e| e.to_json()),
            printed,
            text,
        }
    }
}

/// Finds the test files in `dir` and below, sorted by path. If `dir` is a file, returns only it.
///
/// # Errors
/// [`ErrorKind::Usage`]: a directory cannot be read, or there is no test file.
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
        let message = format!("no test files in {}", dir.display());
        return Err(
            Error::new(ErrorKind::Usage, message).hint("names of test files end in _test.rhai")
        );
    }
    Ok(files)
}

/// Runs all tests of one file, and calls `on_result` after each. Stops early if `cancel` is
/// cancelled.
pub fn run_file(file: &Path, cancel: &CancelToken, on_result: &mut dyn FnMut(TestResult)) {
    // tests themselves may only read; the scripts they run act on simulated machines
    let dir = file.parent().unwrap_or(Path::new("")).display().to_string();
    let terminal = ScriptedTerminal::default();
    let world = World { terminal: Arc::new(terminal.clone()), ..World::empty() };
    let context = ScriptContext::new(Capabilities::NONE.with(Capability::Read), world);
    let context = context.with_facts([(TEST_DIR, dir.into())]);
    let engine = Engine::new(context, Limits::operator().with_time(Some(TIME)));
    let script = match engine.compile_file(file) {
        Ok(script) => script,
        Err(error) => return on_result(TestResult::new(file, "", Err(error), Vec::new())),
    };
    let mut names = script.functions_without_parameters();
    names.retain(|name| name.starts_with("test_"));
    names.sort();
    if names.is_empty() {
        let mut error = ScriptError::new(Cause::Script, "the file has no tests");
        error.hint = Some("write tests as fn test_something() { … }".into());
        return on_result(TestResult::new(file, "", Err(error), Vec::new()));
    }
    for name in names {
        let result = engine.call(&script, &name, Vec::new(), cancel).map(drop);
        on_result(TestResult::new(file, &name, result, terminal.take_transcript()));
        if cancel.is_cancelled() {
            return;
        }
    }
}
