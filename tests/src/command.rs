//! Runs the `bty` command and other programs until they exit.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// Output and exit code of a program.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Exit code; -1 if a signal ended it.
    pub code: i32,
    /// Everything it printed to stdout.
    pub stdout: String,
    /// Everything it printed to stderr.
    pub stderr: String,
}

impl Outcome {
    /// Parses its stdout as one JSON object per line.
    #[must_use]
    pub fn json(&self) -> Vec<Value> {
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e} in {line:?}"));
        self.stdout.lines().map(parse).collect()
    }

    /// The last JSON object on its stdout.
    #[must_use]
    pub fn last(&self) -> Value {
        self.json().pop().unwrap_or_else(|| panic!("nothing on stdout: {}", self.stderr))
    }

    /// Returns it if the exit code is `code`; panics with all of its output otherwise.
    #[must_use]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }
}

impl From<Output> for Outcome {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Writes an executable script for a test.
///
/// A child process writes the file: otherwise a child that a concurrent test starts could inherit
/// the open file, and a file that is open for writing cannot be executed ("Text file busy").
///
/// # Panics
/// If it cannot be written.
pub fn write_program(path: &Path, text: &str) {
    let mut writer = Command::new("sh")
        .args(["-c", "cat > \"$0\" && chmod 755 \"$0\""])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .expect("every system has sh");
    writer.stdin.take().expect("it is a pipe").write_all(text.as_bytes()).expect("sh reads it");
    assert!(
        writer.wait().expect("it was started").success(),
        "{} cannot be written",
        path.display()
    );
}

/// Path of the built `bty` command, in the parent directory of the test binary.
///
/// # Panics
/// If it was not built: cargo builds it automatically only for tests of its own package.
#[must_use]
pub fn bty_path() -> PathBuf {
    let test = std::env::current_exe().expect("the system tells");
    let path = test.ancestors().nth(2).expect("target/debug/deps/tests").join("bty");
    assert!(path.exists(), "{} is missing: run `cargo build` first", path.display());
    path
}

/// The `bty` command, without variables of the environment that it reads, and without a terminal.
#[must_use]
pub fn bty_command(arguments: &[&str]) -> Command {
    let mut command = Command::new(bty_path());
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    for name in ["http_proxy", "https_proxy", "no_proxy", "NO_COLOR", "COLUMNS"] {
        command.env_remove(name).env_remove(name.to_uppercase());
    }
    command
}

/// Runs `bty` until it exits.
#[must_use]
pub fn bty(arguments: &[&str]) -> Outcome {
    bty_command(arguments).output().expect("it was built").into()
}

/// Runs another program and returns its stdout.
///
/// # Panics
/// If it is missing or fails.
pub fn tool(command: &[&str]) -> String {
    let output = Command::new(command[0]).args(&command[1..]).output();
    let outcome = Outcome::from(output.unwrap_or_else(|e| panic!("{}: {e}", command[0])));
    assert_eq!(outcome.code, 0, "{command:?}: {}{}", outcome.stdout, outcome.stderr);
    outcome.stdout
}

/// Runs `bty` on a pseudo-terminal and types `typed` at its prompt. `stdout` has everything that
/// the terminal shows.
///
/// # Panics
/// If it does not exit within 30 seconds.
#[must_use]
pub fn bty_on_terminal(arguments: &[&str], typed: &str, variables: &[(&str, &str)]) -> Outcome {
    let mut words = vec![bty_path().display().to_string()];
    words.extend(arguments.iter().map(|a| format!("'{a}'")));
    let mut script = Command::new("timeout");
    script.args([
        "--foreground",
        "30",
        "script",
        "--quiet",
        "--return",
        "--command",
        &words.join(" "),
        "/dev/null",
    ]);
    for (name, value) in bty_command(&[]).get_envs() {
        assert!(value.is_none(), "{} is set", name.display());
        script.env_remove(name);
    }
    script.env("TERM", "xterm-256color").envs(variables.iter().copied());
    let mut child = script
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("timeout and script (packages coreutils and bsdutils) are installed");
    let mut keyboard = child.stdin.take().expect("it is piped");
    let mut screen = child.stdout.take().expect("it is piped");
    let (mut shown, mut chunk, mut typed) = (Vec::new(), [0; 4096], Some(typed));
    while let Ok(len @ 1..) = screen.read(&mut chunk) {
        shown.extend_from_slice(&chunk[..len]);
        if typed.is_some() && String::from_utf8_lossy(&shown).contains("Type ") {
            let typed = typed.take().expect("it was there a line ago");
            keyboard.write_all(typed.as_bytes()).expect("somebody waits for it");
        }
    }
    let status = child.wait().expect("it was started");
    assert_ne!(status.code(), Some(124), "it did not end: {}", String::from_utf8_lossy(&shown));
    Output { status, stdout: shown, stderr: Vec::new() }.into()
}
