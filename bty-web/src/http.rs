//! HTTP: the router, guards, the JSON API, the pages, and the scripts for machines. Handlers translate between requests and services.

pub mod api;
pub mod bodies;
pub mod connections;
pub mod error;
pub mod extract;
pub mod guard;
pub mod network;
pub mod pxe;
mod rewrite;
pub mod router;
pub mod sendfile;
mod serve_file;
pub mod ui;
