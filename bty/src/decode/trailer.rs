//! Bytes after the end of compressed data that do not belong to the format. `gzip -d` ignores them
//! with a warning.
//!
//! OpenWrt appends metadata to its compressed images, as one or several of these records, the last
//! of which ends the file:
//!
//! ```text
//! data | "FWx0" | CRC-32 u32 | type u8 | 0 0 0 | size of the record u32, including these 16 bytes
//! all big-endian
//! ```

use std::io::{self, Read};
use std::sync::{Arc, Mutex};

use super::{Compression, trailing};

/// Maximum length of a trailer that may be recognized, in bytes.
const KNOWN_BYTES_MAX: u64 = 1 << 20;

const RECORD_BYTES: usize = 16;

/// Which trailers may be skipped, and which one was. Clones share what was found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trailer {
    /// Skip any trailer, not only known ones.
    ignore_any: bool,
    found: Arc<Mutex<Option<String>>>,
}

impl Trailer {
    /// Skips any trailer if `ignore_any`, otherwise only known ones.
    pub(crate) fn new(ignore_any: bool) -> Self {
        Self { ignore_any, found: Arc::default() }
    }

    /// A warning about the trailer that was skipped.
    pub(crate) fn warning(&self) -> Option<String> {
        self.found.lock().expect("no holder panics").clone()
    }

    /// Reads `rest`, which starts at `offset` right after the data, to its end. Fails unless it may
    /// be skipped.
    pub(super) fn take(
        &self,
        rest: &mut dyn Read,
        format: Compression,
        offset: u64,
    ) -> io::Result<()> {
        let mut start = Vec::new();
        (&mut *rest).take(KNOWN_BYTES_MAX + 1).read_to_end(&mut start)?;
        let is_known = start.len() as u64 <= KNOWN_BYTES_MAX && is_openwrt(&start);
        if !is_known && !self.ignore_any {
            return Err(trailing(format, offset).into());
        }
        let bytes = start.len() as u64 + io::copy(rest, &mut io::sink())?;
        let what = if is_known { "firmware metadata of OpenWrt" } else { "an unknown trailer" };
        self.record(format!("ignored {bytes} bytes after the {} data: {what}", format.as_str()));
        Ok(())
    }

    /// For a decoder that does not return the trailer: records it, and returns true if it may be
    /// skipped.
    pub(super) fn skip(&self, format: Compression) -> bool {
        if self.ignore_any {
            self.record(format!("ignored the bytes after the {} data", format.as_str()));
        }
        self.ignore_any
    }

    fn record(&self, warning: String) {
        *self.found.lock().expect("no holder panics") = Some(warning);
    }
}

/// True when `bytes` end with a complete metadata record.
fn is_openwrt(bytes: &[u8]) -> bool {
    let Some(record) = bytes.last_chunk::<RECORD_BYTES>() else { return false };
    let size = u32::from_be_bytes([record[12], record[13], record[14], record[15]]) as usize;
    record.starts_with(b"FWx0")
        && record[9..12] == [0; 3]
        && (RECORD_BYTES..=bytes.len()).contains(&size)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A record with `data`.
    fn record(data: &[u8]) -> Vec<u8> {
        let size = u32::try_from(data.len() + RECORD_BYTES).unwrap().to_be_bytes();
        [data, b"FWx0\x01\x02\x03\x04\x01\0\0\0", &size].concat()
    }

    #[test]
    fn only_a_complete_record_is_recognized() {
        let one = record(b"{ \"metadata_version\": \"1.1\" }\n");
        assert!(is_openwrt(&one) && is_openwrt(&[one.clone(), record(b"# certificate")].concat()));
        assert!(
            !is_openwrt(&one[..one.len() - 1]) && !is_openwrt(&one[1..]) && !is_openwrt(b"FWx0")
        );
        assert!(!is_openwrt(&[&one[..], b"more"].concat()));
    }

    #[test]
    fn a_skipped_trailer_is_reported_and_an_unknown_one_is_refused() {
        let known = record(b"{}");
        let trailer = Trailer::default();
        assert!(
            trailer.take(&mut &b"garbage"[..], Compression::Gzip, 7).is_err()
                && trailer.warning().is_none()
        );
        trailer.clone().take(&mut &known[..], Compression::Gzip, 7).unwrap();
        assert_eq!(
            trailer.warning().unwrap(),
            "ignored 18 bytes after the gzip data: firmware metadata of OpenWrt"
        );
        let any = Trailer::new(true);
        any.take(&mut &vec![7; 3 << 20][..], Compression::Xz, 7).unwrap();
        assert!(any.warning().unwrap().starts_with("ignored 3145728 bytes after the xz data"));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = is_openwrt(&bytes);
            let tail = &bytes[..bytes.len().min(4)];
            let _ = is_openwrt(&[&bytes[..], b"FWx0\0\0\0\0\0\0\0\0", tail].concat());
        }
    }
}
