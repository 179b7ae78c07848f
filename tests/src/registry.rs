//! A real OCI registry with private storage (Debian package docker-registry).

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::{Daemon, free_port};

/// A running registry over plain HTTP, without login.
pub struct Registry {
    _daemon: Daemon,
    directory: TempDir,
    port: u16,
}

impl Registry {
    /// Starts one with empty storage.
    #[must_use]
    pub fn start() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let port = free_port();
        let storage = directory.path().join("storage");
        let conf = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"127.0.0.1:{port}\"}}\n",
            storage.display()
        );
        let path = directory.path().join("config.yml");
        fs::write(&path, conf).expect("the directory is ours");
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&path).stdout(Stdio::null()).stderr(Stdio::null());
        let daemon = Daemon::start(&mut command, port, "docker-registry");
        Self { _daemon: daemon, directory, port }
    }

    /// `127.0.0.1:port`.
    #[must_use]
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The file in which it keeps the blob with digest `hex`.
    #[must_use]
    pub fn blob_file(&self, hex: &str) -> PathBuf {
        let blobs = self.directory.path().join("storage/docker/registry/v2/blobs/sha256");
        blobs.join(&hex[..2]).join(hex).join("data")
    }
}
