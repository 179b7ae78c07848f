//! Tests the decoders with files made by the real tools: whole, truncated, damaged and hostile.

use std::io::{self, Read, Write};
use std::process::{Command, Stdio};

use proptest::prelude::*;

use super::*;
use crate::size::MIB;
use crate::source::local;

const OPTIONS: DecodeOptions = DecodeOptions { threads: 2, memory_bytes: 192 * MIB };

/// Around the sizes of a sector, of the largest blocks of deflate and zstd, and of this library's
/// buffers.
const SIZES: [usize; 12] =
    [0, 1, 511, 512, 513, 65_535, 65_536, 65_537, 1_048_575, 1_048_576, 1_048_577, 4_194_305];

/// Random bytes, text and zeros in turn, so that stored, packed and run blocks all occur.
fn content(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 3 * 8192);
    while bytes.len() < len {
        for _ in 0..1024 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.extend_from_slice(&state.to_le_bytes());
        }
        for line in 0..400 {
            bytes.extend_from_slice(format!("line {line} of {state:x}\n").as_bytes());
        }
        bytes.resize(bytes.len() + 8192, 0);
    }
    bytes.truncate(len);
    bytes
}

/// The output of `command FILE` or, if the command ends in `-`, of `command` with `content` on its
/// standard input.
fn pack(command: &str, content: &[u8]) -> Vec<u8> {
    let mut words = command.split(' ');
    let mut tool = Command::new(words.next().unwrap());
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(content).unwrap();
    tool.args(words.filter(|&word| word != "-"));
    if command.ends_with(" -") {
        tool.stdin(file.reopen().unwrap());
    } else {
        tool.arg(file.path());
    }
    let output = tool.stderr(Stdio::piped()).output().unwrap_or_else(|e| panic!("{command}: {e}"));
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn decode_with(
    compression: Compression,
    wire: impl Read + Send + 'static,
    options: DecodeOptions,
) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut reader = decoder(compression, Box::new(wire), options)?;
    let result = reader.read_to_end(&mut bytes);
    if result.is_err() {
        assert!(reader.read(&mut [0]).is_err(), "an error is final");
    }
    result.map(|_| bytes).map_err(|e| Error::unwrap_io(e).expect("errors carry an Error"))
}

fn decode(compression: Compression, packed: &[u8]) -> Result<Vec<u8>> {
    decode_with(compression, io::Cursor::new(packed.to_vec()), OPTIONS)
}

fn sniff(packed: &[u8]) -> Compression {
    Compression::sniff(&packed[..packed.len().min(SNIFF_BYTES)]).expect("a known format")
}

#[test]
fn formats_are_recognized_by_their_first_bytes() {
    for (head, expected) in [
        (&b"\x1f\x8b"[..], Some(Compression::Gzip)),
        (b"\xfd7zXZ\0", Some(Compression::Xz)),
        (b"\xfd7zXZ", None),
        (b"BZh1", Some(Compression::Bzip2)),
        (b"BZh0", None),
        (b"\x28\xb5\x2f\xfd", Some(Compression::Zstd)),
        (b"\x02\x21\x4c\x18", Some(Compression::Lz4)),
        // lzma alone has no magic, and is not guessed
        (b"\x5d\0\0\x80\0\xff\xff\xff\xff", None),
        (b"", None),
        (b"\x50\x2a\x4d\x18\x02\0\0\0ab\x04\x22\x4d\x18", Some(Compression::Lz4)),
        (b"\x5f\x2a\x4d\x18\xff\xff\xff\xff", Some(Compression::Zstd)),
        (b"\x50\x2a\x4d\x18\0\0\0\0neither", None),
    ] {
        assert_eq!(Compression::sniff(head), expected, "{head:?}");
    }
}

