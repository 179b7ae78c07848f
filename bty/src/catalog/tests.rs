//! Tests catalogs as existing publishers write them, hostile ones, and those that bty writes.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

/// A catalog as existing publishers write it, with unknown keys.
const PUBLISHED: &str = r#"
# a rolling catalog
version = 1
generated = 2026-05-01T12:00:00Z

[[images]]
name = "nosi headless (x86_64, stable)"
src = "oras://GHCR.io/safl/nosi/headless:2026.W18"
sha256 = " E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855"
ref = "0000000000000000000000000000000000000000000000000000000000000000"
format = "img.gz"
size_bytes = 1_234_567
description = "sensible defaults"
arch = "x86_64"
netboot_ref = "later"

[[images]]
name = "debian-13-arm64.IMG.ZST"
src = "https://example.org/images/debian?id=13"

[[images]]
name = "extra"
src = "https://example.org/extra.img.xz"
format = ""

[meta]
publisher = "example"
"#;

fn published() -> String {
    let image_ref = Digest::of(b"oras://ghcr.io/safl/nosi/headless:2026.W18");
    PUBLISHED.replace(&"0".repeat(64), &image_ref.to_string())
}

fn problem(toml: &str) -> String {
    let error = Catalog::parse(toml.as_bytes()).expect_err(toml);
    assert_eq!(error.kind(), ErrorKind::Catalog);
    format!("{error:#}")
}

fn one(fields: &str) -> String {
    format!("version = 1\n[[images]]\n{fields}\n")
}

#[test]
fn published_catalogs_are_parsed() {
    let catalog = Catalog::parse(published().as_bytes()).unwrap();
    let [nosi, debian, extra] = catalog.entries() else { panic!("{catalog:?}") };
    assert_eq!(nosi.src(), "oras://GHCR.io/safl/nosi/headless:2026.W18");
    assert_eq!(nosi.sha256, Some(Digest::of(b"")));
    assert_eq!(nosi.size_bytes, Some(1_234_567));
    assert_eq!(nosi.description.as_deref(), Some("sensible defaults"));
    assert_eq!((nosi.format.as_deref(), nosi.arch.as_deref()), (Some("img.gz"), Some("x86_64")));
    assert_eq!(
        (debian.format.as_deref(), debian.arch.as_deref()),
        (Some("img.zst"), Some("arm64"))
    );
    assert_eq!((extra.format.as_deref(), extra.arch.as_deref()), (Some("img.xz"), None));
    assert_eq!(catalog.by_ref(&debian.image_ref()).unwrap().name, debian.name);
    assert_eq!(serde_json::to_value(debian).unwrap()["ref"], debian.image_ref().to_string());
}

#[test]
fn a_catalog_without_images_is_empty() {
    for toml in ["version = 1", "version = 0x1\nimages = []"] {
        assert!(Catalog::parse(toml.as_bytes()).unwrap().entries().is_empty());
    }
}

