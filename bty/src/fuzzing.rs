//! Doors for the fuzz targets in `fuzz/`, built only by cargo-fuzz. No part of the API.

use std::io::{self, Read};

use crate::decode::{Compression, DecodeOptions, SNIFF_BYTES, decoder};

/// Decodes foreign bytes in whatever format they look like, as far as 64 MiB.
pub fn decode(data: &[u8]) {
    let Some(compression) = Compression::sniff(&data[..data.len().min(SNIFF_BYTES)]) else { return };
    let options = DecodeOptions { threads: 2, memory_bytes: 64 << 20 };
    if let Ok(reader) = decoder(compression, Box::new(io::Cursor::new(data.to_vec())), options) {
        let _ = io::copy(&mut reader.take(64 << 20), &mut io::sink());
    }
}
