//! `bty-web` over HTTP: a module a theme.

mod access;
mod bytes;
mod cache;
mod catalog;
mod chain;
mod command;
mod deploy;
mod events;
mod fleet;
mod full;
mod growing;
mod hostile;
mod machines;
mod package;
mod pages;
mod peer;
mod plans;
mod pxe;
mod site;
mod start;
mod state;
mod strangers;
mod subpath;
mod tftp;
mod upgrade;
