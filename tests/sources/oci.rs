//! OCI registries: a real one, and one with faults.

use std::collections::BTreeMap;

use bty::oci::OciReference;
use bty::{CancelToken, Client, ClientOptions, Digest, ErrorKind, Source};
use bty_tests::pattern;
use bty_tests::registry::Registry;
use bty_tests::server::{Reply, Request, Server};
use oci_client::client::{ClientConfig, ClientProtocol, Config, ImageLayer};
use oci_client::manifest::{ImageIndexEntry, OciImageIndex};
use oci_client::secrets::RegistryAuth;

pub(crate) const IMAGE: &str = "application/octet-stream";
const LIMIT: u64 = 1 << 20;

fn options() -> ClientOptions {
    let mut options = crate::sources::http::options();
    options.plain_http = true;
    options
}

fn open(reference: &str) -> bty::Result<Source> {
    Client::new(options()).open(reference, &CancelToken::new())
}

fn read(reference: &str) -> bty::Result<Vec<u8>> {
    open(reference)?.read_small(LIMIT, &CancelToken::new())
}

pub(crate) fn layer(media_type: &str, title: &str, data: &[u8]) -> ImageLayer {
    let annotations =
        BTreeMap::from([("org.opencontainers.image.title".to_owned(), title.to_owned())]);
    ImageLayer::new(
        data.to_vec(),
        media_type.to_owned(),
        (!title.is_empty()).then_some(annotations),
    )
}

/// Runs `work` with a client that can push.
fn with_pusher<T>(work: impl AsyncFnOnce(oci_client::Client) -> T) -> T {
    // fails if another test was first
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = ClientConfig { protocol: ClientProtocol::Http, ..ClientConfig::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(work(oci_client::Client::new(config)))
}

/// Pushes an artifact, and returns the digest of its manifest.
pub(crate) fn push(registry: &Registry, name: &str, layers: &[ImageLayer]) -> String {
    with_pusher(async |client| {
        let reference: oci_client::Reference =
            format!("{}/{name}", registry.host()).parse().unwrap();
        let config = Config::new("{}", "application/vnd.oci.empty.v1+json".to_owned(), None);
        let anonymous = RegistryAuth::Anonymous;
        client.push(&reference, layers, config, &anonymous, None).await.unwrap();
        client.fetch_manifest_digest(&reference, &anonymous).await.unwrap()
    })
}

#[test]
fn reads_the_largest_layer_that_is_an_image() {
    let registry = Registry::start();
    let disk = pattern(200_000);
    let layers = [
        layer(IMAGE, "disk.img.sha256", &pattern(400_000)),
        layer("application/vnd.in-toto+json", "", &pattern(300_000)),
        layer(IMAGE, "boot/disk.img", &disk),
        layer(IMAGE, "notes.txt", b"small"),
    ];
    let manifest = push(&registry, "team/images:v1", &layers);
    let tagged = format!("oras://{}/team/images:v1", registry.host());

    let source = open(&tagged).unwrap();
    assert_eq!(source.name(), "disk.img");
    assert_eq!(source.len_bytes(), Some(200_000));
    assert_eq!(source.expected_digest(), Some(Digest::of(&disk)));
    assert_eq!(source.location().to_string(), tagged);
    assert_eq!(source.read_small(LIMIT, &CancelToken::new()).unwrap(), disk);
    let mut part = [0; 100];
    assert_eq!(source.read_at(&mut part, 150_001, &CancelToken::new()).unwrap(), 100);
    assert_eq!(part, disk[150_001..150_101]);

    let reference: OciReference =
        format!("oras://{}/team/images@{manifest}", registry.host()).parse().unwrap();
    let blob = Client::new(options()).resolve_oci(&reference, &CancelToken::new()).unwrap();
    assert_eq!((blob.digest, blob.size_bytes), (Digest::of(&disk), Some(200_000)));
    assert_eq!(
        (blob.title.as_deref(), blob.media_type.as_deref()),
        (Some("boot/disk.img"), Some(IMAGE))
    );
    assert_eq!(read(&reference.to_string()).unwrap(), disk);

    let direct =
        open(&format!("oras://{}/team/images@sha256:{}", registry.host(), Digest::of(b"small")))
            .unwrap();
    assert_eq!(direct.name(), "images");
    assert_eq!(direct.read_small(LIMIT, &CancelToken::new()).unwrap(), b"small");
}

#[test]
fn says_what_is_missing() {
    let registry = Registry::start();
    push(&registry, "team/images:v1", &[layer("application/spdx+json", "", b"{}")]);
    let error = read(&format!("oras://{}/team/images:v2", registry.host())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Source);
    assert!(format!("{error:#}").contains("no such tag"), "{error:?}");

    let error = read(&format!("oras://{}/team/images:v1", registry.host())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Format);
    assert!(
        format!("{error:#}").contains("no disk image, only application/spdx+json"),
        "{error:?}"
    );

    let error =
        read(&format!("oras://{}/team/images@sha256:{}", registry.host(), Digest::of(b"?")))
            .unwrap_err();
    assert!(format!("{error:#}").contains("404"), "{error:?}");
}

#[test]
fn an_index_is_listed_and_its_digests_work() {
    let registry = Registry::start();
    let mut entries = Vec::new();
    for (arch, data) in [("amd64", b"for amd64"), ("arm64", b"for arm64")] {
        let digest = push(&registry, &format!("team/images:{arch}"), &[layer(IMAGE, "", data)]);
        let platform = serde_json::json!({"architecture": arch, "os": "linux"});
        let entry = serde_json::json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": 1,
            "platform": platform,
        });
        entries.push(serde_json::from_value::<ImageIndexEntry>(entry).unwrap());
    }
    let listed = format!("linux/amd64 {}, linux/arm64 {}", entries[0].digest, entries[1].digest);
    let index = serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": entries,
    });
    with_pusher(async |client| {
        let reference = format!("{}/team/images:all", registry.host()).parse().unwrap();
        let index: OciImageIndex = serde_json::from_value(index).unwrap();
        client.push_manifest_list(&reference, &RegistryAuth::Anonymous, index).await.unwrap();
    });
    let text = format!("oras://{}/team/images:all", registry.host());
    let error = read(&text).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert_eq!(
        format!("{error:#}"),
        format!("opening {text}: {text} is an index of several artifacts: {listed}")
    );
    let named = error.next_step().unwrap().rsplit(' ').next().unwrap();
    assert_eq!(read(named).unwrap(), b"for amd64");
}

