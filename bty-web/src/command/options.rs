//! Options that several commands have: an image by its name, and parameters of a plan.

use serde_json::{Map, Value, json};

use super::remote::{RemoteServer, shown};
use crate::domain::error::{Error, Result};

/// Returns the reference of an image given by its name or its reference.
pub(super) async fn image_ref(server: &RemoteServer, image: &str) -> Result<Value> {
    if image.is_empty() {
        return Ok(Value::Null);
    }
    if image.len() == 64 && image.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(image.into());
    }
    let images = server.api.get("/images").await?;
    let images: Vec<&Value> = images.as_array().into_iter().flatten().collect();
    if let Some(found) = images.iter().find(|entry| entry["name"] == image) {
        return Ok(found["ref"].clone());
    }
    let names: Vec<String> = images.iter().map(|entry| shown(&entry["name"])).collect();
    Err(Error::invalid(format!(
        "the catalog has no image {image:?}; choose one of: {}",
        names.join(", ")
    )))
}

/// Returns the parameters of a plan, given as `NAME=VALUE`; a value that is no JSON is a text.
pub(super) fn params(given: &[String]) -> Result<Value> {
    let mut params = Map::new();
    for one in given {
        let (name, value) = one.split_once('=').ok_or_else(|| {
            Error::invalid(format!("invalid parameter {one:?}: expected NAME=VALUE"))
        })?;
        params
            .insert(name.to_owned(), serde_json::from_str(value).unwrap_or_else(|_| json!(value)));
    }
    Ok(params.into())
}