/// Decodes content of every size, alone and followed by others, the last of which is empty.
fn decodes_the_output_of(command: &str) {
    let contents: Vec<_> = (0u64..).zip(SIZES).map(|(seed, size)| content(size, seed)).collect();
    let packed: Vec<_> = contents.iter().map(|content| pack(command, content)).collect();
    let compression = sniff(&packed[1]);
    for first in 0..SIZES.len() {
        let second = (first + 5) % SIZES.len();
        for members in [&[first][..], &[first, second], &[first, 0, second], &[first, second, 0]] {
            let file: Vec<u8> = members.iter().flat_map(|&i| packed[i].clone()).collect();
            let expected: Vec<u8> = members.iter().flat_map(|&i| contents[i].clone()).collect();
            let decoded = decode(compression, &file)
                .unwrap_or_else(|e| panic!("{command}, {members:?}: {e:?}"));
            assert!(decoded == expected, "{command}, {members:?}");
        }
    }
}

macro_rules! decodes {
    ($($name:ident: $command:literal,)*) => {$(
        #[test]
        fn $name() {
            decodes_the_output_of($command);
        }
    )*};
}

decodes! {
    decodes_gzip: "gzip -c",
    decodes_pigz: "pigz -1 -c",
    decodes_xz: "xz -0 -T1 -c",
    decodes_xz_in_blocks: "xz -0 -T2 --block-size=200000 -c",
    decodes_xz_with_other_check_and_filter: "xz --check=sha256 --x86 --lzma2=preset=0 -c",
    decodes_bzip2: "bzip2 -c",
    decodes_lbzip2: "lbzip2 -1 -c",
    decodes_zstd: "zstd -q -c",
    decodes_zstd_of_unknown_size: "zstd -q -c -",
    decodes_zstd_with_large_window: "zstd -q --long=27 -c",
    decodes_zstd_without_checksum: "zstd -q --no-check -c",
    decodes_pzstd: "pzstd -q -1 -p 2 -c",
    decodes_lz4: "lz4 -q -c",
    decodes_lz4_linked: "lz4 -q -BD -B5 -c",
    decodes_lz4_with_block_checksums: "lz4 -q -BX -B6 --content-size --no-frame-crc -c",
}

/// A small sample of each format.
fn samples(content: &[u8]) -> Vec<(Compression, Vec<u8>)> {
    ["gzip -c", "xz -c", "bzip2 -c", "zstd -q -c", "zstd -q -c -", "lz4 -q -c"]
        .map(|command| pack(command, content))
        .map(|packed| (sniff(&packed), packed))
        .to_vec()
}

/// Returns one byte at a time, with occasional interruptions.
struct Dribble(io::Cursor<Vec<u8>>, bool);

impl Read for Dribble {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.1 = !self.1;
        if self.1 && self.0.position().is_multiple_of(7) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let len = buf.len().min(1);
        self.0.read(&mut buf[..len])
    }
}

#[test]
fn a_slow_source_decodes_to_the_same_bytes() {
    let content = content(150_001, 7);
    for (compression, packed) in samples(&content) {
        let twice = [packed.clone(), packed].concat();
        let decoded =
            decode_with(compression, Dribble(io::Cursor::new(twice), false), OPTIONS).unwrap();
        assert!(decoded == [&content[..], &content].concat(), "{compression:?}");
    }
}

#[test]
fn one_byte_at_a_time_reads_the_same() {
    let content = content(70_001, 8);
    for (compression, packed) in samples(&content) {
        let mut reader = decoder(compression, Box::new(io::Cursor::new(packed)), OPTIONS).unwrap();
        let (mut decoded, mut byte) = (Vec::new(), [0]);
        while reader.read(&mut byte).unwrap() == 1 {
            decoded.push(byte[0]);
        }
        assert!(decoded == content, "{compression:?}");
    }
}

