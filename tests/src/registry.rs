//! A real OCI registry with private storage (Debian package docker-registry).

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::{Daemon, free_port};

/// A running registry over plain HTTP, without login.
pub struct Registry {
    daemon: Option<Daemon>,
    directory: TempDir,
    port: u16,
}

impl Registry {
    /// Starts a registry with empty storage.
    #[must_use]
    pub fn start() -> Self {
        Self::with(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: /var/lib/docker-registry\n\
             http:\n  addr: 0.0.0.0:5000\n",
        )
    }

    /// Starts a registry with a configuration in which storage and address are replaced.
    ///
    /// # Panics
    /// If the configuration does not contain them.
    #[must_use]
    pub fn with(conf: &str) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let port = free_port();
        let storage = directory.path().join("storage");
        let mut conf = conf.to_owned() + "log: {accesslog: {disabled: false}, level: error}\n";
        for (from, to) in [
            ("/var/lib/docker-registry", storage.display().to_string()),
            ("0.0.0.0:5000", format!("127.0.0.1:{port}")),
        ] {
            assert!(conf.contains(from), "{from} is in {conf}");
            conf = conf.replace(from, &to);
        }
        let path = directory.path().join("config.yml");
        fs::write(&path, conf).expect("the directory is ours");
        let mut command = Command::new("docker-registry");
        let log =
            fs::File::create(directory.path().join("access.log")).expect("the directory is ours");
        command.arg("serve").arg(&path).stdout(log).stderr(Stdio::null());
        let daemon = Daemon::start(&mut command, port, "docker-registry");
        Self { daemon: Some(daemon), directory, port }
    }

    /// Address for URLs and references: `127.0.0.1:port`.
    #[must_use]
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Stops the registry, so that connections to it are refused.
    pub fn end(&mut self) {
        self.daemon = None;
    }

    /// How often the whole blob with digest `hex` was pulled.
    #[must_use]
    pub fn pulls(&self, hex: &str) -> usize {
        let log = fs::read_to_string(self.directory.path().join("access.log")).unwrap_or_default();
        let asked = format!("/blobs/sha256:{hex} HTTP/1.1\" 200 ");
        log.lines().filter(|line| line.contains("\"GET ") && line.contains(&asked)).count()
    }

    /// The file in which the registry stores the blob with digest `hex`.
    #[must_use]
    pub fn blob_file(&self, hex: &str) -> PathBuf {
        let blobs = self.directory.path().join("storage/docker/registry/v2/blobs/sha256");
        blobs.join(&hex[..2]).join(hex).join("data")
    }
}
