//! Stands in for the reader of qcow2 if the feature `qcow2` is off: no image is ever opened.

use crate::extent::ExtentReader;
use crate::read_context::ReadContext;
use crate::source::Source;
use crate::{CancelToken, Result, features};

#[derive(Clone, Debug)]
pub(crate) enum Qcow2 {}

impl Qcow2 {
    pub(crate) fn open(_: &Source, _: &CancelToken) -> Result<Self> {
        Err(features::missing("a qcow2 image", "qcow2"))
    }

    pub(crate) fn virtual_bytes(&self) -> u64 {
        match *self {}
    }

    pub(crate) fn cluster_bytes(&self) -> u64 {
        match *self {}
    }

    pub(crate) fn version(&self) -> u32 {
        match *self {}
    }

    pub(crate) fn compression(&self) -> &'static str {
        match *self {}
    }

    pub(crate) fn extents(&self, _: &Source, _: &ReadContext) -> Result<Box<dyn ExtentReader>> {
        match *self {}
    }

    pub(crate) fn read_at_guest(
        &self,
        _: &Source,
        _: &mut [u8],
        _: u64,
        _: &CancelToken,
    ) -> Result<usize> {
        match *self {}
    }
}
