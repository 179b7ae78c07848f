//! Stands in for the reader of zip archives if the feature `zip` is off: no member is ever found.

use std::io::Read;

use super::Member;
use crate::{CancelToken, Result, Source, features};

#[derive(Clone, Debug)]
pub(super) enum ZipPlace {}

pub(super) fn find(_: &Source, _: Option<&str>, _: &CancelToken) -> Result<Member> {
    Err(features::missing("a zip archive", "zip"))
}

impl ZipPlace {
    pub(super) fn offset(&self) -> u64 {
        match *self {}
    }

    pub(super) fn reader(&self, _: Box<dyn Read + Send>, _: bool, _: &str) -> Box<dyn Read + Send> {
        match *self {}
    }
}
