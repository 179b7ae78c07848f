//! Runs the program of the hook: without a shell, with a time limit, and with bounded output.

use std::fs::File;
use std::io::{self, Read, Seek as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, OFlags, fcntl_getfl, fcntl_setfl, memfd_create};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use crate::domain::power::{OUTPUT_BYTES_MAX, readable};

/// How often to check whether the caller has gone.
const CHECK_INTERVAL: Duration = Duration::from_millis(200);

/// Variables of the server that the program gets. Others are secrets of the server, such as the
/// admin password.
const VARIABLES: [&str; 4] = ["PATH", "HOME", "LANG", "TZ"];

/// Runs `program` with `input` on its stdin, and returns its stdout. Blocks. Kills the program and
/// its children after `timeout`, and when `is_cancelled` becomes true.
///
/// # Errors
/// Why it failed, as the rest of a sentence that begins with the program.
pub(super) fn run(
    program: &Path,
    input: &[u8],
    timeout: Duration,
    is_cancelled: &AtomicBool,
) -> Result<Vec<u8>, String> {
    let mut running =
        RunningProgram::start(program, input).map_err(|e| format!("cannot run: {e}"))?;
    match running.wait(Instant::now() + timeout, is_cancelled) {
        Ok(Some(status)) if status.success() => Ok(running.stdout.bytes),
        Ok(Some(status)) => {
            let said = [&running.stderr, &running.stdout].map(|pipe| readable(&pipe.bytes));
            let said = said.into_iter().find(|text| !text.is_empty()).unwrap_or_default();
            Err(format!("failed ({status}): {said}").trim_end_matches(": ").to_owned())
        }
        Ok(None) => {
            running.kill();
            Err(match is_cancelled.load(Ordering::Relaxed) {
                true => "was killed, because nobody waits for it any more".to_owned(),
                false => format!("did not end within {} s", timeout.as_secs_f32()),
            })
        }
        Err(e) => {
            running.kill();
            Err(format!("cannot be observed: {e}"))
        }
    }
}

struct RunningProgram {
    child: Child,
    stdout: Pipe,
    stderr: Pipe,
}

/// The output of a program, of which only the beginning is kept.
struct Pipe {
    /// `None` once it has ended.
    end: Option<File>,
    bytes: Vec<u8>,
}

impl RunningProgram {
    fn start(program: &Path, input: &[u8]) -> io::Result<Self> {
        let mut command = Command::new(program);
        let variables = VARIABLES.iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
        command.env_clear().envs(variables).current_dir("/").process_group(0);
        // a file, because writing to a pipe would block when the program does not read
        command.stdin(memory_file(input)?).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        Ok(Self {
            child,
            stdout: Pipe::new(stdout.map(OwnedFd::from))?,
            stderr: Pipe::new(stderr.map(OwnedFd::from))?,
        })
    }

    /// Reads the output until the program ends; `None` at the deadline or when it is cancelled.
    fn wait(
        &mut self,
        deadline: Instant,
        is_cancelled: &AtomicBool,
    ) -> io::Result<Option<ExitStatus>> {
        let exit = pidfd_open(Pid::from_child(&self.child), PidfdFlags::empty())?;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || is_cancelled.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let has_ended = self.wait_for_change(&exit, left.min(CHECK_INTERVAL))?;
            self.stdout.drain()?;
            self.stderr.drain()?;
            if has_ended {
                return self.child.wait().map(Some);
            }
        }
    }

    /// Waits for output or the end of the program. Returns true at its end.
    fn wait_for_change(&self, exit: &OwnedFd, at_most: Duration) -> io::Result<bool> {
        let pipes = [&self.stdout.end, &self.stderr.end].into_iter().flatten();
        let mut sources = vec![PollFd::new(exit, PollFlags::IN)];
        sources.extend(pipes.map(|pipe| PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN)));
        let at_most = Timespec::try_from(at_most).map_err(io::Error::other)?;
        match poll(&mut sources, Some(&at_most)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
        Ok(sources[0].revents().contains(PollFlags::IN))
    }

    /// Kills the program and the processes that it has started.
    fn kill(&mut self) {
        // it has not been waited for, so that its number belongs to no other process
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.wait();
    }
}