#[test]
fn all_problems_are_reported_at_once_with_line_entry_and_field() {
    let toml = r#"version = 1
[[images]]
name = "a"
src = "https://example.org/a.img"
sha256 = "abc"
size_bytes = -1

[[images]]
src = "ftp://example.org/b.img"

[[images]]
name = "a"
src = "file:///srv/c.img"
description = 5

[[images]]
name = "d"
src = "https://example.org/d.img"
ref = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
"#;
    insta::assert_snapshot!(problem(toml), @r##"
    8 problems:
      line 5: entry "a": sha256 must be 64 hexadecimal digits, not "abc"
      line 6: entry "a": size_bytes is negative or too large
      line 8: entry 2: name is missing
      line 9: entry 2 (without a name): src "ftp://example.org/b.img" has a scheme that is not supported
      line 12: entry "a": the name is taken by line 3
      line 13: entry "a": src "file:///srv/c.img" is a local file; a catalog names only what other machines can reach
      line 14: entry "a": description must be a string, not integer
      line 19: entry "d": ref is e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855, but src makes it 0f37365cb264473524863369b67cb01c8c3208629ebf369bcad6d069f092465f
    "##);
}

#[test]
fn each_rule_has_a_message_of_its_own() {
    let cases = [
        "version = ",
        "images = []",
        "version = 2",
        "version = \"1\"",
        "version = true",
        "version = 1\nimages = 3",
        "version = 1\nimages = [1]",
        "version = 1\n[images]\nname = \"a\"",
        &one("name = \"a\""),
        &one("src = \"https://h/a\"\nname = \" \""),
        &one("name = 1\nsrc = \"https://h/a\""),
        &one("name = \"a\"\nsrc = \"/srv/a.img\""),
        &one("name = \"a\"\nsrc = \"https://h/a\"\nsize_bytes = 1.5"),
        &one("name = \"a\"\nsrc = \"https://h/a\"\nsize_bytes = 9223372036854775808"),
        &one("name = \"a\"\nsrc = \"https://h/a\"\nsha256 = \"sha256:00\""),
    ];
    let messages: Vec<_> = cases.map(problem).into();
    insta::assert_snapshot!(messages.join("\n"), @r##"
    line 1: not valid TOML: string values must be quoted, expected literal string
    version is missing, this bty understands version=1
    line 1: version=2, this bty understands version=1
    line 1: version="1", this bty understands version=1
    line 1: version=boolean, this bty understands version=1
    line 2: images must be an array of tables, not integer
    line 2: entry 1 must be a table, not integer
    line 2: images must be an array of tables, not table
    line 2: entry "a": src is missing
    line 4: entry 1: name is empty
    line 3: entry 1: name must be a string, not integer
    line 4: entry "a": src "/srv/a.img" has no scheme
    line 5: entry "a": size_bytes must be an integer, not float
    line 5: entry "a": size_bytes is negative or too large
    line 5: entry "a": sha256 must be 64 hexadecimal digits, not "sha256:00"
    "##);
}

#[test]
fn a_packed_image_needs_the_digest_of_its_index() {
    let entry = |more: &str| one(&format!("name = \"a\"\nsrc = \"https://h/a.img.xz\"\n{more}"));
    let index = format!("index_sha256 = \"{}\"\n", Digest::of(b"index"));
    let packed = "packed = \"https://h/a.img.zst\"\n";
    let both = Catalog::parse(entry(&format!("{packed}{index}")).as_bytes()).unwrap();
    let both = &both.entries()[0];
    assert_eq!(both.packed.as_deref(), Some("https://h/a.img.zst"));
    assert_eq!(both.index_sha256, Some(Digest::of(b"index")));
    let alone = Catalog::parse(entry(&index).as_bytes()).unwrap();
    assert_eq!(alone.entries()[0].index_sha256, Some(Digest::of(b"index")), "the image is packed");
    assert!(problem(&entry(packed)).contains("packed needs index_sha256"));
    let local = problem(&entry(&format!("packed = \"file:///srv/a.img.zst\"\n{index}")));
    assert!(local.contains("is a local file"), "{local}");
}

#[test]
fn invalid_utf8_is_reported_with_its_line() {
    let error = Catalog::parse(b"version = 1\n\xff").unwrap_err();
    assert_eq!(format!("{error:#}"), "line 2: not valid UTF-8");
    assert_eq!(error.offset(), Some(12));
}

#[test]
fn foreign_text_cannot_reach_the_terminal_unescaped() {
    let text = problem(&one(&format!("name = \"\\u001B[2J{}\"\nsrc = \"x\"", "y".repeat(5000))));
    let text =
        text + &problem(&one(&format!("name = \"a\"\nsrc = \"https://{}:x/\"", "y".repeat(5000))));
    let text =
        text + &problem(&one(&format!("name = \"a\"\nsrc = \"file:///{}\"", "y".repeat(5000))));
    assert!(!text.contains('\u{1b}') && text.len() < 1000, "{text}");
}

#[test]
fn hostile_files_are_refused_within_a_second() {
    let images = "[[images]]\n".repeat(90_000);
    let nested = format!("version = 1\nx = {}", "[".repeat(1_000_000));
    let dotted = format!("version = 1\n{}a = 1", "a.".repeat(500_000));
    let tables = (0..50_000).map(|i| format!("[a.b{i}.c.d]\n")).collect::<String>();
    let same = format!(
        "version = 1\n{}",
        "[[images]]\nname = \"a\"\nsrc = \"https://h/a\"\n".repeat(50_000)
    );
    for toml in [
        images,
        nested,
        dotted,
        tables,
        same,
        "\"".repeat(1 << 20),
        "x".repeat((MAX_BYTES + 1) as usize),
    ] {
        let start = Instant::now();
        let text = problem(&toml);
        assert!(text.len() < 5000, "{}", text.len());
        assert!(start.elapsed() < Duration::from_secs(20), "{:?} {:.60}", start.elapsed(), toml);
    }
}

#[test]
fn an_error_names_the_catalog_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("catalog.toml");
    let load = |reference: &str| Catalog::load(&Client::default(), reference, &CancelToken::new());
    std::fs::write(&path, published()).unwrap();
    let shown = path.to_str().unwrap();
    assert_eq!(load(shown).unwrap().entries().len(), 3);
    assert_eq!(load(&format!("file://{shown}")).unwrap(), load(shown).unwrap());

    std::fs::write(&path, "version = 3").unwrap();
    let error = load(shown).unwrap_err();
    assert_eq!(error.path(), Some(shown));
    assert_eq!(
        format!("{error:#}"),
        format!("reading the catalog {shown}: line 1: version=3, this bty understands version=1")
    );

    std::fs::write(&path, vec![b'#'; MAX_BYTES as usize + 1]).unwrap();
    let error = load(shown).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Catalog);
    assert!(format!("{error:#}").ends_with("is larger than 4.0 MiB"), "{error}");

    std::fs::remove_file(&path).unwrap();
    let error = load(shown).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Catalog);
    assert!(format!("{error:#}").contains("No such file"), "{error}");
    assert_eq!(load("gopher://h/c").unwrap_err().kind(), ErrorKind::Usage);
}

