//! Stand-ins for the decoders of formats whose features are off.

#![allow(unused, reason = "a decoder is used from here only if its feature is off")]

use std::io::Read;

use super::{DecodeOptions, Trailer};
use crate::source::ByteSource;
use crate::{CancelToken, Result, features};

macro_rules! absent {
    ($($format:ident),*) => {
        $(pub(super) mod $format {
            use super::*;

            pub(in crate::decode) fn decoder(
                _: Box<dyn Read + Send>,
                _: DecodeOptions,
                _: &Trailer,
            ) -> Result<Box<dyn Read + Send>> {
                Err(features::missing(concat!(stringify!($format), " data"), stringify!($format)))
            }

            pub(in crate::decode) fn decoded_size(
                _: &dyn ByteSource,
                _: &CancelToken,
            ) -> Option<u64> {
                None
            }
        })*
    };
}

absent!(bzip2, lz4, xz);