impl Pipe {
    fn new(end: Option<OwnedFd>) -> io::Result<Self> {
        let end = end.map(File::from);
        if let Some(end) = &end {
            fcntl_setfl(end, fcntl_getfl(end)? | OFlags::NONBLOCK)?;
        }
        Ok(Self { end, bytes: Vec::new() })
    }

    /// Reads what is available. Keeps the first [`OUTPUT_BYTES_MAX`].
    fn drain(&mut self) -> io::Result<()> {
        let mut chunk = [0; 4096];
        while let Some(end) = &mut self.end {
            match end.read(&mut chunk) {
                Ok(0) => self.end = None,
                Ok(len) => {
                    let room = OUTPUT_BYTES_MAX.saturating_sub(self.bytes.len());
                    self.bytes.extend_from_slice(&chunk[..len.min(room)]);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

fn memory_file(contents: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create("power", MemfdFlags::CLOEXEC)?);
    file.write_all(contents)?;
    file.rewind()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a shell with `script` on its stdin.
    fn shell(script: &str, timeout: Duration) -> Result<String, String> {
        let output = run(Path::new("/bin/sh"), script.as_bytes(), timeout, &AtomicBool::new(false));
        output.map(|bytes| String::from_utf8(bytes).unwrap())
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_program_answers_or_says_why_it_failed() {
        assert_eq!(shell("echo on; echo ignored >&2", LONG).unwrap(), "on\n");
        let error = shell("echo said; echo no such BMC >&2; exit 3", LONG).unwrap_err();
        assert_eq!(error, "failed (exit status: 3): no such BMC");
        assert_eq!(shell("exit 1", LONG).unwrap_err(), "failed (exit status: 1)");
        let gone = run(Path::new("/gone"), b"", LONG, &AtomicBool::new(false)).unwrap_err();
        assert!(gone.starts_with("cannot run: No such file"), "{gone}");
    }

    #[test]
    fn a_program_that_does_not_end_is_killed() {
        let error = shell("sleep 1000", Duration::from_millis(100)).unwrap_err();
        assert_eq!(error, "did not end within 0.1 s");
    }

    /// Waits until `found` finds something.
    fn eventually<T>(mut found: impl FnMut() -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            if let Some(found) = found() {
                return found;
            }
            assert!(begun.elapsed() < LONG);
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_program_that_nobody_waits_for_is_killed_with_its_children() {
        let dir = tempfile::tempdir().unwrap();
        let pid_file = dir.path().join("pid");
        let script = format!("sleep 1000 & echo $!. >{}; wait", pid_file.display());
        let cancelled = AtomicBool::new(false);
        let (pid, result) = std::thread::scope(|scope| {
            let running =
                scope.spawn(|| run(Path::new("/bin/sh"), script.as_bytes(), LONG, &cancelled));
            let pid = eventually(|| {
                let text = std::fs::read_to_string(&pid_file).ok()?;
                text.trim().strip_suffix('.').map(str::to_owned)
            });
            cancelled.store(true, Ordering::Relaxed);
            (pid, running.join().unwrap())
        });
        assert!(result.unwrap_err().contains("nobody waits"));
        eventually(|| match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
            Ok(stat) => (stat.contains(") Z ") || stat.contains(") X ")).then_some(()),
            Err(_) => Some(()),
        });
    }

    #[test]
    fn a_process_that_outlives_the_program_delays_nothing() {
        assert_eq!(shell("sleep 5 & echo on", LONG).unwrap(), "on\n");
    }

    #[test]
    fn long_output_is_read_to_its_end_and_cut() {
        let output = shell("head -c 1000000 /dev/zero | tr '\\0' x", LONG).unwrap();
        assert_eq!(output.len(), OUTPUT_BYTES_MAX);
    }

    #[test]
    fn a_program_sees_no_variables_of_the_server() {
        let names = shell("env | cut -d= -f1", LONG).unwrap();
        let own = ["PWD", "SHLVL", "_", "OLDPWD"];
        let foreign = names.lines().filter(|name| !VARIABLES.contains(name) && !own.contains(name));
        assert_eq!(foreign.collect::<Vec<_>>(), [""; 0]);
    }
}