/// A registry with manifests, given by the ends of their paths, and one blob.
fn serving(manifests: Vec<(String, Vec<u8>)>, blob: &[u8]) -> Server {
    let blob = blob.to_vec();
    Server::start(move |request| {
        let found = manifests
            .iter()
            .find(|(name, _)| request.target.ends_with(&format!("/manifests/{name}")));
        match found {
            Some((_, manifest)) => Reply::whole(manifest),
            None if request.target.contains("/blobs/") => Reply::file(request, &blob, "\"v1\""),
            None => Reply::status(404),
        }
    })
}

fn index_of(entries: &[(&[u8], serde_json::Value)]) -> Vec<u8> {
    let entries: Vec<_> = entries
        .iter()
        .map(|(manifest, more)| {
            let mut entry = serde_json::json!({
                "mediaType": "application/vnd.oci.image.manifest.v1+json", "size": manifest.len(),
                "digest": format!("sha256:{}", Digest::of(manifest)),
            });
            let fields = more
                .as_object()
                .into_iter()
                .flatten()
                .map(|(key, value)| (key.clone(), value.clone()));
            entry.as_object_mut().unwrap().extend(fields);
            entry
        })
        .collect();
    let index = "application/vnd.oci.image.index.v1+json";
    serde_json::json!({"schemaVersion": 2, "mediaType": index, "manifests": entries})
        .to_string()
        .into_bytes()
}

fn by_digest(manifest: &[u8]) -> (String, Vec<u8>) {
    (format!("sha256:{}", Digest::of(manifest)), manifest.to_vec())
}

