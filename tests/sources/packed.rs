//! Frames of packed images, read by ranges from web servers and a registry.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bty::image::OpenOptions;
use bty::pack::{PackFrame, PackOptions, pack, read_frames};
use bty::{CancelToken, Client, Digest, Error, ErrorKind, Image};
use bty_tests::nginx::Nginx;
use bty_tests::registry::Registry;
use bty_tests::server::{Reply, Request, Server};
use oci_client::client::ImageLayer;

use crate::sources::http;
use crate::sources::oci::{IMAGE, push};

const FRAME: usize = 64 << 10;

/// Disk content of `frames` frames that do not compress. Two `seed`s differ in all of it.
fn noise(frames: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut content: Vec<u8> = (0..frames * FRAME / 8)
        .flat_map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state ^ state >> 29).to_le_bytes()
        })
        .collect();
    content[510..512].copy_from_slice(&[0x55, 0xaa]);
    content
}

/// A packed image: the content of the disk, the file, and the digest of its index.
struct Packed {
    content: Vec<u8>,
    file: Vec<u8>,
    index: Digest,
}

fn packed(frames: usize, seed: u64) -> Packed {
    let content = noise(frames, seed);
    let (client, cancel) = (Client::default(), CancelToken::new());
    let bytes: Arc<[u8]> = content.clone().into();
    let image =
        Image::from_source(&client, "memory", bytes, &OpenOptions::default(), &cancel).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.img.zst");
    let report = pack(&image, &path, &PackOptions::default().level(1), &(), &cancel).unwrap();
    Packed { content, file: std::fs::read(path).unwrap(), index: report.index_sha256 }
}

fn open(url: &str, options: &OpenOptions) -> bty::Result<Image> {
    Image::open(&Client::new(http::options()), url, options, &CancelToken::new())
}

/// Reads `frames` of `image`, and compares them with the disk.
fn read(packed: &Packed, image: &Image, frames: &[u32]) -> bty::Result<()> {
    let read = read_frames(image, frames.to_vec(), &CancelToken::new())?;
    let read: Vec<(u32, Vec<u8>)> = read.collect::<bty::Result<_>>()?;
    assert_eq!(read.iter().map(|(number, _)| *number).collect::<Vec<_>>(), frames);
    for (number, content) in read {
        let start = number as usize * FRAME;
        assert!(packed.content[start..start + FRAME] == content, "frame {number}");
    }
    Ok(())
}

/// A server that answers correctly while the image is opened. Then `script` answers the requests,
/// counted from 0.
fn after_opening(
    packed: &Packed,
    options: &OpenOptions,
    script: impl Fn(usize, &Request, &[u8]) -> Reply + Send + Sync + 'static,
) -> (Server, Image, usize) {
    let opened = Arc::new(std::sync::OnceLock::new());
    let (file, first) = (packed.file.clone(), Arc::clone(&opened));
    let server = Server::start(move |request| match first.get() {
        Some(first) => script(request.number - first, request, &file),
        None => Reply::file(request, &file, "\"v1\""),
    });
    let image = open(&server.url("/a.img.zst"), options).unwrap();
    let requests = server.requests().len();
    opened.set(requests).unwrap();
    (server, image, requests)
}

fn file(request: &Request, file: &[u8]) -> Reply {
    Reply::file(request, file, "\"v1\"")
}

/// First byte and length of each range that was requested after the first `skip` requests, in
/// ascending order.
fn ranges(server: &Server, skip: usize) -> Vec<(usize, usize)> {
    let requests = server.requests();
    let ranges = requests[skip..].iter().map(|request| {
        let range = request.header("range").expect("only ranges are requested");
        assert!(!range.contains(','), "one range in a request: {range}");
        let (start, end) = request.range(usize::MAX).unwrap();
        (start, end - start)
    });
    let mut ranges: Vec<_> = ranges.collect();
    ranges.sort_unstable();
    ranges
}

fn frames(image: &Image) -> Vec<PackFrame> {
    image.pack_index().unwrap().frames().to_vec()
}

#[test]
fn near_frames_share_a_request_and_no_other_byte_is_fetched() {
    let packed = packed(40, 1);
    let options = OpenOptions::default().pack_index_sha256(packed.index);
    let (server, image, opening) = after_opening(&packed, &options, |_, request, body| {
        assert_eq!(request.header("accept-encoding"), Some("identity"));
        file(request, body)
    });
    let tails = server
        .requests()
        .iter()
        .filter(|r| r.range(packed.file.len()).is_some_and(|(_, end)| end == packed.file.len()))
        .count();
    assert_eq!(tails, 1, "the index costs one request");
    read(&packed, &image, &[0, 1, 3, 20, 39]).unwrap();
    let frames = frames(&image);
    let range = |first: usize, last: usize| {
        let (first, last) = (&frames[first], &frames[last]);
        let end = last.file_offset + u64::from(last.file_bytes);
        let len = usize::try_from(end - first.file_offset).unwrap();
        (usize::try_from(first.file_offset).unwrap(), len)
    };
    assert_eq!(ranges(&server, opening), [range(0, 3), range(20, 20), range(39, 39)]);
}

