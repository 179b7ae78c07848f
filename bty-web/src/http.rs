//! HTTP: the router, guards, the JSON API, the pages, and the scripts for machines. Handlers translate between requests and services.

pub mod api;
pub mod bodies;
pub mod conditional;
pub mod connections;
pub mod extract;
pub mod guard;
pub mod network;
pub mod pxe;
mod rewrite;
pub mod router;
mod serve_file;
mod site;
pub mod ui;