#[test]
fn every_cut_is_an_error() {
    let content = content(30_000, 9);
    for (compression, packed) in samples(&content) {
        for len in
            (0..packed.len()).step_by(13).chain(packed.len().saturating_sub(40)..packed.len())
        {
            let error = decode(compression, &packed[..len])
                .expect_err(&format!("{compression:?} cut at {len}"));
            assert_eq!(error.kind(), ErrorKind::Format, "{compression:?} cut at {len}: {error}");
        }
        let one_and_a_bit = [&packed[..], &packed[..packed.len() - 1]].concat();
        let error = decode(compression, &one_and_a_bit).unwrap_err();
        assert!(format!("{error:#}").contains("incomplete"), "{compression:?}: {error}");
    }
}

#[test]
fn a_flipped_bit_never_gives_wrong_bytes() {
    let content = content(20_000, 10);
    for (compression, packed) in samples(&content) {
        for at in (0..packed.len()).step_by(11).chain(0..24).chain(packed.len() - 40..packed.len())
        {
            let mut damaged = packed.clone();
            damaged[at] ^= 1 << (at % 8);
            match decode(compression, &damaged) {
                // nothing protects the name and the time in a gzip header
                Ok(decoded) => {
                    assert!(decoded == content, "{compression:?} with byte {at} damaged");
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Format, "{compression:?}: {error}");
                }
            }
        }
    }
}

#[test]
fn bytes_after_the_end_are_an_error_with_their_offset() {
    let content = content(9_000, 11);
    for (compression, packed) in samples(&content) {
        for garbage in [&b"x"[..], b"garbage", &[0, 0, 0, 7], &[0xff; 100_000]] {
            let error = decode(compression, &[&packed, garbage].concat()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Format);
            let text = format!("{error:#}");
            assert!(
                text.starts_with(&format!(
                    "bytes after the end of the {} data",
                    compression.as_str()
                )),
                "{text}"
            );
            let offset = error.offset().unwrap();
            assert!((packed.len() as u64..packed.len() as u64 + 4).contains(&offset), "{offset}");
            assert!(error.next_step().is_some());
        }
    }
}

#[test]
fn only_the_padding_of_the_format_is_skipped() {
    let content = content(9_000, 12);
    for (compression, packed) in samples(&content) {
        for zeros in [1, 3, 4, 512, 300_000] {
            let allowed = match compression {
                Compression::Gzip => true,
                Compression::Xz => zeros % 4 == 0,
                _ => false,
            };
            let result = decode(compression, &[&packed[..], &vec![0; zeros]].concat());
            assert_eq!(
                result.is_ok(),
                allowed,
                "{compression:?} and {zeros} zeros: {:?}",
                result.err()
            );
        }
    }
    let xz = pack("xz -c", &content);
    let decoded = decode(Compression::Xz, &[&xz[..], &[0; 8], &xz].concat()).unwrap();
    assert_eq!(decoded.len(), 2 * content.len());
}

fn skippable(kind: u8, len: usize) -> Vec<u8> {
    let header = [0x50 | kind, 0x2a, 0x4d, 0x18];
    [&header[..], &u32::try_from(len).unwrap().to_le_bytes(), &vec![0xa5; len]].concat()
}

#[test]
fn skippable_frames_are_skipped_wherever_they_are() {
    let content = content(70_000, 13);
    for packed in [pack("zstd -q -c", &content), pack("lz4 -q -c", &content)] {
        let compression = sniff(&packed);
        let file =
            [skippable(0, 0), packed.clone(), skippable(15, 600_000), packed, skippable(3, 9)]
                .concat();
        assert_eq!(sniff(&file), compression);
        let decoded = decode(compression, &file).unwrap();
        assert!(decoded == [&content[..], &content].concat());
        for len in [file.len() - 1, file.len() - 12, file.len() - 16] {
            let error = decode(compression, &file[..len]).unwrap_err();
            assert!(format!("{error:#}").contains("incomplete"), "{error}");
        }
    }
}

/// Fails after its bytes were read.
struct Failing(io::Cursor<Vec<u8>>, Option<Error>);

