//! Scripts over bty: the rhai engine with the SDK's modules, simulated machines, and plan scripts.
//!
//! [`Engine`] runs scripts for a [`ScriptContext`]: a set of [`Capabilities`] over a
//! [`World`](world::World), within [`Limits`].
//!
//! | module | what it is about |
//! |---|---|
//! | [`engine`] | compile and run, limits, `import` |
//! | [`context`] | what a script may do |
//! | [`world`] | what it does it to: this machine, a dry run, a described machine |
//! | [`error`] | failures: the host's, the script's, and where they happened |
//! | [`plan`] | plan scripts: what a server gives to a machine |
//! | [`decide`] | what a server asks of a plan |
//! | [`worker`] | scripts in a process of their own, whose memory is no matter |
//! | [`check`] | what is wrong with a script, without running it |
//! | [`reference`](mod@reference) | the functions, for people and for editors, made from the engine |
//! | [`testing`] | `*_test.rhai` |
//! | [`scripts`] | the scripts in the box |
//! | [`render`] | values as text and tables |
//! | [`terminal`] | the person |
//!
//! The language is described at <https://rhai.rs/book>; what bty adds is in `docs/reference/scripts.md`.

pub mod check;
pub mod context;
pub mod decide;
pub mod engine;
pub mod error;
pub mod plan;
pub mod reference;
pub mod render;
pub mod scripts;
pub mod terminal;
pub mod testing;
pub mod worker;
pub mod world;

mod api;
mod convert;

pub use context::{Capabilities, Capability, ScriptContext};
pub use convert::Size;
pub use engine::{Ended, Engine, Limits, Root, Script};
pub use error::{Cause, HostError, ScriptError};
