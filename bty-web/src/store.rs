//! The database: the only module that contains SQL, one file per table. Functions take a
//! [`Connection`], so several calls can share one transaction.

pub mod access;
pub mod cache;
pub mod catalog;
mod connection;
pub mod database;
mod error;
pub mod events;
pub mod machines;
pub mod plans;
pub mod reference;
mod schema;
pub mod search;
pub mod settings;
mod time;
pub mod users;
pub mod webhooks;

pub use connection::Connection;
pub use database::{Database, Transaction};
