//! The real bty-web server with a state directory of its own, and a plain HTTP client.

use std::io::{Read, Seek as _, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::{LIMIT, command, eventually, free_port};

/// A `bty-web` process with a state directory of its own. Both end with it.
pub struct Web {
    child: Option<Child>,
    state: TempDir,
    port: u16,
    env: Vec<(String, String)>,
    arguments: Vec<String>,
    /// Headers that are sent with every request.
    pub headers: Vec<(String, String)>,
}

/// The response of a server.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status code.
    pub status: u16,
    /// Headers, with names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, decoded from chunks.
    pub body: Vec<u8>,
}

impl Answer {
    /// The value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; null if it is not JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// Returns the response if its status is `status`.
    ///
    /// # Panics
    /// If its status is another.
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text().chars().take(2000).collect::<String>());
        self
    }
}

/// Path of the built server.
#[must_use]
pub fn web_path() -> PathBuf {
    command::bty_path().with_file_name("bty-web")
}

impl Web {
    /// Starts a server without a password.
    #[must_use]
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// Starts a server with environment variables.
    #[must_use]
    pub fn with(env: &[(&str, &str)]) -> Self {
        Self::at(free_port(), env)
    }

    /// Starts a server that listens on `port`, in a network namespace where that port is free.
    #[must_use]
    pub fn at(port: u16, env: &[(&str, &str)]) -> Self {
        let state = tempfile::tempdir().expect("a temporary directory can be made");
        let env =
            env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut web =
            Self { child: None, state, port, env, headers: Vec::new(), arguments: Vec::new() };
        web.launch();
        web
    }

    /// A server whose `state.db` was created by `sql`. It is not started: call
    /// [`start_again`](Self::start_again).
    ///
    /// # Panics
    /// If the database cannot be created.
    #[must_use]
    pub fn idle(sql: Option<&Path>, env: &[(&str, &str)]) -> Self {
        let state = tempfile::tempdir().expect("a temporary directory can be made");
        if let Some(sql) = sql {
            let database = state.path().join("state.db");
            command::tool(&[
                "sqlite3",
                "-bail",
                &database.to_string_lossy(),
                &format!(".read {}", sql.display()),
            ]);
        }
        let env =
            env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self {
            child: None,
            state,
            port: free_port(),
            env,
            headers: Vec::new(),
            arguments: Vec::new(),
        }
    }

    /// Starts a cache host that may access loopback addresses, with further arguments.
    #[must_use]
    pub fn cache(arguments: &[&str], env: &[(&str, &str)]) -> Self {
        let mut web = Self::idle_cache(arguments, env);
        web.launch();
        web
    }

    /// A cache host that is not started: call [`start_again`](Self::start_again).
    #[must_use]
    pub fn idle_cache(arguments: &[&str], env: &[(&str, &str)]) -> Self {
        let state = tempfile::tempdir().expect("a temporary directory can be made");
        let port = free_port();
        let dir = state.path().to_string_lossy().into_owned();
        let listen = format!("127.0.0.1:{port}");
        let own = ["cache", "--data-dir", &dir, "--listen", &listen];
        let arguments = own.iter().chain(arguments).map(|text| (*text).to_owned()).collect();
        let reach = ("BTY_CACHE_REACH", "127.0.0.0/8");
        let env = [reach]
            .iter()
            .chain(env)
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        Self { child: None, state, port, env, headers: Vec::new(), arguments }
    }

    /// Starts a server with a copy of a database.
    ///
    /// # Panics
    /// If the database cannot be copied.
    #[must_use]
    pub fn with_state_of(database: &Path) -> Self {
        let state = tempfile::tempdir().expect("a temporary directory can be made");
        std::fs::copy(database, state.path().join("state.db")).expect("the database can be copied");
        let mut web = Self {
            child: None,
            state,
            port: free_port(),
            env: Vec::new(),
            headers: Vec::new(),
            arguments: Vec::new(),
        };
        web.launch();
        web
    }

    /// A `bty-web` command that uses the state of this server.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(web_path());
        command.args(arguments);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("BTY_PATHS_STATE_DIR", self.state.path())
            // ignore a server that is installed on this machine
            .env("BTY_ENV_FILE", "")
            .env("BTY_SERVER_HOST", "127.0.0.1")
            .env("BTY_SERVER_PORT", self.port.to_string())
            .env("BTY_WEB_SERVER", self.base())
            .envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs a server that must refuse to start, and returns its error message.
    ///
    /// # Panics
    /// If it starts, exits with another code than 1, or prints no message.
    #[must_use]
    pub fn refuses(&self, command: &mut Command) -> String {
        let mut log = tempfile::tempfile().expect("a temporary file can be made");
        let stderr = log.try_clone().expect("a file can be shared");
        let child =
            command.stdout(Stdio::null()).stderr(stderr).spawn().expect("bty-web was built");
        let mut running = Running(child);
        let mut said = String::new();
        let begun = Instant::now();
        let status = eventually(LIMIT, "bty-web refuses to serve and ends", || {
            let status = running.0.try_wait().expect("it was started");
            if status.is_none() && begun.elapsed() < LIMIT {
                return None;
            }
            said.clear();
            log.rewind().and_then(|()| log.read_to_string(&mut said)).expect("the log is text");
            if status.is_none() {
                eprintln!("bty-web serves:\n{said}");
            }
            status
        });
        assert_eq!(status.code(), Some(1), "{said}");
        let mut lines = said.lines().filter(|line| line.starts_with("bty-web: "));
        let line = lines.next().unwrap_or_else(|| panic!("nothing is told: {said}")).to_owned();
        assert!(
            said.ends_with(&format!("{line}\n")),
            "it is the last that is said, in one line: {said}"
        );
        line
    }