#[test]
fn an_index_of_one_artifact_is_followed() {
    let disk = pattern(5000);
    let manifest = manifest_of(&disk);
    let attestation = serde_json::json!({
        "annotations": {"vnd.docker.reference.type": "attestation-manifest"},
        "platform": {"os": "unknown", "architecture": "unknown"},
    });
    let platform = serde_json::json!({"platform": {"os": "linux", "architecture": "amd64"}});
    let index = index_of(&[(&manifest, platform), (b"{}", attestation)]);
    let outer = index_of(&[(&index, serde_json::json!({}))]);
    let known = vec![
        ("v1".to_owned(), outer.clone()),
        by_digest(&outer),
        by_digest(&index),
        by_digest(&manifest),
    ];
    let registry = serving(known, &disk);
    for version in [":v1".to_owned(), format!("@sha256:{}", Digest::of(&outer))] {
        assert_eq!(
            read(&format!("oras://{}/team/images{version}", registry.host())).unwrap(),
            disk,
            "{version}"
        );
    }

    // a manifest that does not match the index
    let liar = serving(
        vec![("v1".to_owned(), index.clone()), (by_digest(&manifest).0, manifest_of(b"evil"))],
        &disk,
    );
    let error = read(&format!("oras://{}/team/images:v1", liar.host())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Integrity, "{error:?}");
    let gone = serving(vec![("v1".to_owned(), index)], &disk);
    let error = read(&format!("oras://{}/team/images:v1", gone.host())).unwrap_err();
    assert!(format!("{error:#}").contains("no such manifest"), "{error:?}");
    let empty = serving(vec![("v1".to_owned(), index_of(&[]))], &disk);
    assert_eq!(
        read(&format!("oras://{}/team/images:v1", empty.host())).unwrap_err().kind(),
        ErrorKind::Usage
    );
}

/// Reads with a user and a password from a container auth file.
fn read_as(options: ClientOptions, registry: &str, reference: &str) -> bty::Result<Vec<u8>> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(
        file.path(),
        format!(r#"{{"auths": {{"{registry}": {{"auth": "dXNlcjpzZWNyZXQ="}}}}}}"#),
    )
    .unwrap();
    let mut options = options;
    options.credentials.add_auth_file(file.path()).unwrap();
    Client::new(options)
        .open(reference, &CancelToken::new())?
        .read_small(LIMIT, &CancelToken::new())
}

const BASIC: &str = "Basic dXNlcjpzZWNyZXQ=";

#[test]
fn a_registry_that_wants_user_and_password_gets_those_of_the_auth_file() {
    let disk = pattern(30_000);
    let (manifest, served) = (manifest_of(&disk), disk.clone());
    let storage = Server::start(move |request| {
        assert_eq!(request.header("authorization"), None);
        Reply::file(request, &served, "\"v1\"")
    });
    let target = storage.url("/signed");
    let registry = Server::start(move |request| {
        match (request.header("authorization"), request.target.as_str()) {
            (Some(BASIC), "/v2/team/images/manifests/v1") => Reply::whole(&manifest),
            (Some(BASIC), _) => Reply::status(307).header("Location", &target),
            _ => Reply::status(401).header("WWW-Authenticate", "Basic realm=\"registry\""),
        }
    });
    let reference = format!("oras://{}/team/images:v1", registry.host());
    assert_eq!(read_as(options(), &registry.host(), &reference).unwrap(), disk);
    assert!(!storage.requests().is_empty());
    let error = read(&reference).unwrap_err();
    assert_eq!(error.remedy(), Some(bty::Remedy::Credentials), "{error:?}");
    let error = read_as(options(), "other.example", &reference).unwrap_err();
    assert!(format!("{error:#}").contains("401"), "{error:?}");
}

#[test]
fn a_token_is_asked_for_with_user_and_password() {
    let disk = pattern(1000);
    let (manifest, served) = (manifest_of(&disk), disk.clone());
    // the challenge comes with the manifest, while /v2/ is open to everybody
    let registry = Server::start(move |request| {
        let host = request.header("host").unwrap_or_default();
        match (request.target.as_str(), request.header("authorization")) {
            ("/v2/", _) => Reply::status(200),
            (path, Some(BASIC)) if path.starts_with("/token") => {
                Reply::whole(b"{\"token\": \"t\"}")
            }
            (path, _) if path.starts_with("/token") => Reply::status(401),
            ("/v2/team/images/manifests/v1", Some("Bearer t")) => Reply::whole(&manifest),
            (_, Some("Bearer t")) => Reply::file(request, &served, "\"v1\""),
            _ => Reply::status(401)
                .header("WWW-Authenticate", &format!("Bearer realm=\"http://{host}/token\"")),
        }
    });
    let reference = format!("oras://{}/team/images:v1", registry.host());
    assert_eq!(read_as(options(), &format!("{}/team", registry.host()), &reference).unwrap(), disk);
    assert!(format!("{:#}", read(&reference).unwrap_err()).contains("401"));
}

