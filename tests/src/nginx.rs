//! A real nginx with a private configuration (Debian package nginx-light).

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::{Daemon, free_port};

/// A running nginx that serves a directory of its own.
pub struct Nginx {
    _daemon: Daemon,
    directory: TempDir,
    port: u16,
    scheme: &'static str,
}

impl Nginx {
    /// Starts nginx with plain HTTP; `settings` go into its `server` block.
    #[must_use]
    pub fn start(settings: &str) -> Self {
        Self::start_in(
            tempfile::tempdir().expect("a temporary directory can be made"),
            settings,
            "http",
        )
    }

    /// Starts nginx with a certificate for `localhost`, signed by a new CA:
    /// [`ca_file`](Self::ca_file).
    #[must_use]
    pub fn start_tls() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        make_certificates(directory.path());
        Self::start_in(
            directory,
            "ssl_certificate server.pem; ssl_certificate_key server.key;",
            "https",
        )
    }

    /// Starts nginx with a self-signed certificate for `localhost`, as `openssl req -x509` makes
    /// it. [`ca_file`](Self::ca_file) is that certificate.
    #[must_use]
    pub fn start_self_signed() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        make_self_signed(directory.path());
        Self::start_in(directory, "ssl_certificate ca.pem; ssl_certificate_key ca.key;", "https")
    }

    /// Starts nginx with `conf`, a file for `conf.d`, of which one server listens with TLS at
    /// `port`. `CERTIFICATE` and `KEY` in `conf` are replaced by those for `localhost`.
    #[must_use]
    pub fn with_servers(conf: &str, port: u16) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        make_certificates(directory.path());
        let conf = conf.replace("CERTIFICATE", "server.pem").replace("KEY", "server.key");
        Self::launch(directory, &conf, port, "https")
    }

    fn start_in(directory: TempDir, settings: &str, scheme: &'static str) -> Self {
        let port = free_port();
        let root = directory.path().join("root");
        fs::create_dir(&root).expect("the directory is new");
        let ssl = if scheme == "https" { " ssl" } else { "" };
        let servers = format!("server {{ listen 127.0.0.1:{port}{ssl}; root root; {settings} }}");
        Self::launch(directory, &servers, port, scheme)
    }

    fn launch(directory: TempDir, servers: &str, port: u16, scheme: &'static str) -> Self {
        let mut conf =
            String::from("worker_processes 1; master_process off; daemon off; pid nginx.pid;\n");
        conf.push_str(
            "error_log stderr crit; events { worker_connections 64; }\nhttp { access_log off;\n",
        );
        for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
            writeln!(conf, "{kind}_temp_path tmp;").expect("a string takes all");
        }
        writeln!(conf, "{servers} }}").expect("a string takes all");
        fs::write(directory.path().join("nginx.conf"), conf).expect("the directory is ours");
        let mut command = Command::new("/usr/sbin/nginx");
        command
            .arg("-p")
            .arg(directory.path())
            .args(["-c", "nginx.conf", "-e", "stderr"])
            .stdout(Stdio::null());
        let daemon = Daemon::start(&mut command, port, "nginx-light");
        Self { _daemon: daemon, directory, port, scheme }
    }

    /// Serves `bytes` as `name`, and returns the URL.
    #[must_use]
    pub fn put(&self, name: &str, bytes: &[u8]) -> String {
        fs::write(self.directory.path().join("root").join(name), bytes)
            .expect("the directory is ours");
        format!("{}/{name}", self.base())
    }

    /// The URL of its root, without a trailing slash.
    #[must_use]
    pub fn base(&self) -> String {
        let host = if self.scheme == "https" { "localhost" } else { "127.0.0.1" };
        format!("{}://{host}:{}", self.scheme, self.port)
    }

    /// Writes `bytes` to a file `name` in the directory of its configuration.
    pub fn set(&self, name: &str, bytes: &[u8]) {
        fs::write(self.directory.path().join(name), bytes).expect("the directory is ours");
    }

    /// The certificate of its CA.
    #[must_use]
    pub fn ca_file(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }
}

/// An elliptic-curve key, which is fast to generate.
const KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";

fn openssl(directory: &Path, arguments: &str) {
    let output = Command::new("openssl").args(arguments.split(' ')).current_dir(directory).output();
    let output = output.expect("the Debian package openssl is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn make_self_signed(directory: &Path) {
    let subject = "-subj /CN=localhost -addext subjectAltName=DNS:localhost";
    openssl(directory, &format!("req -x509 {KEY} -keyout ca.key -out ca.pem -days 2 {subject}"));
}

fn make_certificates(directory: &Path) {
    let openssl = |arguments: &str| openssl(directory, arguments);
    let key = KEY;
    openssl(&format!(
        "req -x509 {key} -keyout ca.key -out ca.pem -days 2 -subj /CN=test-authority"
    ));
    openssl(&format!("req {key} -keyout server.key -out server.csr -subj /CN=localhost"));
    fs::write(directory.join("ext"), "subjectAltName=DNS:localhost\n")
        .expect("the directory is ours");
    openssl(
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out server.pem \
         -days 2 -extfile ext",
    );
}
