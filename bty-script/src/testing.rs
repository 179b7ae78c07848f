//! Tests of scripts: simulated machines, and the functions `test_…` in `*_test.rhai` files.
//!
//! A Rust test runs a script on a machine that a text describes, and looks at what the script did:
//!
//! ```
//! use bty_script::testing::{Effect, SimulatedWorld};
//! use bty_script::{Capabilities, Engine, ImportRoot, Limits, ScriptContext};
//!
//! let machine = r#"
//!     images = [{ src = "a.img", disk_size = "1G" }]
//!     disks = [{ path = "/dev/sda", size = "8G", serial = "S1" }]
//! "#;
//! let (world, effects, terminal) = SimulatedWorld::parse(machine)?;
//! let engine = Engine::new(ScriptContext::new(Capabilities::all(), world), Limits::operator());
//! let text = r#"print("flashing"); flash("a.img", "serial:S1")"#;
//! let script = engine.compile("rack.rhai", text, &ImportRoot::None)?;
//! engine.run(&script, &[], &Default::default())?;
//! assert_eq!(terminal.printed(), ["flashing"]);
//! assert!(matches!(&effects.list()[..], [Effect::Flash { image, .. }] if image == "a.img"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Tests written in rhai do the same with `test::run`. `bty test` runs them; if the scripts call
//! functions of a program, that program runs them with a [`TestRunner`]. The page
//! `docs/reference/scripts.md` describes both, and the format of simulated machines.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bty::{CancelToken, Error, ErrorKind, Result};
use serde::Serialize;

use crate::api::test::TEST_DIR;
use crate::context::{Capabilities, Capability, ScriptContext};
use crate::engine::{Engine, Limits};
use crate::error::{Cause, HostError, ScriptError};
use crate::host_function::HostFunction;
use crate::world::World;

pub use crate::terminal::ScriptedTerminal;
pub use crate::world::{Effect, EffectLog, SimulatedWorld};

/// Time limit of one test.
const TIME: Duration = Duration::from_secs(60);

/// The result of one test.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct TestResult {
    /// Path of the test file.
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

/// Runs test files.
///
/// ```
/// use bty_script::testing::TestRunner;
/// use bty_script::HostFunction;
///
/// let dir = tempfile::tempdir()?;
/// std::fs::write(dir.path().join("rack.rhai"), "power::set(1, true)")?;
/// let test = r#"fn test_rack() { assert_eq(test::run("rack.rhai", #{}).value, "1: true"); }"#;
/// std::fs::write(dir.path().join("rack_test.rhai"), test)?;
///
/// let fake = HostFunction::new("power::set", |socket: u8, is_on: bool| {
///     Ok(format!("{socket}: {is_on}"))
/// });
/// let runner = TestRunner::new().with_functions([fake])?;
/// let mut results = Vec::new();
/// for file in bty_script::testing::find(dir.path())? {
///     runner.run_file(&file, &Default::default(), &mut |result| results.push(result));
/// }
/// assert!(matches!(&results[..], [one] if one.is_ok()), "{results:?}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default)]
pub struct TestRunner {
    functions: Arc<[HostFunction]>,
}

impl TestRunner {
    /// Runs tests of scripts that call only functions of bty.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets tests, and the scripts that they run, call these functions: those of the program, or
    /// stand-ins that record what a script wants.
    ///
    /// # Errors
    /// Kind `usage`: a name is not an identifier, or its module belongs to bty.
    pub fn with_functions(
        self,
        functions: impl IntoIterator<Item = HostFunction>,
    ) -> std::result::Result<Self, HostError> {
        let functions: Vec<_> = self.functions.iter().cloned().chain(functions).collect();
        Engine::new(ScriptContext::compute_only(), Limits::operator()).add_functions(&functions)?;
        Ok(Self { functions: functions.into() })
    }

    /// Runs all tests of one file, and calls `on_result` after each. Stops early if `cancel` is
    /// cancelled.
    pub fn run_file(
        &self,
        file: &Path,
        cancel: &CancelToken,
        on_result: &mut dyn FnMut(TestResult),
    ) {
        run_file(file, &self.functions, cancel, on_result);
    }
}

fn run_file(
    file: &Path,
    functions: &Arc<[HostFunction]>,
    cancel: &CancelToken,
    on_result: &mut dyn FnMut(TestResult),
) {
    // tests themselves may only read; the scripts they run act on simulated machines
    let dir = file.parent().unwrap_or(Path::new("")).display().to_string();
    let terminal = ScriptedTerminal::default();
    let world = World { terminal: Arc::new(terminal.clone()), ..World::empty() };
    let context = ScriptContext::new(Capabilities::NONE.with(Capability::Read), world);
    let mut context = context.with_facts([(TEST_DIR, dir.into())]);
    context.test_functions = Arc::clone(functions);
    let mut engine = Engine::new(context, Limits::operator().with_time(Some(TIME)));
    let added = engine.add_functions(functions).map_err(ScriptError::from);
    let script = match added.and_then(|()| engine.compile_file(file)) {
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
