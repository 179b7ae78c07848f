//! A program that gives functions to scripts: they switch the sockets of a power strip. It runs
//! scripts on this machine, and the tests of scripts on simulated ones.
//!
//!     cd examples/script-functions
//!     cargo run -- station.rhai IMAGE DISK SOCKET
//!     cargo run -- --test .

#![allow(clippy::print_stdout)]

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use bty_script::bty::{CancelToken, Client};
use bty_script::terminal::Console;
use bty_script::testing::{self, TestRunner};
use bty_script::world::SystemWorld;
use bty_script::{Capabilities, Engine, HostError, HostFunction, Limits, ScriptContext};

/// What each socket was switched to, in order. A real one would talk to the strip.
type Strip = Arc<Mutex<[Vec<bool>; 8]>>;

fn with_socket<T>(
    strip: &Strip,
    socket: usize,
    work: impl FnOnce(&mut Vec<bool>) -> T,
) -> Result<T, HostError> {
    let mut sockets = strip.lock().unwrap_or_else(PoisonError::into_inner);
    match sockets.get_mut(socket.wrapping_sub(1)) {
        Some(socket) => Ok(work(socket)),
        None => Err(HostError::new("power", format!("the power strip has no socket {socket}"))),
    }
}

fn functions() -> [HostFunction; 2] {
    let strip = Strip::default();
    let read = Arc::clone(&strip);
    let set = move |socket: usize, is_on: bool| with_socket(&strip, socket, |s| s.push(is_on));
    let history = move |socket: usize| with_socket(&read, socket, |socket| socket.clone());
    [HostFunction::new("power::set", set), HostFunction::new("power::history", history)]
}

fn run(script: &str, arguments: &[String]) -> Result<(), Box<dyn Error>> {
    let terminal = Arc::new(Console::new(false));
    let world = SystemWorld::world(Client::default(), terminal, Arc::new(()));
    let context = ScriptContext::new(Capabilities::all(), world);
    let mut engine = Engine::new(context, Limits::operator());
    engine.add_functions(&functions())?;
    let script = engine.compile_file(Path::new(script))?;
    engine.run(&script, arguments, &CancelToken::new())?;
    Ok(())
}

fn test(dir: &str) -> Result<bool, Box<dyn Error>> {
    let runner = TestRunner::new().with_functions(functions())?;
    let mut is_good = true;
    for file in testing::find(Path::new(dir))? {
        runner.run_file(&file, &CancelToken::new(), &mut |result| {
            is_good &= result.is_ok();
            println!("{}: {}", result.name, result.text.as_deref().unwrap_or("ok"));
        });
    }
    Ok(is_good)
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let is_good = match &arguments[..] {
        [flag, dir] if flag == "--test" => test(dir)?,
        [script, arguments @ ..] => run(script, arguments).map(|()| true)?,
        [] => return Err("usage: script-functions SCRIPT ARGUMENT… | --test DIR".into()),
    };
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