#[test]
fn an_unknown_name_gets_similar_names_as_a_hint() {
    let catalog = Catalog::parse(published().as_bytes()).unwrap();
    assert_eq!(catalog.find("extra").unwrap().name, "extra");
    let by_ref = catalog.entries()[1].image_ref().to_string();
    assert_eq!(catalog.find(&by_ref).unwrap().name, "debian-13-arm64.IMG.ZST");
    let hint = |text: &str| catalog.find(text).unwrap_err().next_step().unwrap().to_owned();
    assert_eq!(hint("exrta"), "did you mean \"extra\"?");
    assert_eq!(hint("Debian-13"), "did you mean \"debian-13-arm64.IMG.ZST\"?");
    assert_eq!(hint("windows"), "list the catalog; it has 3 images");
    assert_eq!(Catalog::new().find("a").unwrap_err().next_step(), Some("the catalog is empty"));
}

#[test]
fn a_name_or_src_can_be_added_once() {
    let mut catalog = Catalog::new();
    catalog.add(Entry::new("a", "https://h/a.img").unwrap()).unwrap();
    for (name, src) in [("a", "https://h/b.img"), ("b", "HTTPS://H:443/a.img")] {
        let error = catalog.add(Entry::new(name, src).unwrap()).unwrap_err();
        assert_eq!(format!("{error:#}"), "\"a\" from https://h/a.img is already in the catalog");
    }
    assert!(Entry::new("c", "file:///c.img").is_err());
    assert_eq!(catalog.entries().len(), 1);
}

#[test]
fn fields_are_written_in_the_order_of_existing_catalogs() {
    let mut entry = Entry::new("a \"b\"\u{7}\u{85}\n", "https://h/a.img").unwrap();
    entry.sha256 = Some(Digest::of(b""));
    entry.packed = Some("https://h/a.img.zst".into());
    entry.index_sha256 = Some(Digest::of(b"index"));
    entry.size_bytes = Some(5);
    entry.description = Some("x\ty".into());
    entry.arch = Some("arm64".into());
    entry.raw = true;
    let mut catalog = Catalog::new();
    catalog.add(entry).unwrap();
    insta::assert_snapshot!(catalog.to_toml(), @r##"
    version = 1

    [[images]]
    name = "a \"b\"\u0007\u0085\n"
    src = "https://h/a.img"
    sha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    packed = "https://h/a.img.zst"
    index_sha256 = "1bc04b5291c26a46d918139138b992d2de976d6851d0893b0476b85bfbdfc6e6"
    format = "img"
    size_bytes = 5
    description = "x\ty"
    arch = "arm64"
    raw = true
    "##);
}

#[test]
fn a_file_keeps_its_comments_when_an_image_is_added() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("catalog.toml");
    let link = dir.path().join("link.toml");
    std::os::unix::fs::symlink("catalog.toml", &link).unwrap();
    let add = |name: &str| {
        let entry = Entry::new(name, format!("https://h/{name}.img")).unwrap();
        Catalog::append_to_file(&link, &entry)
    };
    for (old, expected) in [
        (published(), format!("{}\n", published())),
        ("version = 1 # mine".to_owned(), "version = 1 # mine\n\n".to_owned()),
        ("version = 1\nimages = []\n# end\n".to_owned(), "version = 1\n# end\n\n".to_owned()),
    ] {
        std::fs::write(&path, &old).unwrap();
        let catalog = add("new").unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let added = "[[images]]\nname = \"new\"\nsrc = \"https://h/new.img\"\nformat = \"img\"\n";
        assert_eq!(text, expected + added);
        assert_eq!(Catalog::parse(text.as_bytes()).unwrap(), catalog);
        assert!(add("new").is_err());
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            text,
            "a refused entry changes nothing"
        );
    }
    assert!(link.is_symlink());
    let names: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "no temporary file stays: {names:?}");
}

#[test]
fn inline_images_and_new_files_can_be_extended() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("catalog.toml");
    let add = |name: &str| {
        Catalog::append_to_file(&path, &Entry::new(name, format!("https://h/{name}")).unwrap())
    };
    assert_eq!(add("first").unwrap().entries().len(), 1);
    assert!(std::fs::read_to_string(&path).unwrap().starts_with("version = 1\n\n[[images]]\n"));
    std::fs::write(
        &path,
        "version = 1\nimages = [{ name = \"a\", src = \"https://h/a\" }] # inline\n[meta]\n",
    )
    .unwrap();
    assert_eq!(add("b").unwrap().entries().len(), 2);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("# inline\n[meta]\n"), "{text}");
    std::fs::write(&path, "not a catalog").unwrap();
    assert_eq!(add("c").unwrap_err().kind(), ErrorKind::Catalog);
}