#[test]
fn a_real_server_delivers_any_frames() {
    let packed = packed(300, 2);
    let nginx = Nginx::start("");
    let url = nginx.put("a.img.zst", &packed.file);
    let image = open(&url, &OpenOptions::default()).unwrap();
    for step in [1, 2, 7, 299] {
        let frames: Vec<u32> = (0..300).step_by(step).collect();
        read(&packed, &image, &frames).unwrap();
    }
}

#[test]
fn a_server_that_forgets_ranges_is_read_once_from_its_start() {
    let packed = packed(60, 3);
    let far: Vec<u32> = (0..60).step_by(6).collect();
    for ranges in [0, 1, 5] {
        let (server, image, opening) =
            after_opening(&packed, &OpenOptions::default(), move |n, request, body| {
                if n < ranges {
                    file(request, body)
                } else {
                    Reply::whole(body).header("ETag", "\"v1\"")
                }
            });
        read(&packed, &image, &far).unwrap();
        assert!(server.requests().len() - opening <= far.len(), "nothing is requested twice");
    }
}

#[test]
fn a_server_that_forgets_ranges_within_a_frame_is_read_from_its_start() {
    let packed = packed(20, 4);
    let (server, image, opening) =
        after_opening(&packed, &OpenOptions::default(), |n, request, body| match n {
            0 => file(request, body).close_after(5 * FRAME / 2),
            // even the whole file breaks off once
            1 => Reply::whole(body).header("ETag", "\"v1\"").close_after(4 * FRAME),
            _ => Reply::whole(body).header("ETag", "\"v1\""),
        });
    read(&packed, &image, &(3..12).collect::<Vec<_>>()).unwrap();
    assert_eq!(server.requests().len() - opening, 3);
}

#[test]
fn short_bodies_are_continued() {
    let packed = packed(20, 5);
    let (server, image, opening) =
        after_opening(&packed, &OpenOptions::default(), |_, request, body| {
            file(request, body).close_after(FRAME)
        });
    read(&packed, &image, &[2, 3, 4]).unwrap();
    assert_eq!(server.requests().len() - opening, 4);
}

#[track_caller]
fn assert_fails(outcome: bty::Result<()>, kind: ErrorKind, with: &str) -> Error {
    let error = outcome.expect_err(with);
    assert_eq!(error.kind(), kind, "{error:?}");
    assert!(format!("{error:#}").contains(with), "{error:?} does not say {with:?}");
    assert!(error.next_step().is_some(), "{error:?} gives no next step");
    error
}

#[test]
fn two_versions_are_never_mixed() {
    let (old, new) = (packed(30, 6), packed(30, 7));
    let changed = new.file.clone();
    assert_eq!(old.file.len(), changed.len());
    // before the first frame, and between two of them
    for from in [0, 2] {
        let changed = changed.clone();
        let (_server, image, _) =
            after_opening(&old, &OpenOptions::default(), move |n, request, body| {
                if n < from {
                    file(request, body)
                } else {
                    Reply::file(request, &changed, "\"v2\"")
                }
            });
        let outcome = read(&old, &image, &[0, 8, 16, 24]);
        assert_fails(outcome, ErrorKind::Source, "changed while it was read");
    }
    // servers may name versions as they like, because the index proves the frames
    for promised in [None, Some(old.index)] {
        let options = OpenOptions::default().pack_index_sha256(promised);
        let (_server, image, _) = after_opening(&old, &options, |n, request, body| {
            Reply::file(request, body, &format!("\"mirror {n}\""))
        });
        read(&old, &image, &[0, 8, 16, 24]).unwrap();
    }
}

#[test]
fn wrong_ranges_are_refused() {
    let packed = packed(20, 8);
    type Answer = fn(&Request, &[u8]) -> Reply;
    let cases: [(&str, Answer); 4] = [
        ("requested the bytes", |request, body| {
            let (start, end) = request.range(body.len()).unwrap();
            Reply::part(body, start + 1, end)
        }),
        ("requested the bytes", |_, body| Reply::status(206).body(body)),
        ("changed while it was read", |_, _| {
            Reply::status(416).header("Content-Range", "bytes */999")
        }),
        ("changed while it was read", |_, body| Reply::whole(&body[1..])),
    ];
    for (with, reply) in cases {
        let (_server, image, _) = after_opening(&packed, &OpenOptions::default(), {
            move |_, request, body| reply(request, body)
        });
        assert_fails(read(&packed, &image, &[5]), ErrorKind::Source, with);
    }
}

