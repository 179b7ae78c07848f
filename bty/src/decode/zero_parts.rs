//! Parts of a stream that decode to nothing but zeros. Images that are mostly empty repeat them,
//! and a part that is equal byte by byte needs no decoding.

use std::sync::Mutex;

use crate::extent::is_zero;

/// Maximum length of a part that is remembered, in bytes. Zeros compress to a few KiB.
const PART_BYTES_MAX: usize = 64 << 10;
/// Maximum number of parts that are remembered.
const PARTS_MAX: usize = 8;

/// The parts found so far, and the number of zeros that each decodes to.
#[derive(Default)]
pub(super) struct ZeroParts(Mutex<Vec<(Box<[u8]>, u64)>>);

impl ZeroParts {
    /// True if a part of `len` bytes may be remembered.
    pub(super) fn is_small(len: usize) -> bool {
        len <= PART_BYTES_MAX
    }

    /// Remembers `part` if everything that it `decoded` to is zero. `part` must include whatever
    /// its decoding depends on.
    pub(super) fn remember(&self, part: &[u8], decoded: &[u8]) {
        if Self::is_small(part.len()) && !decoded.is_empty() && is_zero(decoded) {
            let mut parts = self.0.lock().expect("no holder panics");
            if parts.len() < PARTS_MAX && !parts.iter().any(|(known, _)| **known == *part) {
                parts.push((part.into(), decoded.len() as u64));
            }
        }
    }

    /// The number of zeros that `part` decodes to, if it is a part that was remembered.
    pub(super) fn find(&self, part: &[u8]) -> Option<u64> {
        let parts = self.0.lock().expect("no holder panics");
        parts.iter().find(|(known, _)| **known == *part).map(|(_, zeros)| *zeros)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_parts_that_decode_to_zeros_are_found_again() {
        let parts = ZeroParts::default();
        parts.remember(b"zeros", &[0; 70_000]);
        parts.remember(b"nothing", &[]);
        parts.remember(b"data", &[&[0; 70_000][..], &[1]].concat());
        parts.remember(&vec![7; PART_BYTES_MAX + 1], &[0; 9]);
        assert_eq!(parts.find(b"zeros"), Some(70_000));
        for other in [&b"zeroz"[..], b"zero", b"zeros ", b"nothing", b"data", b""] {
            assert_eq!(parts.find(other), None);
        }
        assert_eq!(parts.find(&vec![7; PART_BYTES_MAX + 1]), None);
    }

    #[test]
    fn few_parts_are_remembered() {
        let parts = ZeroParts::default();
        for part in 0..20 {
            parts.remember(&[part], &[0; 3]);
        }
        assert_eq!((0..20).filter(|&part| parts.find(&[part]).is_some()).count(), PARTS_MAX);
    }
}