#[test]
fn entries_added_at_the_same_time_are_all_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("catalog.toml");
    std::thread::scope(|scope| {
        for i in 0..8 {
            let path = &path;
            let entry = Entry::new(format!("i{i}"), format!("https://h/{i}")).unwrap();
            scope.spawn(move || Catalog::append_to_file(path, &entry).unwrap());
        }
    });
    assert_eq!(Catalog::parse(&std::fs::read(&path).unwrap()).unwrap().entries().len(), 8);
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let text = || proptest::option::of("\\PC{0,6}[\\x00-\\x7f\u{85}\u{2028}]{0,6}");
    (
        "[\\x00-\\x7f\u{e9}]{0,8}x",
        "[a-z0-9/?#&%.]{0,10}",
        any::<Option<[u8; 4]>>(),
        any::<Option<u32>>(),
        text(),
        text(),
    )
        .prop_map(|(name, path, digest, size, description, arch)| {
            let mut entry = Entry::new(name, format!("https://Host/{path}")).unwrap();
            entry.sha256 = digest.map(|bytes| Digest::of(&bytes));
            entry.size_bytes = size.map(u64::from);
            entry.index_sha256 = digest.map(|bytes| Digest::of(&bytes[1..]));
            entry.packed = digest.map(|bytes| format!("https://host/{}.zst", bytes[0]));
            entry.raw = size.is_some_and(|size| size % 2 == 1);
            entry.description = description;
            entry.arch = arch.filter(|arch| !arch.is_empty()).or(entry.arch);
            entry
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_written_catalog_parses_back(entries in proptest::collection::vec(any_entry(), 0..5)) {
        let mut catalog = Catalog::new();
        for entry in entries {
            let _ = catalog.add(entry);
        }
        let toml = catalog.to_toml();
        prop_assert!(!toml.contains(|c: char| c.is_control() && c != '\n'));
        prop_assert_eq!(Catalog::parse(toml.as_bytes()).unwrap(), catalog);
    }

    #[test]
    fn no_bytes_make_the_parser_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..64),
        toml in concat!(
            "(version = 1\n)?(\\[\\[images\\]\\]\n",
            "|(name|src|sha256|ref|size_bytes|format) = [\"'0-9a-z:/.\\[{=}]{0,12}\n){0,6}"
        )
    ) {
        let _ = Catalog::parse(&bytes);
        let _ = Catalog::parse(toml.as_bytes());
    }

    #[test]
    fn one_changed_byte_never_panics(at in 0..PUBLISHED.len(), byte in any::<u8>()) {
        let mut bytes = published().into_bytes();
        bytes[at] = byte;
        if let Ok(catalog) = Catalog::parse(&bytes) {
            prop_assert!(catalog.entries().len() <= 3);
        }
    }
}

#[test]
fn an_address_with_a_password_is_refused_and_not_shown() {
    for src in ["http://user:s3cr3t@h/a.img", "https://s3cr3t@h/a.img"] {
        let error = Entry::new("a", src).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Catalog);
        let shown = format!("{error} {error:?} {:?}", error.next_step());
        assert!(shown.contains("password") && !shown.contains("s3cr3t"), "{shown}");
        let error = Catalog::parse(
            format!("version = 1\n[[images]]\nname = \"a\"\nsrc = \"{src}\"\n").as_bytes(),
        )
        .unwrap_err();
        assert!(!format!("{error:?}").contains("s3cr3t"), "{error:?}");
    }
}

#[test]
fn an_endless_catalog_is_refused() {
    use std::io::{Read as _, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/catalog.toml", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || {
                let mut stream = stream.unwrap();
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
                let piece = [b"10000\r\n".as_slice(), &[b'#'; 0x10000], b"\r\n"].concat();
                while stream.write_all(&piece).is_ok() {}
            });
        }
    });
    let error = Catalog::load(&Client::default(), &url, &CancelToken::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Catalog);
    assert!(format!("{error:#}").contains("larger than 4.0 MiB"), "{error}");
}

#[test]
fn an_impossible_size_is_a_problem() {
    let toml = |size: u64| {
        format!(
            "version = 1\n[[images]]\nname = \"a\"\nsrc = \"http://h/a\"\nsize_bytes = {size}\n"
        )
    };
    assert!(Catalog::parse(toml(64 << 40).as_bytes()).is_ok());
    assert!(problem(&toml((64 << 40) + 1)).contains("the limit is 64.0 TiB"));
}
