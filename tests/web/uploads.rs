//! Images that the server keeps: uploaded by a form, by the protocol tus, or copied to its folder.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bty_tests::images::disk_image;
use bty_tests::web::{Answer, Web};
use serde_json::{Value, json};

use super::pxe::{MAC, token};

const IMAGE_BYTES: usize = 5 << 20;

fn form(web: &Web, path: &str, file_name: &str, content: &[u8]) -> Answer {
    let part = |name: &str, text: &str| {
        format!("--x\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{text}\r\n")
    };
    let mut body = part("description", "My image") + &part("arch", "arm64");
    body += &format!(
        "--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{file_name}\"\r\n\r\n"
    );
    let mut body = body.into_bytes();
    body.extend_from_slice(content);
    body.extend_from_slice(b"\r\n--x--\r\n");
    let headers = [("Content-Type", "multipart/form-data; boundary=x"), ("Accept", "text/html")];
    web.request("POST", path, &headers, &body)
}

/// Sends a form, and returns the page that it redirects to.
fn page_after_form(web: &Web, file_name: &str, content: &[u8]) -> String {
    let answer = form(web, "/ui/images/upload", file_name, content).expect(303);
    web.get(answer.header("location").unwrap()).expect(200).text()
}

fn create(web: &Web, file_name: &str, size: usize) -> Answer {
    let metadata = format!("filename {}", STANDARD.encode(file_name));
    let size = size.to_string();
    let headers = [
        ("Tus-Resumable", "1.0.0"),
        ("Upload-Length", size.as_str()),
        ("Upload-Metadata", metadata.as_str()),
    ];
    web.request("POST", "/uploads", &headers, b"")
}

fn append(web: &Web, at: &str, offset: usize, bytes: &[u8]) -> Answer {
    let offset = offset.to_string();
    let headers = [
        ("Tus-Resumable", "1.0.0"),
        ("Upload-Offset", offset.as_str()),
        ("Content-Type", "application/offset+octet-stream"),
    ];
    web.request("PATCH", at, &headers, bytes)
}

fn offset(web: &Web, at: &str) -> String {
    let answer = web.request("HEAD", at, &[], b"").expect(200);
    answer.header("upload-offset").unwrap().to_owned()
}

fn only_image(web: &Web) -> Value {
    let images = web.get("/images").json();
    assert_eq!(images.as_array().unwrap().len(), 1, "{images}");
    images[0].clone()
}

fn path_of(web: &Web, url: &Value) -> String {
    url.as_str().unwrap().strip_prefix(&web.base()).unwrap().to_owned()
}

#[test]
fn a_form_uploads_an_image_that_machines_then_flash() {
    let web = Web::start();
    let image = disk_image(IMAGE_BYTES);
    let digest = bty::Digest::of(&image).to_string();
    let page = page_after_form(&web, "own.img", &image);
    assert!(page.contains("own.img is in the catalog."), "{page}");
    let entry = only_image(&web);
    assert_eq!(
        (&entry["size_bytes"], &entry["arch"], &entry["description"]),
        (&json!(IMAGE_BYTES), &json!("arm64"), &json!("My image"))
    );
    let path = path_of(&web, &entry["url"]);
    assert_eq!(web.get(&path).expect(200).body, image);
    let part = web.request("GET", &path, &[("Range", "bytes=510-511")], b"").expect(206);
    assert_eq!(part.body, [0x55, 0xaa]);
    // the machine reaches the server under another name than the browser did
    let binding = json!({
        "boot_mode": "bty-flash-once", "bty_image_ref": entry["ref"], "target_disk_serial": "S1",
    });
    web.send("PUT", &format!("/machines/{MAC}"), &binding).expect(200);
    let other = [("Host", "bty.example:8080")];
    let script = web.request("GET", &format!("/pxe/{MAC}?boot=1"), &other, b"").text();
    let plan = format!("/pxe/{MAC}/plan?cycle={}", token(&script));
    let order = web.request("GET", &plan, &other, b"").expect(200).json();
    assert_eq!(order["image"], json!(format!("http://bty.example:8080{path}")));
    assert_eq!(order["disk_image_sha"], json!(digest));
    let catalog = web.request("GET", "/catalog.toml", &other, b"").text();
    assert!(catalog.contains(&format!("http://bty.example:8080{path}")), "{catalog}");
}