#[test]
fn a_registry_cannot_lead_a_password_from_https_to_http() {
    let token = Server::start(|_| Reply::whole(b"{\"token\": \"t\"}"));
    let port = bty_tests::free_port();
    let realm = token.url("/token");
    let conf = format!(
        "server {{ listen 127.0.0.1:{port} ssl; ssl_certificate CERTIFICATE; \
         ssl_certificate_key KEY;
         add_header WWW-Authenticate 'Bearer realm=\"{realm}\"' always; return 401; }}"
    );
    let nginx = bty_tests::nginx::Nginx::with_servers(&conf, port);
    let mut options = crate::sources::http::options();
    options.ca_files.push(nginx.ca_file());
    let (host, reference) =
        (format!("localhost:{port}"), format!("oras://localhost:{port}/team/images:v1"));
    let error = read_as(options, &host, &reference).unwrap_err();
    assert!(format!("{error:#}").contains("does not use https"), "{error:?}");
    assert!(token.requests().is_empty());
}

#[test]
fn a_damaged_blob_is_not_what_was_pushed() {
    let registry = Registry::start();
    let disk = pattern(50_000);
    push(&registry, "team/images:v1", &[layer(IMAGE, "disk.img", &disk)]);
    let text = format!("oras://{}/team/images:v1", registry.host());
    let file = registry.blob_file(&Digest::of(&disk).to_string());

    let mut damaged = disk.clone();
    damaged[49_999] ^= 1;
    std::fs::write(&file, &damaged).unwrap();
    assert_eq!(read(&text).unwrap_err().kind(), ErrorKind::Integrity);

    std::fs::write(&file, &disk[1..]).unwrap();
    assert_eq!(read(&text).unwrap_err().kind(), ErrorKind::Source);
    std::fs::write(&file, &disk).unwrap();
    assert_eq!(read(&text).unwrap(), disk);
}

#[test]
fn a_damaged_manifest_is_refused() {
    let registry = Registry::start();
    let manifest = push(&registry, "team/images:v1", &[layer(IMAGE, "disk.img", b"disk")]);
    let file = registry.blob_file(manifest.trim_start_matches("sha256:"));
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("disk.img", "evil.img")).unwrap();
    for version in [":v1".to_owned(), format!("@{manifest}")] {
        let error = read(&format!("oras://{}/team/images{version}", registry.host())).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Integrity | ErrorKind::Source), "{error:?}");
    }
}

/// A registry in the process of the test that requires a token. `script` gets only requests with a
/// valid one.
fn guarded(
    is_good: impl Fn(&str) -> bool + Send + Sync + 'static,
    script: impl Fn(&Request) -> Reply + Send + Sync + 'static,
) -> Server {
    Server::start(move |request| {
        let host = request.header("host").unwrap_or_default();
        let refusal = || {
            let challenge = format!("Bearer realm=\"http://{host}/token\",service=\"test\"");
            Reply::status(401).header("WWW-Authenticate", &challenge)
        };
        if request.target.starts_with("/token?") {
            assert!(
                request.target.contains("scope=repository%3Ateam%2Fimages%3Apull"),
                "{}",
                request.target
            );
            assert!(request.target.contains("service=test"), "{}", request.target);
            return Reply::whole(format!("{{\"token\": \"t{}\"}}", request.number).as_bytes());
        }
        match request.header("authorization").and_then(|value| value.strip_prefix("Bearer ")) {
            Some(token) if is_good(token) && request.target != "/v2/" => script(request),
            _ => refusal(),
        }
    })
}

fn manifest_of(disk: &[u8]) -> Vec<u8> {
    serde_json::json!({
        "schemaVersion": 2,
        "config": {
            "mediaType": "application/vnd.oci.empty.v1+json", "digest": "sha256:x", "size": 2,
        },
        "layers": [{
            "mediaType": IMAGE, "digest": format!("sha256:{}", Digest::of(disk)),
            "size": disk.len(),
        }],
    })
    .to_string()
    .into_bytes()
}

