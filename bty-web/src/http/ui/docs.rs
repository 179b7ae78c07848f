//! The API viewer: the OpenAPI document as a page.

use std::sync::Arc;

use askama::Template;
use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use serde_json::Value;

use super::frame::{Frame, Frames};
use super::render::render;
use crate::domain::error::{Error, Result};

#[derive(Template)]
#[template(path = "docs.html")]
struct Docs {
    frame: Frame,
    operations: Vec<Operation>,
    schemas: Vec<(String, String)>,
}

struct Operation {
    method: String,
    path: String,
    summary: String,
    description: String,
    parameters: Vec<OperationParameter>,
    body: String,
    responses: Vec<(String, String)>,
}

struct OperationParameter {
    name: String,
    place: String,
    is_required: bool,
    about: String,
}

/// Shows the OpenAPI document as a page.
#[utoipa::path(
    get, path = "/docs/api", tag = "server",
    responses((status = 200, content_type = "text/html", body = String)),
)]
pub(crate) async fn docs(
    State(frames): State<Frames>,
    Extension(document): Extension<Arc<utoipa::openapi::OpenApi>>,
) -> Result<Response> {
    let document = serde_json::to_value(&*document).map_err(Error::internal)?;
    render(&Docs {
        frame: frames.public("/docs/api"),
        operations: operations(&document),
        schemas: schemas(&document),
    })
}

fn operations(document: &Value) -> Vec<Operation> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut operations = Vec::new();
    for (path, methods) in document["paths"].as_object().into_iter().flatten() {
        for (method, operation) in methods.as_object().into_iter().flatten() {
            let parameter = |p: &Value| OperationParameter {
                name: text(&p["name"]),
                place: text(&p["in"]),
                is_required: p["required"] == true,
                about: text(&p["description"]),
            };
            let responses = operation["responses"].as_object().into_iter().flatten();
            operations.push(Operation {
                method: method.to_uppercase(),
                path: path.clone(),
                summary: text(&operation["summary"]),
                description: text(&operation["description"]),
                parameters: operation["parameters"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(parameter)
                    .collect(),
                body: contents(&operation["requestBody"]["content"]),
                responses: responses
                    .map(|(status, r)| (status.clone(), contents(&r["content"])))
                    .collect(),
            });
        }
    }
    operations
}

/// Returns the names and JSON of all schemas.
fn schemas(document: &Value) -> Vec<(String, String)> {
    let schemas = document["components"]["schemas"].as_object().into_iter().flatten();
    let pretty = |value: &Value| serde_json::to_string_pretty(value).unwrap_or_default();
    schemas.map(|(name, schema)| (name.clone(), pretty(schema))).collect()
}

/// Returns the media types, each with the name of its schema.
fn contents(content: &Value) -> String {
    let one = |(media, value): (&String, &Value)| {
        let schema = &value["schema"];
        let name = |schema: &Value| {
            schema["$ref"].as_str().and_then(|r| r.rsplit('/').next()).map(str::to_owned)
        };
        let shape =
            name(schema).or_else(|| name(&schema["items"]).map(|name| format!("array of {name}")));
        shape.map_or_else(|| media.clone(), |shape| format!("{media}: {shape}"))
    };
    content.as_object().into_iter().flatten().map(one).collect::<Vec<_>>().join(", ")
}