impl Read for Failing {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buf)? {
            0 => Err(self
                .1
                .take()
                .map_or_else(|| io::Error::other("read again after the end"), Into::into)),
            n => Ok(n),
        }
    }
}

#[test]
fn errors_of_the_source_pass_through() {
    let content = content(40_000, 14);
    for (compression, packed) in samples(&content) {
        for len in [0, 1, 4, 12, packed.len() / 2, packed.len() - 1, packed.len()] {
            let wire = |error| Failing(io::Cursor::new(packed[..len].to_vec()), Some(error));
            let lost = Error::new(ErrorKind::Source, "the server went away")
                .at_offset(7)
                .hint("try again");
            let error = decode_with(compression, wire(lost), OPTIONS).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Source, "{compression:?} at {len}: {error}");
            assert_eq!(format!("{error:#}"), "the server went away");
            assert_eq!((error.offset(), error.next_step()), (Some(7), Some("try again")));
            let error = decode_with(compression, wire(Error::cancelled()), OPTIONS).unwrap_err();
            assert!(error.is_cancelled(), "{compression:?} at {len}: {error}");
        }
    }
}

/// Expects decoding to fail, on one thread and on several, with an error that contains all `words`.
fn refuses(compression: Compression, packed: &[u8], words: &[&str]) {
    for threads in [1, 4] {
        let options = DecodeOptions { threads, ..OPTIONS };
        let error =
            decode_with(compression, io::Cursor::new(packed.to_vec()), options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Format, "{error}");
        let text = format!("{error:?}");
        assert!(words.iter().all(|word| text.contains(word)), "{text}");
    }
}

#[test]
fn hostile_zstd_headers_are_refused_by_name() {
    const EMPTY_BLOCK: [u8; 3] = [1, 0, 0];
    let frame = |header: &[u8]| [&[0x28, 0xb5, 0x2f, 0xfd], header, &EMPTY_BLOCK[..]].concat();
    let zstd = |file: &[u8], words: &[&str]| refuses(Compression::Zstd, file, words);
    let huge = (1u64 << 60).to_le_bytes();
    zstd(
        &frame(&[0x00, 21 << 3]),
        &["its window is 2.0 GiB, and 128.0 MiB are allowed", "--long=27"],
    );
    zstd(&frame(&[&[0xe0][..], &huge].concat()), &["its window is 1.0 EiB"]);
    zstd(
        &frame(&[&[0xc0, 0][..], &huge].concat()),
        &["damaged", "another length than it declares"],
    );
    zstd(&frame(&[0x01, 0, 77]), &["dictionary 77"]);
    zstd(&[&frame(&[0, 0])[..6], &[7, 0, 0]].concat(), &["damaged"]);
    zstd(&[0x50, 0x2a, 0x4d, 0x18, 0xff, 0xff, 0xff, 0xff, 1, 2, 3], &["incomplete"]);
}

#[test]
fn a_hostile_xz_dictionary_is_refused_by_name() {
    let mut file = pack("xz -c", b"x")[..12].to_vec();
    // header of 12 bytes, one filter: LZMA2 with a dictionary of 1.5 GiB
    let header = [2, 0, 0x21, 1, 37, 0, 0, 0];
    file.extend_from_slice(&header);
    file.extend_from_slice(&crc32fast::hash(&header).to_le_bytes());
    file.resize(file.len() + 64, 0);
    refuses(
        Compression::Xz,
        &file,
        &["a dictionary of 1.5 GiB, and 192.0 MiB of memory are allowed", "xz -9"],
    );
}