#[test]
fn asks_for_a_token_and_keeps_it_from_other_hosts() {
    let disk = pattern(100_000);
    let served = disk.clone();
    let storage = Server::start(move |request| {
        assert_eq!(request.header("authorization"), None);
        Reply::file(request, &served, "\"v1\"")
    });
    let (target, manifest) = (storage.url("/signed"), manifest_of(&disk));
    let registry = guarded(
        |_| true,
        move |request| match request.target.as_str() {
            "/v2/team/images/manifests/v1" => Reply::whole(&manifest),
            blob if blob.starts_with("/v2/team/images/blobs/sha256:") => {
                Reply::status(307).header("Location", &target)
            }
            _ => Reply::status(404),
        },
    );
    assert_eq!(read(&format!("oras://{}/team/images:v1", registry.host())).unwrap(), disk);
    assert_eq!(storage.requests().len(), 2);
    let tokens =
        registry.requests().iter().filter(|request| request.target.starts_with("/token")).count();
    assert_eq!(tokens, 1);
}

#[test]
fn renews_a_token_that_expires_in_the_middle() {
    let disk = pattern(100_000);
    let (served, manifest) = (disk.clone(), manifest_of(&disk));
    let uses = std::sync::Mutex::new(BTreeMap::<String, usize>::new());
    let registry = guarded(
        move |token| {
            let mut uses = uses.lock().unwrap();
            let count = uses.entry(token.to_owned()).or_default();
            *count += 1;
            *count <= 2
        },
        move |request| match request.target.as_str() {
            "/v2/team/images/manifests/v1" => Reply::whole(&manifest),
            _ => Reply::file(request, &served, "\"v1\"").close_after(20_000),
        },
    );
    assert_eq!(read(&format!("oras://{}/team/images:v1", registry.host())).unwrap(), disk);
    let tokens =
        registry.requests().iter().filter(|request| request.target.starts_with("/token")).count();
    assert!(tokens >= 3, "{tokens}");
}

#[test]
fn a_registry_that_refuses_every_token_is_not_asked_forever() {
    let registry = guarded(|_| false, |_| Reply::status(404));
    let error = read(&format!("oras://{}/team/images:v1", registry.host())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Source);
    assert!(format!("{error:#}").contains("401"), "{error:?}");
    assert!(registry.requests().len() <= 4, "{}", registry.requests().len());
}

#[test]
fn a_denied_token_is_final() {
    let registry = Server::start(|request| {
        let host = request.header("host").unwrap_or_default();
        if request.target.starts_with("/token") {
            return Reply::status(403)
                .body(b"{\"errors\":[{\"code\":\"DENIED\",\"message\":\"denied\"}]}");
        }
        Reply::status(401)
            .header("WWW-Authenticate", &format!("Bearer realm=\"http://{host}/token\""))
    });
    let error = read(&format!("oras://{}/team/images:v1", registry.host())).unwrap_err();
    assert!(
        format!("{error:#}").contains("getting a token") && format!("{error:#}").contains("403"),
        "{error:?}"
    );
    assert!(
        !format!("{error:?}").contains("DENIED"),
        "what a foreign server says stays there: {error:?}"
    );
    // requests: the manifest and the token, nothing else
    assert_eq!(registry.requests().len(), 2);
}

/// A client that may access only 127.0.0.2, where the hostile registry is.
fn bounded() -> Client {
    let mut options = options();
    options.attempts = 1;
    options.may_reach = Some(std::sync::Arc::new(|ip: std::net::IpAddr| {
        ip == std::net::IpAddr::from([127, 0, 0, 2])
    }));
    Client::new(options)
}

/// Opens an artifact of `registry`, which tries to direct the client to the internal service
/// `secret`. Checks that it was not contacted, and returns the error.
fn lured(registry: &Server, secret: &Server) -> String {
    let reference = format!("oras://{}/team/images:v1", registry.host());
    let error = bounded().open(&reference, &CancelToken::new()).unwrap_err();
    assert_eq!(secret.requests().len(), 0, "the internal service was asked: {error:?}");
    assert!(!format!("{error:?}").contains("SECRET"), "{error:?}");
    format!("{error:#}")
}

#[test]
fn a_registry_cannot_lure_a_client_to_an_internal_token_server() {
    let secret = Server::start(|_| Reply::whole(b"SECRET"));
    let port = secret.host().split_once(':').unwrap().1.to_owned();
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "localhost",
    ] {
        let realm = format!("http://{host}:{port}/token");
        let registry = Server::start_at("127.0.0.2", move |_| {
            Reply::status(401)
                .header("WWW-Authenticate", &format!("Bearer realm=\"{realm}\",service=\"x\""))
        });
        let error = lured(&registry, &secret);
        assert!(error.contains("may not be reached"), "{host}: {error}");
    }
}

