//! The database: the only module that contains SQL, one file per table. Functions take a
//! [`Connection`], so several calls can share one transaction.

pub mod access;
pub mod cache;
pub mod catalog;
pub mod database;
mod error;
pub mod events;
pub mod machines;
pub mod plans;
pub mod reference;
mod schema;
pub mod settings;
mod time;

pub use database::{Connection, Database, EventSink, Transaction};

/// Returns a pattern for `LIKE … ESCAPE '\'` that matches `text` anywhere in a column.
fn anywhere(text: &str) -> String {
    let mut pattern = String::from("%");
    for c in text.chars() {
        if matches!(c, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern.push('%');
    pattern
}