#[test]
fn a_frame_that_differs_from_the_index_is_not_delivered() {
    let packed = packed(20, 9);
    let (_server, image, _) =
        after_opening(&packed, &OpenOptions::default(), |_, request, body| {
            let mut body = body.to_vec();
            body[9 * FRAME] ^= 1;
            Reply::file(request, &body, "\"v1\"")
        });
    let mut read = read_frames(&image, vec![2, 8, 15], &CancelToken::new()).unwrap();
    assert_eq!(read.next().unwrap().unwrap().0, 2);
    let error = read.next().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Integrity, "{error:?}");
    assert_eq!(error.offset(), Some(frames(&image)[8].file_offset));
}

#[test]
fn signed_addresses_are_renewed() {
    let packed = packed(60, 10);
    let body = packed.file.clone();
    // each signature is good for the requests of one open, or for three ranges
    let storage = Server::start(move |request| match request.target.as_str() {
        "/signed?1" if request.number > 6 => Reply::status(403),
        _ => Reply::file(request, &body, "\"v1\""),
    });
    let signed = [storage.url("/signed?1"), storage.url("/signed?2")];
    let redirector = Server::start(move |request| {
        Reply::status(307).header("Location", &signed[usize::from(request.number > 0)])
    });
    let image = open(&redirector.url("/a.img.zst"), &OpenOptions::default()).unwrap();
    read(&packed, &image, &(0..60).step_by(6).collect::<Vec<_>>()).unwrap();
    let targets: Vec<_> = storage.requests().iter().map(|r| r.target.clone()).collect();
    assert!(targets.contains(&"/signed?2".to_owned()));
    assert!(redirector.requests().len() <= 5, "at most one renewal for each connection");
}

#[test]
fn a_cancel_ends_the_reading_of_frames_that_do_not_arrive() {
    let packed = packed(20, 11);
    let (server, image, opening) =
        after_opening(&packed, &OpenOptions::default(), |_, request, body| {
            file(request, body).stall_after(100)
        });
    let cancel = CancelToken::new();
    let mut read = read_frames(&image, vec![0, 10], &cancel).unwrap();
    let canceller = std::thread::spawn(move || {
        while server.requests().len() == opening {
            std::thread::sleep(Duration::from_millis(1));
        }
        cancel.cancel();
        server
    });
    assert!(read.next().unwrap().unwrap_err().is_cancelled());
    drop(canceller.join().unwrap());
}

#[test]
fn a_registry_delivers_frames_and_promises_the_index() {
    let packed = packed(80, 12);
    let registry = Registry::start();
    let layer = |index: Digest| {
        let annotations = [
            ("org.opencontainers.image.title", "disk.img.zst".to_owned()),
            ("org.bty.pack.index.sha256", index.to_string()),
        ];
        let annotations: BTreeMap<_, _> =
            annotations.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        ImageLayer::new(packed.file.clone(), IMAGE.to_owned(), Some(annotations))
    };
    push(&registry, "team/packed:v1", &[layer(packed.index)]);
    push(&registry, "team/packed:v2", &[layer(Digest::of(b"another"))]);
    let mut options = http::options();
    options.plain_http = true;
    let client = Client::new(options);
    let open = |tag: &str| {
        let reference = format!("oras://{}/team/packed:{tag}", registry.host());
        Image::open(&client, &reference, &OpenOptions::default(), &CancelToken::new())
    };
    let image = open("v1").unwrap();
    assert_eq!(image.info().expected_pack_index_sha256, Some(packed.index));
    read(&packed, &image, &[0, 1, 2, 40, 79]).unwrap();
    let error = open("v2").err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Integrity, "{error:?}");
}

#[test]
fn a_server_that_obeys_only_later_ranges_delivers_frames() {
    let packed = packed(20, 13);
    let body = packed.file.clone();
    let server = Server::start(move |request| match request.number {
        0 => Reply::whole(&body).header("Accept-Ranges", "bytes"),
        _ => file(request, &body),
    });
    let options = OpenOptions::default().pack_index_sha256(packed.index);
    let image = open(&server.url("/a.img.zst"), &options).unwrap();
    read(&packed, &image, &[3, 19]).unwrap();
}
