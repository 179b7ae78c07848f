//! The init process of the live environment.
//!
//! The kernel starts it as `/init`. As process 1 it does only two things: it reaps exited
//! processes, and it runs [`session`] as a child process. If the session fails or crashes, process
//! 1 survives and opens a shell. If process 1 itself ended, the kernel would panic.

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

mod clock;
mod console;
mod devices;
mod exfat;
mod full;
mod grow;
mod kernel_args;
mod modules;
mod mounts;
mod network;
mod screen;
mod session;
mod ssh;
mod stick;
mod terminal;

/// Exit code of the session when the full environment is mounted at [`full::ROOT`] and process 1
/// should switch to it.
const EXIT_TO_FULL: u8 = 42;

const USAGE: &str =
    "usage: bty-live                   run as the init process of the live environment
       bty-live full              fetch the full environment and switch to it
       bty-live grow DISK         grow the images partition of a stick to the end of the disk
       bty-live fit FILE BYTES    resize an exFAT file system and the file that holds it";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if rustix::process::getpid().is_init() {
        run_init();
    }
    let result = match arguments[..] {
        ["session"] => return session::run().map_or_else(|e| fail(&e), ExitCode::from),
        ["full"] => full::request(),
        ["grow", disk] => grow::grow_partition(Path::new(disk), Path::new("/sys"))
            .map(|outcome| println!("{outcome}")),
        ["fit", file, bytes] => exfat::resize_file(Path::new(file), bytes),
        _ => Err(USAGE.to_owned()),
    };
    result.map_or_else(|e| fail(&e), |()| ExitCode::SUCCESS)
}

fn fail(why: &str) -> ExitCode {
    eprintln!("bty-live: {why}");
    ExitCode::FAILURE
}

/// Runs as process 1: starts a session, and another one whenever it ends.
fn run_init() -> ! {
    let mount_error = mounts::mount_base().err();
    let mut why = mount_error.unwrap_or_else(|| "the live environment has ended".into());
    loop {
        match Command::new("/proc/self/exe").arg("session").spawn() {
            Ok(child) => match reap_until(child.id()) {
                Some(code) if code == i32::from(EXIT_TO_FULL) => why = full::switch(),
                code => why = format!("the live environment has ended ({code:?})"),
            },
            Err(e) => why = format!("cannot start the live environment: {e} ({why})"),
        }
        console::rescue_shell(&why);
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// Reaps every child that exits, orphans included, until `pid` has exited. Returns its exit code,
/// or none if a signal ended it.
fn reap_until(pid: u32) -> Option<i32> {
    let flags = rustix::process::WaitOptions::empty();
    loop {
        match rustix::process::wait(flags) {
            Ok(Some((reaped, status))) if reaped.as_raw_nonzero().get().unsigned_abs() == pid => {
                return status.exit_status();
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return None,
        }
    }
}
