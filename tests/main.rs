//! Tests of the whole, in one harness: a module a theme.

#![allow(clippy::unwrap_used)]

mod advisories;
mod archives;
mod chain;
mod cli;
mod create;
mod escapes;
mod flash;
mod formats;
mod http;
mod lab;
mod matrix;
mod oci;
mod real;
mod reference;
mod repl;
mod scripts;
mod target;
mod tutorials;
mod web;
mod wizard;
mod wrong_files;
