//! `bty-web` over HTTP: a module a theme.

mod access;
mod catalog;
mod events;
mod hostile;
mod machines;
mod plans;
mod pxe;
mod state;