#[test]
fn unsupported_variants_are_refused_with_a_reason() {
    let content = content(9_000, 15);
    refuses(Compression::Lz4, &pack("lz4 -q -l -c", &content), &["legacy format", "lz4 -dc"]);
    let mut randomised = pack("bzip2 -c", &content);
    randomised[14] |= 0x80;
    refuses(Compression::Bzip2, &randomised, &["randomized", "bzip2 -dc"]);
    refuses(
        Compression::Lz4,
        &[0x04, 0x22, 0x4d, 0x18, 0x61, 0x40, 1, 0, 0, 0, 0],
        &["dictionary"],
    );
    for compression in [
        Compression::Gzip,
        Compression::Xz,
        Compression::Bzip2,
        Compression::Zstd,
        Compression::Lz4,
    ] {
        refuses(compression, b"", &["incomplete"]);
        refuses(compression, b"no such format, and longer than any header", &[]);
    }
}

#[test]
fn an_lz4_frame_without_its_end_mark_is_incomplete() {
    let packed = pack("lz4 -q --no-frame-crc -c", &content(9_000, 16));
    let error = decode(Compression::Lz4, &packed[..packed.len() - 4]).unwrap_err();
    assert!(format!("{error:#}").contains("incomplete"), "{error}");
}

#[test]
fn zstd_presets_and_windows_fit_the_usual_memory() {
    let content = content(200_000, 17);
    let mut window_128_mib = pack("zstd -q --long=27 -c -", &content);
    assert_eq!(decode(Compression::Zstd, &window_128_mib).unwrap(), content);
    // the mantissa of the descriptor makes the window an eighth larger
    window_128_mib[5] = 17 << 3 | 1;
    refuses(Compression::Zstd, &window_128_mib, &["144.0 MiB"]);
    assert_eq!(decode(Compression::Xz, &pack("xz -9e -c", &content)).unwrap(), content);
}

#[test]
fn small_and_large_zstd_frames_are_delivered_in_order() {
    let large = vec![b'z'; 40 << 20];
    let contents =
        [content(300_000, 18), large, content(5_000_000, 19), Vec::new(), content(1, 20)];
    for threads in [1, 3] {
        for flags in ["zstd -q -1 -c", "zstd -q -1 -c -"] {
            let file: Vec<u8> = contents.iter().flat_map(|content| pack(flags, content)).collect();
            let options = DecodeOptions { threads, ..OPTIONS };
            let decoded = decode_with(
                Compression::Zstd,
                io::Cursor::new([&file[..], &file].concat()),
                options,
            )
            .unwrap();
            let expected = contents.concat();
            assert!(decoded == [&expected[..], &expected].concat(), "{flags} on {threads} threads");
        }
    }
}

#[test]
fn little_memory_only_slows_down() {
    let content = content(6_000_000, 21);
    let options = DecodeOptions { threads: 4, memory_bytes: 0 };
    for command in
        ["xz -1 -T2 --block-size=500000 -c", "bzip2 -c", "zstd -q -c", "pzstd -q -p 2 -c"]
    {
        let packed = pack(command, &content);
        let decoded = decode_with(sniff(&packed), io::Cursor::new(packed), options).unwrap();
        assert!(decoded == content, "{command}");
    }
}

/// Everything that is decoded before the end or an error, and the error.
fn decode_until_error(
    compression: Compression,
    wire: impl Read + Send + 'static,
    threads: usize,
) -> (Vec<u8>, Option<Error>) {
    let mut bytes = Vec::new();
    let options = DecodeOptions { threads, ..OPTIONS };
    let result = decoder(compression, Box::new(wire), options).unwrap().read_to_end(&mut bytes);
    (bytes, result.err().map(|e| Error::unwrap_io(e).expect("errors carry an Error")))
}

/// A zstd frame, with or without its size and checksum.
fn zstd_frame(content: &[u8], with_size: bool, with_checksum: bool) -> Vec<u8> {
    let mut encoder = ::zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.include_checksum(with_checksum).unwrap();
    encoder.include_contentsize(with_size).unwrap();
    if with_size {
        encoder.set_pledged_src_size(Some(content.len() as u64)).unwrap();
    }
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// An xz stream in blocks, with or without their sizes in the headers.
#[cfg(feature = "xz")]
fn xz_stream(content: &[u8], block_bytes: u64, with_sizes: bool) -> Vec<u8> {
    if with_sizes {
        let stream = liblzma::stream::MtStreamBuilder::new()
            .threads(1)
            .preset(0)
            .block_size(block_bytes)
            .check(liblzma::stream::Check::Crc32)
            .encoder()
            .unwrap();
        let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
        encoder.write_all(content).unwrap();
        return encoder.finish().unwrap();
    }
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 0);
    for block in content.chunks(block_bytes as usize) {
        encoder.write_all(block).unwrap();
        // ends a block
        encoder.flush().unwrap();
    }
    encoder.finish().unwrap()
}

