//! Use cases: what the server does for its pages, its API and its machines. Services know the
//! domain and the store, but not HTTP.

pub mod app;
pub mod auth;
pub mod catalog;
pub mod event_bus;
pub mod image_route;
pub mod jobs;
pub mod machines;
pub mod metrics;
pub mod netboot;
pub mod orders;
pub mod rates;
pub mod simulations;
pub mod snapshot;
pub mod transfer;
