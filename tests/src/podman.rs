//! podman with a storage of its own, and container images of the programs of this tree.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};

use tempfile::TempDir;

use crate::command::{Outcome, bty_path, tool};
use crate::web::web_path;

/// Configuration for systems without systemd, where limits cannot be raised.
const CONF: &str = "[engine]\nruntime = \"runc\"\ncgroup_manager = \"cgroupfs\"\n\
                    events_logger = \"file\"\n\
                    [containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1000:1000\"]\n";

/// Serializes builds, because they share a directory of parts.
static ONE: Mutex<()> = Mutex::new(());
static ARCHIVE: OnceLock<PathBuf> = OnceLock::new();

/// Runs `deploy/images/build` for the architecture of this machine, with the programs that the
/// tests run.
pub fn build(arguments: &[&str]) {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/images/build");
    let (programs, live, out) =
        (web_path(), target().join("media-test"), target().join("images-test"));
    let programs = programs.parent().unwrap().to_str().unwrap();
    let own = [program.to_str().unwrap(), "--arch", "x86_64", "--programs", programs];
    let places = ["--live", live.to_str().unwrap(), "--out", out.to_str().unwrap()];
    tool(&[&own[..], &places, arguments].concat());
}

fn target() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target")
}

/// The archive of container images for the architecture of this machine. Built once.
#[must_use]
pub fn archive() -> &'static Path {
    ARCHIVE.get_or_init(|| {
        build(&[]);
        target()
            .join(format!("images-test/bty-images-x86_64-v{}.tar.zst", env!("CARGO_PKG_VERSION")))
    })
}

/// podman with a storage of its own. Its containers are removed when dropped.
pub struct Podman {
    dir: TempDir,
}

impl Podman {
    /// Creates an empty storage.
    #[must_use]
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        let storage = format!(
            "[storage]\ndriver = \"overlay\"\ngraphroot = \"{}\"\nrunroot = \"{}\"\n",
            at("graph"),
            at("run")
        );
        std::fs::write(at("storage.conf"), storage).unwrap();
        // with a shared directory, the cleanup of another test would lose the state of these
        // containers
        let own =
            CONF.replace("[engine]\n", &format!("[engine]\ntmp_dir = \"{}\"\n", at("libpod")));
        std::fs::write(at("containers.conf"), own).unwrap();
        Self { dir }
    }

    /// A directory that is deleted with the storage.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Creates a storage with the container images of this tree.
    #[must_use]
    pub fn loaded() -> Self {
        let podman = Self::new();
        let _ = podman.run(&["load", "--quiet", "--input", archive().to_str().unwrap()]).expect(0);
        podman
    }

    /// A command that calls podman, set up to use this storage.
    #[must_use]
    pub fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env("CONTAINERS_STORAGE_CONF", self.dir.path().join("storage.conf"));
        command
            .env("CONTAINERS_CONF", self.dir.path().join("containers.conf"))
            .current_dir(self.dir.path());
        command
    }

    /// Runs podman on this storage.
    #[must_use]
    pub fn run(&self, arguments: &[&str]) -> Outcome {
        self.command("podman", arguments)
            .output()
            .expect("the Debian package podman is installed")
            .into()
    }

    /// Runs `bty-lab` without a terminal.
    #[must_use]
    pub fn lab(&self, arguments: &[&str]) -> Outcome {
        self.lab_of(&lab_path(), arguments)
    }

    /// Runs `program` in the place of the `bty-lab` of this build.
    #[must_use]
    pub fn lab_of(&self, program: &Path, arguments: &[&str]) -> Outcome {
        let mut command = self.command(program.to_str().unwrap(), arguments);
        command.stdin(std::process::Stdio::null()).output().unwrap().into()
    }
}

/// Path of the built `bty-lab`.
#[must_use]
pub fn lab_path() -> PathBuf {
    bty_path().with_file_name("bty-lab")
}

/// The version of programs that [`earlier`] writes.
pub const EARLIER: &str = "0.0.0";

/// Writes a copy of a program with an earlier version number: replaces the first bytes of the
/// version wherever they occur. Not more than four bytes, because compilers split such strings into
/// words of four bytes.
pub fn earlier(program: &Path, to: &Path) {
    let (from, new) = (b"0.1.", b"0.0.");
    assert!(
        env!("CARGO_PKG_VERSION").as_bytes().starts_with(from),
        "say here what the versions are"
    );
    let mut bytes = std::fs::read(program).unwrap();
    let found: Vec<usize> = bytes
        .windows(from.len())
        .enumerate()
        .filter(|(_, window)| window == from)
        .map(|(at, _)| at)
        .collect();
    for at in found {
        bytes[at..][..new.len()].copy_from_slice(new);
    }
    std::fs::write(to, bytes).unwrap();
    std::fs::set_permissions(to, program.metadata().unwrap().permissions()).unwrap();
    let said = tool(&[to.to_str().unwrap(), "--version"]);
    assert!(said.trim_end().ends_with(EARLIER), "{said}");
}

impl Default for Podman {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let _ = self.run(&["rm", "--all", "--force", "--time=2"]);
        // unmounts the layers, so that the directory can be deleted
        let _ = self.run(&["unmount", "--all", "--force"]);
        let _ = self.run(&["system", "reset", "--force"]);
    }
}
