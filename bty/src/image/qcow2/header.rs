//! The header of a qcow2 image, and every reason to refuse the image.
//!
//! Format: `docs/interop/qcow2` of QEMU. All numbers are big-endian.
//!
//! ```text
//!   0..4   magic "QFI\xfb"           4..8   version u32, 2 or 3
//!   8..16  backing file offset u64  16..20  backing file name length u32
//!  20..24  cluster bits u32         24..32  virtual size u64, bytes
//!  32..36  encryption method u32    36..40  L1 entries u32
//!  40..48  L1 table offset u64      48..72  refcounts and snapshots, not needed to read
//! version 3:
//!  72..80  incompatible features u64; a reader must refuse unknown bits
//!  80..96  compatible and autoclear features, 96..100 refcount width: not needed to read
//! 100..104 header length u32           104  compression type u8, if the header is long enough
//! ```

use crate::{Error, ErrorKind, Result};

/// Bytes at the start of the file that [`parse`] reads.
pub(super) const HEADER_BYTES: usize = 112;

/// The largest L1 table that QEMU supports, in bytes.
const L1_BYTES_MAX: u64 = 32 << 20;

const MAGIC: &[u8] = b"QFI\xfb";
const DIRTY: u64 = 1 << 0;
const CORRUPT: u64 = 1 << 1;
const EXTERNAL_DATA: u64 = 1 << 2;
const COMPRESSION: u64 = 1 << 3;
const EXTENDED_L2: u64 = 1 << 4;

/// The format of compressed clusters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClusterCompression {
    /// Raw deflate. QEMU calls it zlib.
    Zlib,
    Zstd,
}

/// A valid header of an image that can be read. Offsets and lengths are bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) version: u32,
    pub(super) cluster_bits: u32,
    pub(super) virtual_bytes: u64,
    pub(super) l1_offset: u64,
    /// Number of entries that the virtual size needs. The table may have more.
    pub(super) l1_entries: u64,
    pub(super) compression: ClusterCompression,
    /// L2 entries have 16 bytes, and a bitmap of 32 subclusters.
    pub(super) extended_l2: bool,
}