#[test]
fn a_damaged_frame_among_many_is_an_error_at_its_offset() {
    let contents: Vec<_> = (0..40).map(|seed| content(50_000, seed)).collect();
    for with_size in [true, false] {
        let frames: Vec<_> =
            contents.iter().map(|content| zstd_frame(content, with_size, true)).collect();
        let offset: usize = frames[..25].iter().map(Vec::len).sum();
        let mut file = frames.concat();
        file[offset + frames[25].len() - 2] ^= 1;
        for threads in [1, 2, 4] {
            let wire = io::Cursor::new(file.clone());
            let (bytes, error) = decode_until_error(Compression::Zstd, wire, threads);
            let error = error.expect("a wrong checksum");
            assert_eq!(error.kind(), ErrorKind::Format);
            assert!(format!("{error:#}").contains("damaged"), "{error}");
            let whole = contents.concat();
            assert!(whole.starts_with(&bytes) && bytes.len() >= 25 * 50_000, "{}", bytes.len());
            if threads > 1 {
                assert_eq!(error.offset(), Some(offset as u64));
            }
        }
    }
}

#[test]
fn what_arrived_before_a_cancel_is_delivered() {
    let contents: Vec<_> = (0..40).map(|seed| content(50_000, seed)).collect();
    let frames: Vec<_> = contents.iter().map(|content| zstd_frame(content, true, true)).collect();
    for threads in [1, 4] {
        let wire = Failing(io::Cursor::new(frames[..30].concat()), Some(Error::cancelled()));
        let (bytes, error) = decode_until_error(Compression::Zstd, wire, threads);
        assert!(error.unwrap().is_cancelled());
        assert!(bytes == contents[..30].concat(), "{} bytes on {threads} threads", bytes.len());
    }
}

#[cfg(feature = "xz")]
#[test]
fn xz_blocks_equal_to_one_of_zeros_are_zeros_only_if_every_byte_is_equal() {
    let zeros = vec![0; 40 * 100_000];
    let content = [&zeros[..], &content(350_000, 30), &zeros, &[7], &zeros].concat();
    for with_sizes in [true, false] {
        let file = xz_stream(&content, 100_000, with_sizes);
        for threads in [1, 4] {
            let wire = io::Cursor::new(file.clone());
            let (bytes, error) = decode_until_error(Compression::Xz, wire, threads);
            assert!(error.is_none(), "{error:?}");
            assert_eq!(bytes.len(), content.len(), "sizes {with_sizes}, {threads} threads");
            let wrong = bytes.iter().zip(&content).position(|(found, right)| found != right);
            assert_eq!(wrong, None, "sizes {with_sizes}, {threads} threads");
        }
        // every byte of the blocks of zeros in the middle of the first run
        let block_bytes = 160;
        for at in 12 + 20 * block_bytes..12 + 21 * block_bytes {
            let mut damaged = file.clone();
            damaged[at] ^= 0x21;
            let (bytes, error) = decode_until_error(Compression::Xz, io::Cursor::new(damaged), 2);
            assert_eq!(error.map(|e| e.kind()), Some(ErrorKind::Format), "byte {at}");
            // the damaged block itself may begin with wrong bytes, as xz decodes before it checks
            let before = &bytes[..bytes.len().min(20 * 100_000)];
            assert!(content.starts_with(before), "byte {at}");
        }
    }
}

