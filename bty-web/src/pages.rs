//! Pages, as templates.

use askama::Template;
use axum::response::{Html, IntoResponse, Response};
use serde_json::Value;

use crate::app::App;
use crate::error::{Error, Result};

/// What every page needs.
pub struct Frame {
    /// What forms carry against other sites.
    pub csrf: String,
    /// No password is set: everybody is the admin.
    pub is_open: bool,
    /// Somebody is logged in.
    pub is_inside: bool,
    /// The page that people begin with.
    pub home: &'static str,
    /// Pages, by name and path.
    pub nav: Vec<(&'static str, &'static str)>,
}

impl Frame {
    /// The frame of a page of `app`.
    #[must_use]
    pub fn of(app: &App, csrf: &str, is_inside: bool) -> Self {
        let pages = [
            (!app.config.is_cache_only, ("Machines", "/ui/machines")),
            (app.cache.is_some(), ("Cache", "/ui/cache")),
            (true, ("API", "/docs")),
        ];
        let nav = pages.into_iter().filter(|(is_there, _)| *is_there).map(|(_, page)| page).collect();
        Self { csrf: csrf.to_owned(), is_open: app.auth.is_open(), is_inside, home: app.home(), nav }
    }

    fn version(&self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }
}

/// The log-in form.
#[derive(Template)]
#[template(path = "login.html")]
pub struct Login {
    /// The frame.
    pub frame: Frame,
    /// Why the last attempt failed.
    pub error: Option<String>,
}

/// The machines.
#[derive(Template)]
#[template(path = "machines.html")]
pub struct Machines {
    /// The frame.
    pub frame: Frame,
    /// How many there are.
    pub total: usize,
    /// The first ones.
    pub rows: Vec<Row>,
}

/// A machine in the list.
pub struct Row {
    /// MAC address.
    pub mac: String,
    /// Its labels.
    pub labels: Vec<String>,
    /// Its plan.
    pub plan: String,
    /// Name of its image.
    pub image: String,
    /// Where it is.
    pub state: String,
    /// When it was last heard of.
    pub last_seen: String,
    /// From which address.
    pub last_ip: String,
    /// When it was last flashed.
    pub last_flashed: String,
}

/// The cache host.
#[derive(Template)]
#[template(path = "cache.html")]
pub struct CachePage {
    /// The frame.
    pub frame: Frame,
    /// What went wrong with the last form.
    pub error: Option<String>,
    /// So much is taken.
    pub used: String,
    /// More it may not have.
    pub max: Option<String>,
    /// Only what an operator asks for is fetched.
    pub is_curated: bool,
    /// So many objects there are.
    pub total: usize,
    /// The last used ones.
    pub objects: Vec<ObjectRow>,
    /// What is on its way.
    pub fills: Vec<FillRow>,
    /// What was asked for and not there.
    pub misses: Vec<MissRow>,
}

/// An object of the cache.
pub struct ObjectRow {
    /// Its key.
    pub key: String,
    /// Where it came from.
    pub address: String,
    /// Its size.
    pub size: String,
    /// Its digest.
    pub sha256: String,
    /// How often it was asked for.
    pub hits: u64,
    /// When it was last asked for.
    pub used: String,
    /// It is kept for ever.
    pub is_pinned: bool,
}

/// An object on its way to the cache.
pub struct FillRow {
    /// Its key.
    pub key: String,
    /// Where it comes from.
    pub address: String,
    /// So much of it is here.
    pub done: String,
    /// Its size.
    pub total: String,
    /// Since when.
    pub since: String,
}

/// What was asked for and not in the cache.
pub struct MissRow {
    /// Its address.
    pub address: String,
    /// How often.
    pub count: u64,
    /// When last.
    pub last: String,
}

/// The API.
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
    parameters: Vec<Parameter>,
    body: String,
    responses: Vec<(String, String)>,
}

struct Parameter {
    name: String,
    place: String,
    is_required: bool,
    about: String,
}

/// A page as an answer.
///
/// # Errors
/// When it cannot be rendered.
pub fn render(page: &impl Template) -> Result<Response> {
    Ok(Html(page.render().map_err(Error::internal)?).into_response())
}

/// The document of the API as a page.
///
/// # Errors
/// When it cannot be rendered.
pub fn docs(app: &App, document: &Value) -> Result<Response> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut operations = Vec::new();
    for (path, methods) in document["paths"].as_object().into_iter().flatten() {
        for (method, operation) in methods.as_object().into_iter().flatten() {
            let parameter = |p: &Value| Parameter {
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
                parameters: operation["parameters"].as_array().into_iter().flatten().map(parameter).collect(),
                body: contents(&operation["requestBody"]["content"]),
                responses: responses.map(|(status, r)| (status.clone(), contents(&r["content"]))).collect(),
            });
        }
    }
    let schemas = document["components"]["schemas"].as_object().into_iter().flatten();
    let pretty = |value: &Value| serde_json::to_string_pretty(value).unwrap_or_default();
    render(&Docs {
        frame: Frame { is_open: false, ..Frame::of(app, "", false) },
        operations,
        schemas: schemas.map(|(name, schema)| (name.clone(), pretty(schema))).collect(),
    })
}

/// Media types with what they hold.
fn contents(content: &Value) -> String {
    let one = |(media, value): (&String, &Value)| {
        let schema = &value["schema"];
        let name = |schema: &Value| schema["$ref"].as_str().and_then(|r| r.rsplit('/').next()).map(str::to_owned);
        let shape = name(schema).or_else(|| name(&schema["items"]).map(|name| format!("array of {name}")));
        shape.map_or_else(|| media.clone(), |shape| format!("{media}: {shape}"))
    };
    content.as_object().into_iter().flatten().map(one).collect::<Vec<_>>().join(", ")
}
