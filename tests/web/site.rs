//! The documentation site at `/docs/`.

use std::fs;

use bty_tests::command::tool;
use bty_tests::web::{Web, web_path};
use serde_json::Value;

#[test]
fn the_site_is_served_where_it_is_installed_and_leads_nowhere_else() {
    let site = tempfile::tempdir().unwrap();
    fs::create_dir(site.path().join("how-to")).unwrap();
    fs::write(site.path().join("index.html"), "<h1>bty</h1>").unwrap();
    fs::write(site.path().join("how-to/plans.html"), "<h1>plans</h1>").unwrap();
    fs::write(site.path().join("a.js"), "1").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", site.path().join("link")).unwrap();
    let web = Web::with(&[("BTY_PATHS_SITE_DIR", site.path().to_str().unwrap())]);

    assert_eq!(web.get("/docs").header("location"), Some("/docs/"));
    let home = web.get("/docs/");
    assert_eq!((home.status, home.text().as_str()), (200, "<h1>bty</h1>"));
    assert_eq!(home.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(home.header("content-disposition"), None, "shown, not saved");
    let policy = home.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(web.get("/docs/how-to/plans.html").text(), "<h1>plans</h1>");
    assert_eq!(
        web.get("/docs/a.js").header("content-type"),
        Some("text/javascript; charset=utf-8")
    );
    for outside in ["/docs/link", "/docs/how-to", "/docs/index.html/x", "/docs/..%2fetc"] {
        assert_eq!(web.get(outside).status, 404, "{outside}");
    }
    // the API reference stays at /docs/api, and the pages link to both
    assert!(web.get("/docs/api").text().contains("openapi.json"));
    assert!(web.get("/docs/api").text().contains("href=\"/docs/\""));
}

#[test]
fn without_a_site_the_api_is_shown() {
    let web = Web::with(&[("BTY_PATHS_SITE_DIR", "/nonexistent")]);
    assert_eq!(web.get("/docs/").header("location"), Some("/docs/api"));
    assert!(!web.get("/docs/api").text().contains("href=\"/docs/\""));
}

#[test]
fn the_reference_has_every_path_of_the_api() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/api.md");
    let page = fs::read_to_string(page).unwrap();
    let document = tool(&[web_path().to_str().unwrap(), "openapi"]);
    let document: Value = serde_json::from_str(&document).unwrap();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            let request = format!("`{} {path}`", method.to_uppercase());
            assert!(page.contains(&request), "docs/reference/api.md has no {request}");
        }
    }
}