#[cfg(feature = "xz")]
#[test]
fn a_large_xz_block_is_streamed_and_little_memory_is_enough() {
    let content = [content(9_000_000, 31), vec![0; 20 << 20], content(70_001, 32)].concat();
    for with_sizes in [true, false] {
        let file = xz_stream(&content, 15 << 20, with_sizes);
        let options = DecodeOptions { threads: 3, memory_bytes: 0 };
        let twice = io::Cursor::new([&file[..], &file].concat());
        let decoded = decode_with(Compression::Xz, twice, options).unwrap();
        assert!(decoded == [&content[..], &content].concat());
    }
}

#[cfg(feature = "xz")]
#[test]
fn an_xz_index_that_differs_from_the_blocks_is_damage() {
    let content = content(300_000, 33);
    let (one, other) = (xz_stream(&content, 100_000, true), xz_stream(&content, 150_000, true));
    let index_bytes = |file: &[u8]| {
        let size = file[file.len() - 8..file.len() - 4].try_into().unwrap();
        (u32::from_le_bytes(size) as usize + 1) * 4 + 12
    };
    let blocks = &one[..one.len() - index_bytes(&one)];
    let mixed = [blocks, &other[other.len() - index_bytes(&other)..]].concat();
    refuses(Compression::Xz, &mixed, &["damaged", "the index differs from the blocks"]);
    for at in blocks.len()..one.len() {
        let mut damaged = one.clone();
        damaged[at] ^= 4;
        refuses(Compression::Xz, &damaged, &["damaged"]);
        refuses(Compression::Xz, &one[..at], &["incomplete"]);
    }
}

#[cfg(feature = "bzip2")]
#[test]
fn bzip2_blocks_of_zeros_and_of_data_are_delivered_in_order() {
    let zeros = vec![0; 100_000_000];
    let content = [&content(2_000_000, 34)[..], &zeros, &content(3_000_000, 35)].concat();
    let packed = pack("bzip2 -c", &content);
    for (threads, memory_bytes) in [(2, 192 * MIB), (4, 0)] {
        let options = DecodeOptions { threads, memory_bytes };
        let wire = io::Cursor::new([&packed[..], &packed].concat());
        let mut reader = decoder(Compression::Bzip2, Box::new(wire), options).unwrap();
        let mut piece = vec![1; 1 << 20];
        for part in [&content[..], &content].into_iter().flat_map(|c| c.chunks(1 << 20)) {
            reader.read_exact(&mut piece[..part.len()]).unwrap();
            assert!(&piece[..part.len()] == part);
        }
        assert_eq!(reader.read(&mut piece).unwrap(), 0);
    }
}

fn size_of(packed: &[u8]) -> Option<u64> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(packed).unwrap();
    decoded_size(sniff(packed), &*local::open(file.path()).unwrap(), &CancelToken::new())
}