    fn launch(&mut self) {
        let log =
            std::fs::File::create(self.state.path().join("log")).expect("the state can be written");
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        let mut command = self.command(&arguments);
        let child = command.stdout(Stdio::null()).stderr(log).spawn();
        self.child = Some(child.expect("bty-web was built: cargo build --workspace"));
        eventually(LIMIT, "bty-web listens", || {
            let child = self.child.as_mut().expect("it was just started");
            // another process may be listening on its port
            assert!(child.try_wait().expect("it was started").is_none(), "bty-web has ended");
            TcpStream::connect(("127.0.0.1", self.port)).ok()
        });
        // the server listens before it opens its state, but answers only afterwards
        let answer = self.raw(b"GET /healthz HTTP/1.0\r\n\r\n");
        assert!(answer.starts_with(b"HTTP/1."), "bty-web does not answer");
    }

    /// Its log since it was started.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.state.path().join("log")).unwrap_or_default()
    }

    /// Path of the server's state directory.
    #[must_use]
    pub fn state(&self) -> &Path {
        self.state.path()
    }

    /// URL without a path: `http://127.0.0.1:port`.
    #[must_use]
    pub fn base(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The port on which it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Process id.
    ///
    /// # Panics
    /// If it is not running.
    #[must_use]
    pub fn process(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// Kills the server, like a power cut.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Stops the server by a signal, and returns how long that took.
    ///
    /// # Panics
    /// If it does not exit with code 0.
    pub fn end(&mut self) -> Duration {
        let begun = Instant::now();
        if let Some(mut child) = self.child.take() {
            // the shell's built-in: the program is not installed everywhere
            command::tool(&["sh", "-c", &format!("kill -TERM {}", child.id())]);
            let status = child.wait().expect("it was started");
            assert!(status.success(), "{status}\n{}", self.log());
        }
        begun.elapsed()
    }

    /// Kills the server, and starts it again with the same state.
    pub fn restart(&mut self) {
        self.kill();
        self.launch();
    }

    /// Starts the server after [`end`](Self::end) or [`kill`](Self::kill).
    pub fn start_again(&mut self) {
        self.launch();
    }

    /// Sends bytes, and returns what the server sends until it closes the connection.
    #[must_use]
    pub fn raw(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("it listens");
        stream.set_read_timeout(Some(LIMIT)).expect("it is a socket");
        // the server may answer and close before it has read everything
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let mut chunk = [0; 65536];
        while let Ok(len @ 1..) = stream.read(&mut chunk) {
            answer.extend_from_slice(&chunk[..len]);
        }
        answer
    }

    /// Sends a request.
    ///
    /// # Panics
    /// If the response is not HTTP.
    #[must_use]
    pub fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n",
            body.len()
        );
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            head += &format!("Host: 127.0.0.1:{}\r\n", self.port);
        }
        let own = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in own.chain(headers.iter().copied()) {
            head += &format!("{name}: {value}\r\n");
        }
        let mut bytes = (head + "\r\n").into_bytes();
        bytes.extend_from_slice(body);
        parse(&self.raw(&bytes))
    }

    /// Sends a GET request for `path`.
    #[must_use]
    pub fn get(&self, path: &str) -> Answer {
        self.request("GET", path, &[], b"")
    }

    /// Sends JSON to `path`.
    #[must_use]
    pub fn send(&self, method: &str, path: &str, json: &Value) -> Answer {
        self.request(
            method,
            path,
            &[("Content-Type", "application/json")],
            json.to_string().as_bytes(),
        )
    }

    /// Kinds of the events about a subject, oldest first.
    #[must_use]
    pub fn events(&self, subject: &str) -> Vec<String> {
        let listed =
            self.get(&format!("/events?limit=500&subject_id={subject}")).expect(200).json();
        let kinds = listed["events"].as_array().into_iter().flatten().rev();
        kinds.filter_map(|event| event["kind"].as_str().map(str::to_owned)).collect()
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("log of bty-web on port {}:\n{}", self.port, self.log());
        }
    }
}

/// A process. Killed when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // both fail only if the process has exited
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn parse(bytes: &[u8]) -> Answer {
    let shown = || String::from_utf8_lossy(bytes).into_owned();
    let end = bytes
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap_or_else(|| panic!("no HTTP: {:?}", shown()));
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
    let headers = lines.filter_map(|line| line.split_once(':'));
    let headers: Vec<(String, String)> =
        headers.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect();
    let is_chunked =
        headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked");
    let body = &bytes[end + 4..];
    let body = if is_chunked { unchunk(body) } else { body.to_vec() };
    Answer { status: status.unwrap_or_else(|| panic!("no HTTP: {:?}", shown())), headers, body }
}

fn unchunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = bytes.windows(2).position(|two| two == b"\r\n") {
        let size = usize::from_str_radix(&String::from_utf8_lossy(&bytes[..end]), 16).unwrap_or(0);
        let Some(chunk) = bytes.get(end + 2..end + 2 + size) else { break };
        body.extend_from_slice(chunk);
        bytes = bytes.get(end + 4 + size..).unwrap_or_default();
    }
    body
}
