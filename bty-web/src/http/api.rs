//! The JSON API.

pub(crate) mod access;
pub(crate) mod bulk;
pub(crate) mod cache;
pub(crate) mod catalog;
pub(crate) mod events;
pub(crate) mod health;
pub(crate) mod jobs;
mod machine_body;
pub(crate) mod machine_cards;
pub(crate) mod machine_list;
pub(crate) mod machines;
pub(crate) mod plans;
pub(crate) mod power;
pub(crate) mod settings;
pub(crate) mod transfer;
pub(crate) mod webhooks;
