//! Scripts for bty: a [rhai](https://rhai.rs/book) engine with functions to flash disks, simulated
//! machines to test scripts on, and the plan scripts that a server gives to machines.
//!
//! An [`Engine`] runs scripts in a [`ScriptContext`], which grants [`Capabilities`] over a
//! [`World`](world::World), within [`Limits`].
//!
//! ```
//! use bty_script::world::SimulatedWorld;
//! use bty_script::{Capabilities, Engine, ImportRoot, Limits, ScriptContext};
//!
//! let machine = r#"disks = [{ path = "/dev/sda", size = "8G", serial = "S1" }]"#;
//! let (world, _effects, _terminal) = SimulatedWorld::parse(machine)?;
//! let engine = Engine::new(ScriptContext::new(Capabilities::all(), world), Limits::operator());
//! let script = engine.compile("first.rhai", "disks()[0].serial", &ImportRoot::None)?;
//! let outcome = engine.run(&script, &[], &Default::default())?;
//! assert_eq!(outcome.value.into_string().as_deref(), Ok("S1"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A program gives functions of its own to scripts with [`HostFunction`]; [`testing`] tests the
//! scripts that call them, without hardware. The scripts' values cross this border as JSON. Where
//! the engine's own values appear, as in [`ScriptOutcome::value`], their types are those of
//! [`rhai`]. It is re-exported, and so is the library [`bty`], whose disks and errors appear too.
//!
//! | module | contents |
//! |---|---|
//! | [`engine`] | compile and run scripts; limits, `import`, interactive sessions |
//! | [`context`] | what a script may do |
//! | [`world`] | what scripts act on: this machine, a dry run, a simulated machine |
//! | [`error`] | failures of host functions and of scripts, with their place in the source |
//! | [`exit_code`] | the exit codes of the `bty` command |
//! | [`plan`] | the plan scripts that a server sends to machines, and the machines' reports |
//! | [`decide`] | calls of a plan's functions by the server |
//! | [`worker`] | the same calls in separate processes with bounded memory |
//! | [`check`] | finds mistakes in a script without running it |
//! | [`reference`](mod@reference) | the function reference, generated from the engine |
//! | [`testing`] | tests of scripts: simulated machines, `*_test.rhai` files |
//! | [`bundled`] | the scripts that are part of bty, such as the wizard |
//! | [`render`] | values as text and tables |
//! | [`terminal`] | shows text to a person and reads their answers |
//!
//! The functions that bty adds to the language are listed in `docs/reference/functions.md`.

pub mod bundled;
pub mod check;
pub mod context;
pub mod decide;
pub mod engine;
pub mod error;
pub mod exit_code;
pub mod plan;
pub mod reference;
pub mod render;
pub mod terminal;
pub mod testing;
pub mod worker;
pub mod world;

mod api;
mod assigned_disk;
mod convert;
mod host_function;
mod library;
mod limits;
mod machine;
mod meter;
mod test_run;

pub use assigned_disk::AssignedDisk;
pub use bty;
pub use context::{Capabilities, Capability, ScriptContext};
pub use convert::Size;
pub use engine::{Engine, ImportRoot, Limits, Script, ScriptOutcome};
pub use error::{Cause, HostError, ScriptError};
pub use host_function::{HostCallback, HostFunction, TypedFunction};
pub use rhai::{self, Dynamic};
