//! Packed forms: made in the background, served in ranges.

use bty::image::OpenOptions;
use bty::{CancelToken, Client, Image};
use bty_tests::images::gpt_image;

use super::*;

/// Fetches the object at `url`, and waits until its packed form is there.
pub(crate) fn packed(web: &Web, url: &str) -> Value {
    let _ = web.get(&path(url)).expect(200);
    let state = wait(web, "has the packed form", |state| !state["objects"][0]["packed"].is_null());
    state["objects"][0]["packed"].clone()
}

#[test]
fn the_library_reads_a_packed_form_in_parts() {
    let content = gpt_image(8 * MIB, 512);
    let origin = Nginx::start("");
    let url = origin.put("debian.img.gz", &bty_tests::images::filter(&["gzip", "-1c"], &content));
    let web = Web::cache(&[], &[]);
    let form = packed(&web, &url);
    let at = form["path"].as_str().unwrap();
    let index = form["index_sha256"].as_str().unwrap();
    let whole = web.get(at).expect(200);
    assert_eq!(form["size_bytes"], json!(whole.body.len()));
    assert_eq!(whole.header("x-packed-index-sha256"), Some(index));
    let etag = whole.header("etag").unwrap().to_owned();
    assert_eq!(etag, format!("\"{}\"", Digest::of(&whole.body)), "strong");
    let part = web.request("GET", at, &[("Range", "bytes=100-199"), ("If-Range", &etag)], b"");
    assert_eq!(part.expect(206).body, whole.body[100..200]);
    let head = web.request("HEAD", at, &[], b"").expect(200);
    assert_eq!(head.header("content-length"), Some(&*whole.body.len().to_string()));
    assert_eq!(web.request("GET", at, &[("If-None-Match", &etag)], b"").status, 304);
    assert_eq!(web.get(&format!("/packed/{}/a.img.zst", "0".repeat(64))).status, 404);
    assert_eq!(web.get("/packed/short/a.img.zst").status, 400);
    // what a server asks about the object as published
    let known = web.request("HEAD", &path(&url), &[], b"").expect(200);
    assert_eq!(known.header("x-packed-index-sha256"), Some(index));
    let options = OpenOptions::default().pack_index_sha256(index.parse::<Digest>().unwrap());
    let (client, cancel) = (Client::default(), CancelToken::new());
    let address = format!("{}{at}", web.base());
    let image = Image::open(&client, &address, &options, &cancel).unwrap();
    let read = image.read_fully(&(), &cancel).unwrap();
    assert_eq!(read.disk_bytes, content.len() as u64);
    assert!(image.source().is_seekable());
    let mut bytes = [0; 1000];
    image.source().read_at(&mut bytes, 5000, &cancel).unwrap();
    assert_eq!(bytes, whole.body[5000..6000]);
    assert!(web.get("/events").text().contains("cache.object.packed"));
}

#[test]
fn a_cache_host_that_must_not_pack_keeps_what_is_packed() {
    let origin = Nginx::start("");
    let url = origin.put("debian.img", &gpt_image(8 * MIB, 512));
    let mut web = Web::cache(&[], &[]);
    let form = packed(&web, &url);
    web.kill();
    web.start_again();
    assert_eq!(wait_idle(&web)["objects"][0]["packed"], form, "also after a crash");
    let other = Web::cache(&[], &[("BTY_CACHE_PACK", "0")]);
    let _ = other.get(&path(&url)).expect(200);
    assert!(wait_idle(&other)["objects"][0]["packed"].is_null());
    assert_eq!(other.get(form["path"].as_str().unwrap()).status, 404);
}
