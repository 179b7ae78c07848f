//! Tests of the whole, in one harness: a module a theme.

#![allow(clippy::unwrap_used)]

mod flash;
mod http;
mod oci;
