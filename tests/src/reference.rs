//! The reference server, in the virtual environment that `tests/reference/setup.sh` creates.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::{Daemon, command, free_port};

/// A running reference server with a state of its own.
pub struct Reference {
    _daemon: Daemon,
    state: TempDir,
    port: u16,
}

impl Reference {
    /// Starts the server; `None` unless these tests were requested by `make test-reference`.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn start() -> Option<Self> {
        let Some(venv) = std::env::var_os("BTY_TEST_REFERENCE").map(PathBuf::from) else {
            eprintln!("skipped: make test-reference runs it");
            return None;
        };
        let state = tempfile::tempdir().expect("a temporary directory can be made");
        let port = free_port();
        let mut server = Command::new(venv.join("bin/bty-web"));
        server
            .env("BTY_PATHS_STATE_DIR", state.path())
            .env("BTY_SERVER_HOST", "127.0.0.1")
            .env("BTY_SERVER_PORT", port.to_string())
            .env("BTY_ADMIN_PASSWORD", "secret")
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let daemon = Daemon::start(&mut server, port, "python3-venv");
        let reference = Self { _daemon: daemon, state, port };
        let _ = reference.curl(&["--data", "password=secret"], "/ui/login");
        Some(reference)
    }

    /// Address for URLs: `127.0.0.1:port`.
    #[must_use]
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Path of its SQLite database.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.state.path().join("state.db")
    }

    /// Gets `path` as the operator; null if the response is not JSON.
    #[must_use]
    pub fn get(&self, path: &str) -> Value {
        serde_json::from_str(&self.curl(&[], path)).unwrap_or_default()
    }

    /// Sends a request with a JSON body, and returns the response.
    #[must_use]
    pub fn send(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = body.to_string();
        let arguments =
            ["--request", method, "--header", "content-type: application/json", "--data", &body];
        serde_json::from_str(&self.curl(&arguments, path)).unwrap_or_default()
    }

    /// Kinds of the events of a machine, oldest first.
    ///
    /// # Panics
    /// If the server has no list of events.
    #[must_use]
    pub fn events(&self, mac: &str) -> Vec<String> {
        let events = self.get(&format!("/events?subject_kind=machine&subject_id={mac}&limit=500"));
        let list = events["events"].as_array().expect("a list of events");
        list.iter().rev().filter_map(|event| event["kind"].as_str().map(str::to_owned)).collect()
    }

    fn curl(&self, arguments: &[&str], path: &str) -> String {
        let (cookies, url) = (self.cookies(), format!("http://{}{path}", self.host()));
        let cookies = cookies.to_str().expect("it is text");
        let mut all =
            vec!["curl", "--silent", "--show-error", "--cookie", cookies, "--cookie-jar", cookies];
        all.extend(arguments);
        all.push(&url);
        command::tool(&all)
    }

    fn cookies(&self) -> PathBuf {
        Path::new(self.state.path()).join("cookies")
    }
}
