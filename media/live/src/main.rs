//! The first process of the live environment.
//!
//! The kernel starts it as `/init`. It stays process 1 and does only two things: it takes leave of
//! processes that have ended, and it starts [`manager`] as a process of its own. Whatever goes
//! wrong there ends at a shell and not in a kernel that has lost its first process.

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

mod clock;
mod console;
mod devices;
mod exfat;
mod full;
mod grow;
mod manager;
mod modules;
mod mounts;
mod network;
mod screen;
mod ssh;
mod stick;
mod terminal;
mod words;

/// The manager ends with it when the full environment stands ready below [`full::ROOT`].
const TO_FULL: u8 = 42;

const USAGE: &str = "usage: bty-live              the first process of the live environment
       bty-live full         go on with the full environment, which is fetched
       bty-live grow DISK    let the images partition of a stick reach the end of the disk
       bty-live fit FILE BYTES    let an exFAT file system have another size";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    if rustix::process::getpid().is_init() {
        stay();
    }
    let done = match words[..] {
        ["manage"] => return manager::run().map_or_else(|e| fail(&e), ExitCode::from),
        ["full"] => full::ask(),
        ["grow", disk] => {
            grow::disk(Path::new(disk), Path::new("/sys")).map(|grown| println!("{grown}"))
        }
        ["fit", file, bytes] => exfat::fit_file(Path::new(file), bytes),
        _ => Err(USAGE.to_owned()),
    };
    done.map_or_else(|e| fail(&e), |()| ExitCode::SUCCESS)
}

fn fail(why: &str) -> ExitCode {
    eprintln!("bty-live: {why}");
    ExitCode::FAILURE
}

/// Process 1. It never returns.
fn stay() -> ! {
    let trouble = mounts::first().err();
    let mut why = trouble.unwrap_or_else(|| "the live environment has ended".into());
    loop {
        match Command::new("/proc/self/exe").arg("manage").spawn() {
            Ok(child) => match reap(child.id()) {
                Some(code) if code == i32::from(TO_FULL) => why = full::switch(),
                code => why = format!("the live environment has ended ({code:?})"),
            },
            Err(e) => why = format!("the live environment cannot be started: {e} ({why})"),
        }
        console::last_resort(&why);
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// Takes leave of every process that ends, until it is `wanted`; gives its exit code.
fn reap(wanted: u32) -> Option<i32> {
    let flags = rustix::process::WaitOptions::empty();
    loop {
        match rustix::process::wait(flags) {
            Ok(Some((pid, status))) if pid.as_raw_nonzero().get().unsigned_abs() == wanted => {
                return status.exit_status();
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return None,
        }
    }
}
