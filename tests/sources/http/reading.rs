//! Reads from nginx.

use super::*;

#[test]
fn reads_from_nginx_as_a_whole_and_at_offsets() {
    let nginx = Nginx::start("");
    let body = pattern(LEN);
    let url = nginx.put("disk%2B1.img", &body).replace('%', "%25");
    assert_eq!(read(&url).unwrap(), body);

    let source = Client::new(options()).open(&url, &CancelToken::new()).unwrap();
    assert_eq!((source.name(), source.len_bytes()), ("disk%2B1.img", Some(LEN as u64)));
    for (offset, len) in [
        (0, 1),
        (1, 4096),
        (LEN - 1, 1),
        (LEN - 1, 2),
        (LEN, 1),
        (LEN + 7, 1),
        (0, LEN + 1),
        (5, 0),
    ] {
        let expected = &body[offset.min(LEN)..(offset + len).min(LEN)];
        assert_eq!(read_at(&url, offset as u64, len).unwrap(), expected, "{len} bytes at {offset}");
    }
}

#[test]
fn reads_from_nginx_without_ranges_from_the_start_only() {
    let nginx = Nginx::start("max_ranges 0;");
    let body = pattern(LEN);
    let url = nginx.put("disk.img", &body);
    assert_eq!(read(&url).unwrap(), body);
    let error = assert_fails(read_at(&url, 1, 1), "cannot be read from the middle");
    assert!(error.next_step().unwrap().contains("download the file first"));
}

#[test]
fn reads_small_and_empty_files_from_nginx() {
    for settings in ["", "max_ranges 0;"] {
        let nginx = Nginx::start(settings);
        for len in [0, 1, 2] {
            assert_eq!(
                read(&nginx.put("small", &pattern(len))).unwrap(),
                pattern(len),
                "{len} {settings}"
            );
        }
        assert_fails(read(&nginx.put("there", b"").replace("there", "missing")), "404");
    }
}

#[test]
fn trusts_an_authority_that_is_given_and_no_other() {
    let nginx = Nginx::start_tls();
    let url = nginx.put("disk.img", b"over tls");
    let error = assert_fails(read(&url), "certificate is not trusted");
    assert!(error.next_step().unwrap().contains("clock"));
    assert!(!format!("{error:#}").contains("attempts"), "it is not tried again: {error}");

    let mut options = options();
    options.ca_files.push(nginx.ca_file());
    assert_eq!(
        Client::new(options).read_small(&url, LIMIT, &CancelToken::new()).unwrap(),
        b"over tls"
    );
}