#[test]
fn the_decoded_size_is_found_if_stated() {
    let content = content(1_000_001, 22);
    let stated = Some(content.len() as u64);
    for (command, expected) in [
        ("xz -0 -c", stated),
        ("xz -0 -T2 --block-size=70000 -c", stated),
        ("zstd -q -c", stated),
        ("zstd -q -c -", None),
        ("lz4 -q --content-size -c", stated),
        ("lz4 -q -BX -BD -B4 --content-size -c", stated),
        ("lz4 -q -c", None),
        ("gzip -c", None),
        ("bzip2 -c", None),
    ] {
        let packed = pack(command, &content);
        assert_eq!(size_of(&packed), expected, "{command}");
        let twice = [packed.clone(), packed.clone()].concat();
        assert_eq!(size_of(&twice), expected.map(|size| 2 * size), "{command}, twice");
        assert_eq!(size_of(&packed[..packed.len() - 1]), None, "{command}, cut");
        assert_eq!(size_of(&[&packed[..], b"garbage"].concat()), None, "{command}, and garbage");
    }
    let xz = pack("xz -0 -c", &content);
    assert_eq!(size_of(&[&xz[..], &[0; 8192 + 4], &xz, &[0; 4]].concat()), Some(2_000_002));
    assert_eq!(size_of(&pack("xz -c", b"")), Some(0));
    let zstd = pack("zstd -q -c", &content);
    assert_eq!(size_of(&[skippable(1, 70_000), zstd, skippable(2, 0)].concat()), stated);
    let claim =
        [&[0x28, 0xb5, 0x2f, 0xfd, 0xc0, 0][..], &(1u64 << 60).to_le_bytes(), &[1, 0, 0]].concat();
    assert_eq!(size_of(&claim), None);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200, failure_persistence: None, ..ProptestConfig::default()
    })]

    /// Random bytes after a valid magic: an error or an image, in bounded time.
    #[test]
    fn never_panics_on_foreign_bytes(
        kind in 0usize..5,
        bytes in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        let (compression, magic) = [
            (Compression::Gzip, &[0x1f, 0x8b, 8][..]),
            (Compression::Xz, &[0xfd, b'7', b'z', b'X', b'Z', 0, 0, 4, 0xe6, 0xd6, 0xb4, 0x46]),
            (Compression::Bzip2, b"BZh91AY&SY"),
            (Compression::Zstd, &[0x28, 0xb5, 0x2f, 0xfd]),
            (Compression::Lz4, &[0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82]),
        ][kind];
        let file = [magic, &bytes].concat();
        let _ = decode(compression, &file);
        let _ = size_of(&file);
    }

    /// Several changed bytes in a valid lz4 frame without checksums: only the block decoder can
    /// detect them.
    #[test]
    fn never_panics_on_damaged_lz4_blocks(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        thread_local!(
            static PACKED: Vec<u8> =
                pack("lz4 -q -BD -B4 --no-frame-crc -c", &content(200_000, 23))
        );
        let mut packed = PACKED.with(Clone::clone);
        let len = packed.len();
        for (at, value) in changes {
            packed[7 + at.index(len - 7)] = value;
        }
        let _ = decode(Compression::Lz4, &packed);
    }

    /// Small frames and large ones, with and without sizes, and skippable frames between them: any
    /// number of threads gives the bytes and the kind of error that one thread gives.
    #[test]
    fn any_number_of_threads_decodes_zstd_alike(
        parts in prop::collection::vec(
            (0usize..90_000, any::<bool>(), any::<bool>(), 0usize..4), 1..40
        ),
        threads in 2usize..5,
        damage in prop::option::of(any::<prop::sample::Index>()),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        thread_local!(static CONTENT: Vec<u8> = content(100_000, 24));
        let mut file = Vec::new();
        let mut whole = Vec::new();
        for (len, with_size, with_checksum, kind) in parts {
            let data = || CONTENT.with(|content| content[..len].to_vec());
            let part = if kind == 0 { vec![0; len] } else { data() };
            file.extend(zstd_frame(&part, with_size, with_checksum));
            whole.extend(part);
            if kind == 1 {
                file.extend(skippable(3, len % 700));
            }
        }
        if let Some(at) = damage {
            let at = at.index(file.len());
            file[at] ^= 0x40;
        }
        if let Some(at) = cut {
            file.truncate(at.index(file.len()));
        }
        let (one, first) = decode_until_error(Compression::Zstd, io::Cursor::new(file.clone()), 1);
        let (bytes, error) = decode_until_error(Compression::Zstd, io::Cursor::new(file), threads);
        prop_assert_eq!(first.as_ref().map(Error::kind), error.as_ref().map(Error::kind));
        match error {
            None => prop_assert!(bytes == one),
            // one thread delivers the start of the frame that is damaged as well
            Some(_) => prop_assert!(one.starts_with(&bytes)),
        }
        if damage.is_none() {
            prop_assert!(whole.starts_with(&bytes));
        }
    }
}
