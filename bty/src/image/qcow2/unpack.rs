//! Compressed clusters.

use flate2::{Decompress, FlushDecompress, Status};
use zstd::zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer, ResetDirective};

use super::header::ClusterCompression;
use crate::{Error, ErrorKind, Result};

/// Maximum window of a zstd frame, as a power of two: that of the highest regular level. Limits the
/// memory of one decoder.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// Decompresses clusters one by one. Reused, because its setup costs more than a small cluster.
pub(super) enum Unpacker {
    Zlib(Box<Decompress>),
    Zstd(DCtx<'static>),
}

impl Unpacker {
    pub(super) fn new(compression: ClusterCompression) -> Result<Self> {
        match compression {
            // raw deflate with the largest window, which also reads smaller ones; QEMU writes 4 KiB
            ClusterCompression::Zlib => Ok(Self::Zlib(Box::new(Decompress::new(false)))),
            ClusterCompression::Zstd => {
                let no_memory = |_| Error::new(ErrorKind::Host, "setting up a zstd decoder");
                let mut context = DCtx::try_create().ok_or(0).map_err(no_memory)?;
                context
                    .set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX))
                    .map_err(no_memory)?;
                Ok(Self::Zstd(context))
            }
        }
    }

    /// Fills `cluster` from `packed`, whose length is rounded up to whole sectors: bytes after the
    /// compressed data are ignored. Returns false when the data is damaged or too short.
    pub(super) fn unpack(&mut self, packed: &[u8], cluster: &mut [u8]) -> bool {
        match self {
            Self::Zlib(decoder) => inflate(decoder, packed, cluster),
            Self::Zstd(context) => decode_zstd(context, packed, cluster),
        }
    }
}

fn inflate(decoder: &mut Decompress, packed: &[u8], cluster: &mut [u8]) -> bool {
    decoder.reset(false);
    loop {
        let (read, filled) = (decoder.total_in() as usize, decoder.total_out() as usize);
        if filled == cluster.len() {
            return true;
        }
        match decoder.decompress(&packed[read..], &mut cluster[filled..], FlushDecompress::Finish) {
            Ok(Status::StreamEnd) => return decoder.total_out() as usize == cluster.len(),
            Ok(_)
                if (decoder.total_in() as usize, decoder.total_out() as usize)
                    != (read, filled) => {}
            _ => return false,
        }
    }
}

/// Like QEMU, accepts several frames, and requires that the last one ends where the cluster does.
fn decode_zstd(context: &mut DCtx<'static>, packed: &[u8], cluster: &mut [u8]) -> bool {
    if context.reset(ResetDirective::SessionOnly).is_err() {
        return false;
    }
    let len = cluster.len();
    let mut input = InBuffer::around(packed);
    let mut output = OutBuffer::around(cluster);
    loop {
        let before = (input.pos(), output.pos());
        match context.decompress_stream(&mut output, &mut input) {
            Ok(0) if output.pos() == len => return true,
            Ok(_) if (input.pos(), output.pos()) != before => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    const CLUSTER: usize = 4096;

    fn content() -> Vec<u8> {
        (0..CLUSTER).map(|i| (i * i / 7) as u8).collect()
    }

    fn pack(compression: ClusterCompression, content: &[u8]) -> Vec<u8> {
        match compression {
            ClusterCompression::Zlib => {
                let mut encoder =
                    flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(content).unwrap();
                encoder.finish().unwrap()
            }
            ClusterCompression::Zstd => zstd::bulk::compress(content, 3).unwrap(),
        }
    }

    #[test]
    fn bytes_behind_the_compressed_data_are_ignored() {
        for compression in [ClusterCompression::Zlib, ClusterCompression::Zstd] {
            let mut unpacker = Unpacker::new(compression).unwrap();
            let mut packed = pack(compression, &content());
            packed.extend([0xaa; 511]);
            for _ in 0..2 {
                let mut cluster = vec![0; CLUSTER];
                assert!(unpacker.unpack(&packed, &mut cluster));
                assert_eq!(cluster, content());
            }
        }
    }

    #[test]
    fn a_cluster_that_is_too_short_is_damaged() {
        for compression in [ClusterCompression::Zlib, ClusterCompression::Zstd] {
            let mut unpacker = Unpacker::new(compression).unwrap();
            let mut cluster = vec![0; CLUSTER];
            let packed = pack(compression, &content());
            assert!(!unpacker.unpack(&packed[..packed.len() / 2], &mut cluster));
            assert!(!unpacker.unpack(&[], &mut cluster));
            assert!(!unpacker.unpack(&pack(compression, &content()[..CLUSTER - 1]), &mut cluster));
            assert!(unpacker.unpack(&packed, &mut cluster), "usable after damage");
        }
    }

    #[test]
    fn a_zstd_window_of_128_mib_is_not_allocated() {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
        encoder.window_log(27).unwrap();
        encoder.write_all(&content()).unwrap();
        let packed = encoder.finish().unwrap();
        assert!(
            !Unpacker::new(ClusterCompression::Zstd)
                .unwrap()
                .unpack(&packed, &mut vec![0; CLUSTER])
        );
    }

    proptest! {
        #[test]
        fn damage_ends_it(packed in prop::collection::vec(any::<u8>(), 0..600), at in 0usize..600) {
            for compression in [ClusterCompression::Zlib, ClusterCompression::Zstd] {
                let mut unpacker = Unpacker::new(compression).unwrap();
                let mut cluster = vec![0; CLUSTER];
                unpacker.unpack(&packed, &mut cluster);
                let mut valid = pack(compression, &content());
                let at = at % valid.len();
                valid[at] ^= 0x10;
                unpacker.unpack(&valid, &mut cluster);
            }
        }
    }
}
