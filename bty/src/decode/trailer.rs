//! What lies behind the end of compressed data and belongs to no format: `gzip -d` warns of it and
//! goes on.
//!
//! OpenWrt appends its metadata to images that are gzip already, in one or several of these
//! records, the last of which ends the file:
//!
//! ```text
//! data | "FWx0" | CRC-32 u32 | type u8 | 0 0 0 | size of the record u32, these 16 bytes included      big-endian
//! ```

use std::io::{self, Read};
use std::sync::{Arc, Mutex};

use super::{Compression, trailing};

/// A longer trailer is looked at no further.
const KNOWN_BYTES_MAX: u64 = 1 << 20;

const RECORD_BYTES: usize = 16;

/// Whether bytes behind the data may be left out, and what was found there. Clones share what was
/// found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trailer {
    /// Whatever it is.
    ignore_any: bool,
    found: Arc<Mutex<Option<String>>>,
}

impl Trailer {
    /// Leaves out whatever it is, or only what is known.
    pub(crate) fn new(ignore_any: bool) -> Self {
        Self { ignore_any, found: Arc::default() }
    }

    /// What was left out, as a note for people.
    pub(crate) fn note(&self) -> Option<String> {
        self.found.lock().expect("nobody panics holding it").clone()
    }

    /// Reads `rest`, which begins at `offset` behind the data, to its end.
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
        let what = if is_known { "firmware metadata of OpenWrt" } else { "whatever they are" };
        self.left_out(format!(
            "{bytes} bytes behind the {} data were left out: {what}",
            format.as_str()
        ));
        Ok(())
    }

    /// Takes a note of bytes that a decoder does not give out; fails unless any may be left out.
    pub(super) fn skip(&self, format: Compression) -> bool {
        if self.ignore_any {
            self.left_out(format!("the bytes behind the {} data were left out", format.as_str()));
        }
        self.ignore_any
    }

    fn left_out(&self, note: String) {
        *self.found.lock().expect("nobody panics holding it") = Some(note);
    }
}

/// True when `bytes` end with a record of metadata that fits in them.
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

    /// A record around `data`.
    fn record(data: &[u8]) -> Vec<u8> {
        let size = u32::try_from(data.len() + RECORD_BYTES).unwrap().to_be_bytes();
        [data, b"FWx0\x01\x02\x03\x04\x01\0\0\0", &size].concat()
    }

    #[test]
    fn only_a_whole_record_is_known() {
        let one = record(b"{ \"metadata_version\": \"1.1\" }\n");
        assert!(is_openwrt(&one) && is_openwrt(&[one.clone(), record(b"# certificate")].concat()));
        assert!(
            !is_openwrt(&one[..one.len() - 1]) && !is_openwrt(&one[1..]) && !is_openwrt(b"FWx0")
        );
        assert!(!is_openwrt(&[&one[..], b"more"].concat()));
    }

    #[test]
    fn what_is_left_out_is_told_and_anything_else_fails() {
        let known = record(b"{}");
        let trailer = Trailer::default();
        assert!(
            trailer.take(&mut &b"garbage"[..], Compression::Gzip, 7).is_err()
                && trailer.note().is_none()
        );
        trailer.clone().take(&mut &known[..], Compression::Gzip, 7).unwrap();
        assert_eq!(
            trailer.note().unwrap(),
            "18 bytes behind the gzip data were left out: firmware metadata of OpenWrt"
        );
        let any = Trailer::new(true);
        any.take(&mut &vec![7; 3 << 20][..], Compression::Xz, 7).unwrap();
        assert!(any.note().unwrap().starts_with("3145728 bytes behind the xz data"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = is_openwrt(&bytes);
            let _ = is_openwrt(&[&bytes[..], b"FWx0\0\0\0\0\0\0\0\0", &bytes[..bytes.len().min(4)]].concat());
        }
    }
}
