//! HTTP: routes and middleware, the JSON API, the pages, and the scripts for machines. Handlers
//! translate between requests and services.

pub mod api;
pub mod bodies;
pub mod client_address;
pub mod connections;
pub mod error;
pub mod extract;
pub mod guard;
mod middleware;
pub mod pxe;
mod rewrite;
pub mod router;
mod serve_file;
mod site;
pub mod state;
pub mod ui;