#[test]
fn an_interrupted_upload_continues_where_it_was_even_after_a_restart() {
    let mut web = Web::start();
    let image = disk_image(IMAGE_BYTES);
    let at =
        create(&web, "own.img", image.len()).expect(201).header("location").unwrap().to_owned();
    append(&web, &at, 0, &image[..1 << 20]).expect(204);
    // a connection that ends early: what has arrived counts
    let head = format!(
        "PATCH {at} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nUpload-Offset: {}\r\n\
         Content-Type: application/offset+octet-stream\r\nContent-Length: {}\r\n\r\n",
        1 << 20,
        image.len() - (1 << 20)
    );
    let mut cut = head.into_bytes();
    cut.extend_from_slice(&image[1 << 20..2 << 20]);
    drop(web.interrupted(&cut));
    web.end();
    web.start_again();
    let arrived: usize = offset(&web, &at).parse().unwrap();
    assert!((1 << 20..=2 << 20).contains(&arrived), "{arrived}");
    let wrong = append(&web, &at, 0, &image[..10]).expect(409);
    assert!(wrong.text().contains(&format!("continues at {arrived}")), "{}", wrong.text());
    append(&web, &at, arrived, &image[arrived..]).expect(204);
    web.request("HEAD", &at, &[], b"").expect(404);
    let path = path_of(&web, &only_image(&web)["url"]);
    assert_eq!(web.get(&path).expect(200).body, image);
}

#[test]
fn what_is_no_image_or_too_large_is_refused_with_an_answer_and_leaves_nothing() {
    let web = Web::with(&[("BTY_TUNING_MAX_UPLOAD_BYTES", "6M")]);
    let page = page_after_form(&web, "photo.img", &vec![7; IMAGE_BYTES]);
    assert!(page.contains("photo.img is not the image of a disk"), "{page}");
    let page = page_after_form(&web, "large.img", &disk_image(7 << 20));
    assert!(page.contains("an image must have at most 6.0 MiB"), "{page}");
    let page = page_after_form(&web, "../up.img", &disk_image(4096));
    assert!(page.contains("invalid name of an image"), "{page}");
    let large = create(&web, "large.img", 7 << 20).expect(413);
    assert!(large.text().contains("tuning.max_upload_bytes"), "{}", large.text());
    let at = create(&web, "a.img", 4096).expect(201).header("location").unwrap().to_owned();
    append(&web, &at, 0, &disk_image(5000)).expect(413);
    let at = create(&web, "a.img", 4096).expect(201).header("location").unwrap().to_owned();
    append(&web, &at, 0, &[7; 4096]).expect(422);
    let at = create(&web, "a.img", 4096).expect(201).header("location").unwrap().to_owned();
    web.request("DELETE", &at, &[], b"").expect(204);
    web.request("DELETE", &at, &[], b"").expect(404);
    let other = [("Tus-Resumable", "0.2.2"), ("Upload-Length", "1")];
    web.request("POST", "/uploads", &other, b"").expect(412);
    let left: Vec<_> = std::fs::read_dir(web.state().join("images/.uploads")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(web.get("/images").json(), json!([]));
    // an image where a catalog is expected: an answer, not a reset
    let answer = form(&web, "/ui/catalog/upload", "own.img", &disk_image(IMAGE_BYTES)).expect(303);
    let page = web.get(answer.header("location").unwrap()).text();
    assert!(page.contains("the catalog is larger than 1 MiB"), "{page}");
}

#[test]
fn an_image_with_the_name_of_another_is_refused_before_it_is_sent() {
    let web = Web::start();
    let _ = page_after_form(&web, "own.img", &disk_image(4096));
    let refused = create(&web, "own.img", 4096).expect(409).text();
    assert!(refused.contains("an entry named own.img already exists"), "{refused}");
}

#[test]
fn images_in_the_folder_are_offered_and_those_that_are_deleted_stay_there() {
    let web = Web::start();
    let post = |act: &str, key: &str| {
        let body = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs([("act", act), ("key", key)])
            .finish();
        let headers = [("Content-Type", "application/x-www-form-urlencoded")];
        let answer = web.request("POST", "/ui/images", &headers, body.as_bytes()).expect(303);
        web.get(answer.header("location").unwrap()).expect(200).text()
    };
    std::fs::write(web.state().join("images/copied.img"), disk_image(4096)).unwrap();
    assert!(web.get("/ui/images").text().contains("copied.img"));
    let page = post("add-file", "copied.img");
    assert!(page.contains("copied.img is in the catalog."), "{page}");
    assert!(page.contains("No image there is missing"), "{page}");
    let entry = web.get("/catalog/entries").json()[0].clone();
    let kept = format!("{}/copied.img", entry["disk_image_sha"].as_str().unwrap());
    let refused = post("delete-file", &kept);
    assert!(refused.contains("is in the catalog; delete its entry first"), "{refused}");
    let page = post("delete", entry["src"].as_str().unwrap());
    assert!(page.contains(&format!("value=\"{kept}\"")), "it can be added again: {page}");
    let page = post("delete-file", &kept);
    assert!(page.contains("The file copied.img is deleted."), "{page}");
    assert!(post("add-file", "../state.db").contains("does not exist"));
    assert!(post("delete-file", "state.db").contains("does not exist"));
}
