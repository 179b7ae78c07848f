//! `bty-web image`.

use std::process::ExitCode;

use axum::http::Method;
use serde_json::Value;

use super::cli::ImageVerb;
use super::print::{out, out_json};
use super::remote::{RemoteServer, encoded, shown, table};
use crate::domain::error::{Error, ErrorKind, Result};

pub(crate) async fn run(server: &RemoteServer, verb: ImageVerb) -> Result<ExitCode> {
    match verb {
        ImageVerb::List => {
            let images = server.api.get("/catalog/entries").await?;
            show(server, &images, list);
        }
        ImageVerb::Check { image } => {
            let path = format!("/catalog/check{}", selection(server, image).await?);
            let checks = server.api.get(&path).await?;
            show(server, &checks, list_checks);
            let is_ok = |check: &Value| check["problems"].as_array().is_some_and(Vec::is_empty);
            return Ok(match checks.as_array().is_some_and(|all| all.iter().all(is_ok)) {
                true => ExitCode::SUCCESS,
                false => ExitCode::FAILURE,
            });
        }
        ImageVerb::Refresh { image } => {
            let path = format!("/catalog/refresh{}", selection(server, image).await?);
            let refreshed = server.api.send(Method::POST, &path, None).await?;
            show(server, &refreshed, list_moves);
        }
        ImageVerb::Delete { image, force } => {
            let src = find(server, &image).await?;
            let path = format!("/catalog/entries?src={}&force={force}", encoded(&src));
            server.api.send(Method::DELETE, &path, None).await?;
            out!("deleted {image}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn show(server: &RemoteServer, value: &Value, in_words: impl FnOnce(&Value)) {
    if server.json {
        out_json!("{value:#}");
    } else {
        in_words(value);
    }
}

/// Returns the query that selects an image; empty for all.
async fn selection(server: &RemoteServer, image: Option<String>) -> Result<String> {
    match image {
        Some(image) => Ok(format!("?src={}", encoded(&find(server, &image).await?))),
        None => Ok(String::new()),
    }
}

/// Returns the URL of the image with this name, reference or URL.
async fn find(server: &RemoteServer, image: &str) -> Result<String> {
    let entries = server.api.get("/catalog/entries").await?;
    let is_named =
        |entry: &&Value| ["name", "bty_image_ref", "src"].iter().any(|field| entry[field] == image);
    let found = entries.as_array().into_iter().flatten().find(is_named);
    found.and_then(|entry| entry["src"].as_str().map(str::to_owned)).ok_or_else(|| {
        let detail = format!("the catalog has no image {image}; see bty-web image list");
        Error::new(ErrorKind::NotFound, detail)
    })
}

fn list(images: &Value) {
    let row = |image: &Value| {
        let sha256 = shown(&image["disk_image_sha"]);
        let short = sha256.chars().take(12).collect();
        vec![shown(&image["name"]), short, shown(&image["moved_at"]), shown(&image["src"])]
    };
    let rows: Vec<Vec<String>> = images.as_array().into_iter().flatten().map(row).collect();
    table(&["Name", "SHA-256", "Changed", "Address"], &rows);
}

fn list_checks(checks: &Value) {
    for check in checks.as_array().into_iter().flatten() {
        let problems = check["problems"].as_array().map(Vec::as_slice).unwrap_or_default();
        if problems.is_empty() {
            out!("ok      {}", shown(&check["name"]));
        }
        for problem in problems {
            out!("failed  {}: {}", shown(&check["name"]), shown(problem));
        }
    }
}

fn list_moves(refreshed: &Value) {
    for moved in refreshed["moves"].as_array().into_iter().flatten() {
        let [name, old, new] = ["name", "old", "new"].map(|field| shown(&moved[field]));
        out!("{name}: SHA-256 {old} -> {new}");
    }
    for failed in refreshed["errors"].as_array().into_iter().flatten() {
        out!("failed  {}: {}", shown(&failed["name"]), shown(&failed["error"]));
    }
    let checked = refreshed["checked"].as_u64().unwrap_or_default();
    let moved = refreshed["moves"].as_array().map_or(0, Vec::len);
    out!("{} checked, {moved} with another digest", bty::text::count(checked, "image"));
}
