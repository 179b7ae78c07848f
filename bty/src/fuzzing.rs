//! Entry points for the fuzz targets in `fuzz/`. Not part of the API.

use std::io::{self, Read};
use std::sync::Arc;

use crate::boot::{self, uefi};
use crate::catalog::Catalog;
use crate::decode::{self, Compression, DecodeOptions, SNIFF_BYTES, decoder};
use crate::hardware::{cpu, smbios};
use crate::image::{Image, OpenOptions};
use crate::oci;
use crate::pack::{FrameFetcher, PackIndex, find_index};
use crate::partition_table::{self, gpt};
use crate::read_context::ReadContext;
use crate::signatures;
use crate::source::custom;
use crate::transport::registry_auth::Challenge;
use crate::{CancelToken, Client, Location, Selector, digest, size};

/// Decodes untrusted bytes in the format that they resemble, up to 64 MiB.
pub fn decode(data: &[u8]) {
    let Some(compression) = Compression::sniff(&data[..data.len().min(SNIFF_BYTES)]) else {
        return;
    };
    let options = DecodeOptions { threads: 2, memory_bytes: 64 << 20 };
    if let Ok(reader) = decoder(compression, Box::new(io::Cursor::new(data.to_vec())), options) {
        let _ = io::copy(&mut reader.take(64 << 20), &mut io::sink());
    }
}

/// Opens untrusted bytes as an image (usually qcow2), and reads up to 4096 extents of it.
pub fn image(data: &[u8]) {
    let (cancel, options) = (CancelToken::new(), OpenOptions::default());
    let opened = Image::from_source(&Client::default(), "fuzz", bytes(data), &options, &cancel);
    let Ok(image) = opened else { return };
    let Ok(mut extents) = image.extents(&ReadContext::new(4, &cancel), true) else { return };
    let mut pieces = 0;
    while pieces < 4096 && matches!(extents.next(), Ok(Some(_))) {
        pieces += 1;
    }
}

/// Parses untrusted bytes as the start of a disk: partition tables, signatures, and moving the
/// backup GPT. Also as an SMBIOS table, which is binary data of the same kind.
pub fn disk(data: &[u8]) {
    let mut read = partition_table::over(data);
    for sector in [512, 4096] {
        let _ = partition_table::read(&mut read, data.len() as u64, sector);
        let _ = gpt::relocate_backup(
            &mut data.to_vec(),
            &mut partition_table::over(data),
            1 << 40,
            sector,
        );
    }
    let _ = signatures::recognize(&mut read, data.len() as u64);
    let _ = smbios::SmbiosTable::parse(data);
}

/// Looks for the index of a packed image in untrusted bytes, and reads up to 64 of its frames.
/// Parses the bytes as an index as well.
pub fn pack(data: &[u8]) {
    let _ = PackIndex::parse(data);
    let (cancel, opened) = (CancelToken::new(), custom::open("fuzz", bytes(data)));
    let Ok(source) = opened else { return };
    let Ok(Some(index)) = find_index(&source, &cancel) else { return };
    let numbered = index.frames().iter().zip(0..);
    let data_frames =
        numbered.filter(|(frame, _)| frame.blake3.is_some()).map(|(_, number)| number);
    let (frames, context) = (data_frames.take(64).collect(), ReadContext::new(0, &cancel));
    if let Ok(mut fetcher) = FrameFetcher::start(&source, &Arc::new(index), frames, &context) {
        while matches!(fetcher.next(), Ok(Some(_))) {}
    }
}

/// Parses untrusted text in every format that people, servers and kernels write.
pub fn text(data: &[u8]) {
    let _ = Catalog::parse(data);
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = text.parse::<Location>();
    let _ = text.parse::<Selector>();
    let _ = size::parse(text);
    let _ = digest::find_in_checksums(text, "a.img");
    let _ = crate::catalog::canonical_src(text);
    let _ = cpu::parse_cpuinfo(text);
}

/// Parses untrusted bytes as responses of a registry: manifests, and `WWW-Authenticate` challenges.
pub fn registry(data: &[u8]) {
    let _ = oci::read_manifest(data);
    if let Ok(text) = std::str::from_utf8(data)
        && let Some(challenge) = Challenge::find(text)
    {
        let _ = challenge.url("team/images");
    }
}

/// Walks the frames of untrusted compressed bytes to find the size that they decode to.
pub fn sizes(data: &[u8]) {
    if let Ok(source) = custom::open("fuzz", bytes(data)) {
        decode::walk_sizes(&*source.bytes, &CancelToken::new());
    }
}

/// Parses untrusted bytes as boot loader entries of a disk, and as UEFI variables.
pub fn boot(data: &[u8]) {
    uefi::read_variable(data);
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = boot::parse_entry(text);
    let _ = boot::parse_grub(text);
}

fn bytes(data: &[u8]) -> Arc<[u8]> {
    data.into()
}
