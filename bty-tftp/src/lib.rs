#![doc = include_str!("../README.md")]

mod packet;
mod server;
mod transfer;

pub use async_io::block_on;
pub use packet::Refusal;
pub use server::{BootFile, Handler, Options, serve};