#[test]
fn neither_another_challenge_nor_a_redirection_leads_to_an_internal_service() {
    let secret = Server::start(|_| Reply::whole(b"{\"token\": \"SECRET\"}"));
    for lure in [
        "realm of /v2/",
        "redirection of /v2/",
        "redirection of the token",
        "redirection of the manifest",
    ] {
        let target = secret.url("/internal");
        let registry = Server::start_at("127.0.0.2", move |request| {
            let host = request.header("host").unwrap_or_default();
            let challenge = |realm: &str| {
                Reply::status(401).header("WWW-Authenticate", &format!("Bearer realm=\"{realm}\""))
            };
            match (lure, request.target.as_str()) {
                ("realm of /v2/", "/v2/") => challenge(&target),
                ("redirection of /v2/", "/v2/") => Reply::status(302).header("Location", &target),
                ("redirection of the token", path) if path.starts_with("/token") => {
                    Reply::status(302).header("Location", &target)
                }
                ("redirection of the manifest", path) if path.contains("/manifests/") => {
                    Reply::status(302).header("Location", &target)
                }
                (_, path) if path.starts_with("/token") => Reply::whole(b"{\"token\": \"t\"}"),
                _ => challenge(&format!("http://{host}/token")),
            }
        });
        let _ = lured(&registry, &secret);
    }
}

#[test]
fn a_token_without_an_end_is_cut_off() {
    let registry = Server::start(|request| {
        let host = request.header("host").unwrap_or_default();
        match request.target.starts_with("/token") {
            true => Reply::whole(&vec![b' '; 64 << 20]),
            false => Reply::status(401)
                .header("WWW-Authenticate", &format!("Bearer realm=\"http://{host}/token\"")),
        }
    });
    let error = read(&format!("oras://{}/team/images:v1", registry.host())).unwrap_err();
    assert!(format!("{error:#}").contains("larger than 256.0 KiB"), "{error:?}");
}

#[test]
fn a_registry_that_asks_for_a_token_only_at_the_manifest_is_read() {
    let disk = pattern(1000);
    let manifest = manifest_of(&disk);
    let registry = guarded(
        |_| true,
        move |request| match request.target.as_str() {
            "/v2/team/images/manifests/v1" => Reply::whole(&manifest),
            _ => Reply::file(request, &disk, "\"v1\""),
        },
    );
    assert_eq!(read(&format!("oras://{}/team/images:v1", registry.host())).unwrap(), pattern(1000));
    assert!(
        registry.requests().iter().all(|request| request.target != "/v2/"),
        "only what is wanted is asked for"
    );
}

#[test]
fn hostile_manifests_are_errors() {
    let huge = vec![b' '; (10 << 20) + 1];
    let layers = |digest: &str, size: &str| {
        format!(
            "{{\"schemaVersion\":2,\"config\":{{\"mediaType\":\"x\",\"digest\":\"x\",\"size\":0}},\
             \"layers\":[{{\"mediaType\":\"x\",\"digest\":\"{digest}\",\"size\":{size}}}]}}"
        )
        .into_bytes()
    };
    let good = format!("sha256:{}", Digest::of(b""));
    for (manifest, kind) in [
        (Vec::new(), ErrorKind::Format),
        (b"[]".to_vec(), ErrorKind::Format),
        (b"{\"schemaVersion\":1}".to_vec(), ErrorKind::Format),
        (b"{\"schemaVersion\":2}".to_vec(), ErrorKind::Format),
        (b"[".repeat(100_000), ErrorKind::Format),
        (layers("sha256:../../x", "1"), ErrorKind::Format),
        (layers(&good, "-1"), ErrorKind::Format),
        (layers(&good, "1e30"), ErrorKind::Format),
        (layers(&good, "9223372036854775807"), ErrorKind::Source),
        (huge, ErrorKind::Source),
    ] {
        let start = String::from_utf8_lossy(&manifest[..manifest.len().min(200)]).into_owned();
        let registry = Server::start(move |request| match request.target.as_str() {
            "/v2/team/images/manifests/v1" => Reply::whole(&manifest),
            _ => Reply::file(request, b"", "\"v1\""),
        });
        let error = read(&format!("oras://{}/team/images:v1", registry.host())).expect_err(&start);
        assert_eq!(error.kind(), kind, "{error:?} {start}");
    }
}