impl Header {
    pub(super) fn cluster_bytes(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// Size of one entry of an L2 table in bytes.
    pub(super) fn entry_bytes(&self) -> u64 {
        if self.extended_l2 { 16 } else { 8 }
    }

    /// Entries of one L2 table, which fills one cluster.
    pub(super) fn entries_per_table(&self) -> u64 {
        self.cluster_bytes() / self.entry_bytes()
    }

    /// Clusters of the virtual disk.
    pub(super) fn clusters(&self) -> u64 {
        self.virtual_bytes.div_ceil(self.cluster_bytes())
    }
}

/// Parses the header from the first [`HEADER_BYTES`] of a file of `file_bytes`.
pub(super) fn parse(bytes: &[u8], file_bytes: u64) -> Result<Header> {
    if bytes.get(..4) != Some(MAGIC) {
        return Err(refuse("this is not a qcow2 image", "check that the right file was given"));
    }
    let version = u32_at(bytes, 4)?;
    if !(2..=3).contains(&version) {
        return Err(refuse(format!("qcow version {version} is not supported"), CONVERT));
    }
    let cluster_bits = u32_at(bytes, 20)?;
    if !(9..=21).contains(&cluster_bits) {
        return Err(refuse(
            format!("clusters of 2^{cluster_bits} bytes are outside of 512 bytes to 2 MiB"),
            DAMAGED,
        ));
    }
    if u64_at(bytes, 8)? != 0 {
        return Err(refuse(
            "the image needs a backing file",
            "flatten it first: qemu-img convert -O qcow2 IMAGE FLAT.qcow2",
        ));
    }
    if u32_at(bytes, 32)? != 0 {
        return Err(refuse(
            "the image is encrypted",
            "decrypt it first: qemu-img convert with the secret, to an image without encryption",
        ));
    }
    let (features, header_bytes) =
        if version == 2 { (0, 72) } else { (u64_at(bytes, 72)?, u32_at(bytes, 100)?) };
    if version == 3
        && (header_bytes < 104
            || !header_bytes.is_multiple_of(8)
            || header_bytes > 1 << cluster_bits)
    {
        return Err(refuse(format!("a header cannot have {header_bytes} bytes"), DAMAGED));
    }
    check_features(features)?;
    let header = Header {
        version,
        cluster_bits,
        virtual_bytes: u64_at(bytes, 24)?,
        l1_offset: u64_at(bytes, 40)?,
        l1_entries: 0,
        compression: compression(features, bytes, header_bytes)?,
        extended_l2: features & EXTENDED_L2 != 0,
    };
    if header.extended_l2 && cluster_bits < 14 {
        return Err(refuse(
            format!("extended L2 entries with clusters of 2^{cluster_bits} bytes are impossible"),
            DAMAGED,
        ));
    }
    check_l1(header, u32_at(bytes, 36)?.into(), file_bytes)
}

fn check_features(features: u64) -> Result<()> {
    if features & CORRUPT != 0 {
        return Err(refuse(
            "the image is marked as corrupt",
            "repair it first: qemu-img check -r all IMAGE",
        ));
    }
    if features & DIRTY != 0 {
        return Err(refuse(
            "the image is in use, or was not closed properly",
            "shut down what uses it, then repair it: qemu-img check -r all IMAGE",
        ));
    }
    if features & EXTERNAL_DATA != 0 {
        return Err(refuse(
            "the image keeps its data in another file",
            "join them first: qemu-img convert -O qcow2 IMAGE WHOLE.qcow2",
        ));
    }
    let unknown = features & !(COMPRESSION | EXTENDED_L2);
    if unknown != 0 {
        return Err(refuse(
            format!("the image needs unknown features (bits {unknown:#x})"),
            CONVERT,
        ));
    }
    Ok(())
}

fn compression(features: u64, bytes: &[u8], header_bytes: u32) -> Result<ClusterCompression> {
    let kind = if header_bytes > 104 { bytes.get(104).copied().ok_or_else(cut)? } else { 0 };
    match (features & COMPRESSION != 0, kind) {
        (false, 0) => Ok(ClusterCompression::Zlib),
        (true, 1) => Ok(ClusterCompression::Zstd),
        (true, 2..) => Err(refuse(format!("compression type {kind} is not supported"), CONVERT)),
        (flag, _) => Err(refuse(
            format!("compression type {kind} contradicts its feature bit ({})", u8::from(flag)),
            DAMAGED,
        )),
    }
}

/// Checks the claimed size and place of the L1 table before memory is allocated for it.
fn check_l1(header: Header, claimed: u64, file_bytes: u64) -> Result<Header> {
    let needed = header.clusters().div_ceil(header.entries_per_table());
    if claimed < needed {
        return Err(refuse(
            format!(
                "an L1 table of {claimed} entries is too small for {} bytes",
                header.virtual_bytes
            ),
            DAMAGED,
        ));
    }
    if claimed * 8 > L1_BYTES_MAX {
        return Err(refuse(format!("an L1 table of {claimed} entries is too large"), DAMAGED));
    }
    let (start, cluster) = (header.l1_offset, header.cluster_bytes());
    if needed > 0 && (!start.is_multiple_of(cluster) || start < cluster) {
        return Err(refuse(format!("the L1 table cannot be at offset {start}"), DAMAGED));
    }
    if needed > 0 && start.checked_add(needed * 8).is_none_or(|end| end > file_bytes) {
        return Err(truncated("the L1 table", start, file_bytes));
    }
    Ok(Header { l1_entries: needed, ..header })
}

const CONVERT: &str = "convert it first: qemu-img convert -O qcow2 IMAGE NEW.qcow2";
pub(super) const DAMAGED: &str = "download or copy the image again, this one is damaged";

/// An error about the content of the image.
pub(super) fn refuse(message: impl Into<String>, hint: &str) -> Error {
    Error::new(ErrorKind::Format, message).hint(hint)
}

/// The error for an offset beyond the end of the file.
pub(super) fn truncated(what: &str, offset: u64, file_bytes: u64) -> Error {
    Error::new(
        ErrorKind::Source,
        format!(
            "the image is cut short: {what} is at offset {offset}, the file has {file_bytes} bytes"
        ),
    )
    .at_offset(offset)
    .hint("download or copy it again")
}

fn cut() -> Error {
    Error::new(ErrorKind::Source, "the image is cut short: it ends within its header")
        .hint("download or copy it again")
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32> {
    let field = bytes.get(at..).and_then(<[u8]>::first_chunk).ok_or_else(cut)?;
    Ok(u32::from_be_bytes(*field))
}

fn u64_at(bytes: &[u8], at: usize) -> Result<u64> {
    let field = bytes.get(at..).and_then(<[u8]>::first_chunk).ok_or_else(cut)?;
    Ok(u64::from_be_bytes(*field))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FILE_BYTES: u64 = 4 << 16;

    /// A sound header: version 3, 64 KiB clusters, 1 GiB, L1 in the second cluster.
    fn sound() -> Vec<u8> {
        let mut bytes = vec![0; HEADER_BYTES];
        bytes[..4].copy_from_slice(MAGIC);
        put(&mut bytes, 4, &3u32.to_be_bytes());
        put(&mut bytes, 20, &16u32.to_be_bytes());
        put(&mut bytes, 24, &(1u64 << 30).to_be_bytes());
        put(&mut bytes, 36, &2u32.to_be_bytes());
        put(&mut bytes, 40, &(1u64 << 16).to_be_bytes());
        put(&mut bytes, 100, &112u32.to_be_bytes());
        bytes
    }

    fn put(bytes: &mut [u8], at: usize, field: &[u8]) {
        bytes[at..at + field.len()].copy_from_slice(field);
    }

    fn refusal(at: usize, field: &[u8]) -> String {
        let mut bytes = sound();
        put(&mut bytes, at, field);
        format!("{:?}", parse(&bytes, FILE_BYTES).unwrap_err())
    }

    #[test]
    fn reads_both_versions() {
        let header = parse(&sound(), FILE_BYTES).unwrap();
        assert_eq!((header.version, header.cluster_bytes(), header.l1_entries), (3, 65536, 2));
        assert_eq!((header.compression, header.extended_l2), (ClusterCompression::Zlib, false));
        let mut old = sound();
        put(&mut old, 4, &2u32.to_be_bytes());
        put(&mut old, 72, &[0xff; 40]);
        assert_eq!(parse(&old[..72], FILE_BYTES).unwrap().version, 2);
        assert_eq!(
            parse(&old, FILE_BYTES).unwrap().version,
            2,
            "what follows a version 2 header is not part of it"
        );
    }

    #[test]
    fn each_refusal_has_a_reason_and_a_hint() {
        let cases: &[(usize, &[u8])] = &[
            (0, b"QFI\0"),
            (4, &1u32.to_be_bytes()),
            (4, &4u32.to_be_bytes()),
            (8, &64u64.to_be_bytes()),
            (20, &8u32.to_be_bytes()),
            (20, &22u32.to_be_bytes()),
            (32, &2u32.to_be_bytes()),
            (72, &1u64.to_be_bytes()),
            (72, &2u64.to_be_bytes()),
            (72, &4u64.to_be_bytes()),
            (72, &0x8020u64.to_be_bytes()),
            (72, &8u64.to_be_bytes()),
            (104, &[1]),
            (100, &96u32.to_be_bytes()),
            (100, &105u32.to_be_bytes()),
            (100, &0x2_0000u32.to_be_bytes()),
            (36, &1u32.to_be_bytes()),
            (36, &u32::MAX.to_be_bytes()),
            (24, &u64::MAX.to_be_bytes()),
            (40, &0u64.to_be_bytes()),
            (40, &0x1_0200u64.to_be_bytes()),
            (40, &(FILE_BYTES).to_be_bytes()),
            (40, &(u64::MAX << 16).to_be_bytes()),
        ];
        let text: Vec<_> = cases.iter().map(|(at, field)| refusal(*at, field)).collect();
        insta::assert_snapshot!(text.join("\n"), @r"
        [format] this is not a qcow2 image (check that the right file was given)
        [format] qcow version 1 is not supported (convert it first: qemu-img convert -O qcow2 IMAGE NEW.qcow2)
        [format] qcow version 4 is not supported (convert it first: qemu-img convert -O qcow2 IMAGE NEW.qcow2)
        [format] the image needs a backing file (flatten it first: qemu-img convert -O qcow2 IMAGE FLAT.qcow2)
        [format] clusters of 2^8 bytes are outside of 512 bytes to 2 MiB (download or copy the image again, this one is damaged)
        [format] clusters of 2^22 bytes are outside of 512 bytes to 2 MiB (download or copy the image again, this one is damaged)
        [format] the image is encrypted (decrypt it first: qemu-img convert with the secret, to an image without encryption)
        [format] the image is in use, or was not closed properly (shut down what uses it, then repair it: qemu-img check -r all IMAGE)
        [format] the image is marked as corrupt (repair it first: qemu-img check -r all IMAGE)
        [format] the image keeps its data in another file (join them first: qemu-img convert -O qcow2 IMAGE WHOLE.qcow2)
        [format] the image needs unknown features (bits 0x8020) (convert it first: qemu-img convert -O qcow2 IMAGE NEW.qcow2)
        [format] compression type 0 contradicts its feature bit (1) (download or copy the image again, this one is damaged)
        [format] compression type 1 contradicts its feature bit (0) (download or copy the image again, this one is damaged)
        [format] a header cannot have 96 bytes (download or copy the image again, this one is damaged)
        [format] a header cannot have 105 bytes (download or copy the image again, this one is damaged)
        [format] a header cannot have 131072 bytes (download or copy the image again, this one is damaged)
        [format] an L1 table of 1 entries is too small for 1073741824 bytes (download or copy the image again, this one is damaged)
        [format] an L1 table of 4294967295 entries is too large (download or copy the image again, this one is damaged)
        [format] an L1 table of 2 entries is too small for 18446744073709551615 bytes (download or copy the image again, this one is damaged)
        [format] the L1 table cannot be at offset 0 (download or copy the image again, this one is damaged)
        [format] the L1 table cannot be at offset 66048 (download or copy the image again, this one is damaged)
        [source] the image is cut short: the L1 table is at offset 262144, the file has 262144 bytes (download or copy it again)
        [source] the image is cut short: the L1 table is at offset 18446744073709486080, the file has 262144 bytes (download or copy it again)
        ");
    }

    #[test]
    fn refuses_unknown_compression_and_impossible_subclusters() {
        let mut bytes = sound();
        put(&mut bytes, 72, &8u64.to_be_bytes());
        bytes[104] = 1;
        assert_eq!(parse(&bytes, FILE_BYTES).unwrap().compression, ClusterCompression::Zstd);
        bytes[104] = 2;
        insta::assert_snapshot!(parse(&bytes, FILE_BYTES).unwrap_err(), @"compression type 2 is not supported");
        let mut bytes = sound();
        put(&mut bytes, 72, &16u64.to_be_bytes());
        assert_eq!(
            parse(&bytes, FILE_BYTES).unwrap_err().to_string(),
            "an L1 table of 2 entries is too small for 1073741824 bytes"
        );
        put(&mut bytes, 24, &(1u64 << 20).to_be_bytes());
        assert!(parse(&bytes, FILE_BYTES).unwrap().extended_l2);
        put(&mut bytes, 20, &13u32.to_be_bytes());
        insta::assert_snapshot!(parse(&bytes, FILE_BYTES).unwrap_err(), @"extended L2 entries with clusters of 2^13 bytes are impossible");
    }

    #[test]
    fn a_truncated_header_is_an_error_at_every_length() {
        for len in 0..105 {
            assert!(parse(&sound()[..len], FILE_BYTES).is_err(), "{len}");
        }
        assert!(parse(&sound()[..105], FILE_BYTES).is_ok());
    }

    proptest! {
        #[test]
        fn accepted_headers_are_within_limits(
            changes in prop::collection::vec((4usize..HEADER_BYTES, any::<u8>()), 0..6),
            file_bytes in prop_oneof![0u64..1 << 20, any::<u64>()],
        ) {
            let mut bytes = sound();
            for (at, byte) in changes {
                bytes[at] = byte;
            }
            if let Ok(header) = parse(&bytes, file_bytes) {
                prop_assert!(header.l1_entries * 8 <= L1_BYTES_MAX);
                let l1_end = header.l1_offset + header.l1_entries * 8;
                prop_assert!(l1_end <= file_bytes || header.l1_entries == 0);
                prop_assert!(header.clusters() <= header.l1_entries * header.entries_per_table());
            }
        }
    }
}
