//! `bty-web` over HTTP: a module a theme.

mod access;
mod catalog;
mod chain;
mod events;
mod fleet;
mod hostile;
mod machines;
mod plans;
mod pxe;
mod state;
