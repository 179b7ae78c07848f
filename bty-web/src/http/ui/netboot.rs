//! What machines boot, whether it reaches them, and what the DHCP server has to be told.

use std::sync::Arc;
use std::time::{Duration, Instant};

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use bty::Client;
use bty::client::Request;
use serde::Deserialize;

use super::form::Fields;
use super::notice::{Notice, redirect_with_result};
use super::{Frame, percent, render};
use crate::domain::error::{Error, Problem, Result};
use crate::domain::machine::ClientContext;
use crate::http::api::jobs::{self as api, NetbootHealth, Releases};
use crate::http::extract::{Body, Params, PathText};
use crate::services::app::App;
use crate::services::jobs::Job;
use crate::services::netboot::Release;
use crate::services::netboot::dhcp::{Snippet, Value, snippets, values};

/// By which address machines reach the server.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct NetbootQuery {
    base: String,
}

#[derive(Template)]
#[template(path = "netboot.html")]
struct Netboot {
    frame: Frame,
    releases: Releases,
    fetches: Vec<Fetch>,
    tag: String,
    /// The addresses that values can be shown for, each with whether they are.
    bases: Vec<(String, String, bool)>,
    /// Other versions of the live environment.
    others: Vec<Release>,
    is_loopback: bool,
    values: Vec<Value>,
    snippets: Vec<Snippet>,
}

/// A fetch of a release.
struct Fetch {
    job: Job,
    percent: u64,
    done: String,
}

impl Fetch {
    fn new(job: Job) -> Self {
        let files =
            job.progress.as_object().into_iter().flatten().filter(|(_, file)| file.is_object());
        let (mut done, mut total, mut last) = (0_u64, 0_u64, String::new());
        for (name, file) in files {
            done = done.saturating_add(file["bytes"].as_u64().unwrap_or_default());
            total = total.saturating_add(file["total"].as_u64().unwrap_or_default());
            last.clone_from(name);
        }
        let human = bty::size::human;
        Self {
            done: format!("{last} {} of {}", human(done), human(total)),
            percent: percent(done, total),
            job,
        }
    }

    fn is_under_way(&self) -> bool {
        !self.job.status.is_over()
    }
}

/// The page.
pub async fn page(
    State(app): State<Arc<App>>,
    who: ClientContext,
    frame: Frame,
    Params(wanted): Params<NetbootQuery>,
) -> Result<Response> {
    let axum::Json(mut releases) = api::releases(State(Arc::clone(&app))).await;
    let bases = bases(&app, &who);
    let base = bases
        .iter()
        .map(|(_, base)| base)
        .find(|base| **base == wanted.base)
        .unwrap_or(&who.base)
        .clone();
    let page = Netboot {
        fetches: std::mem::take(&mut releases.fetches)
            .into_iter()
            .take(5)
            .map(Fetch::new)
            .collect(),
        tag: app.snapshot().settings.get("upstream.netboot_tag").to_owned(),
        is_loopback: base.contains("://127.")
            || base.contains("://localhost")
            || base.contains("://[::1]"),
        values: values(&base),
        snippets: snippets(&base),
        others: releases
            .versions
            .iter()
            .filter(|other| other.version != releases.version)
            .cloned()
            .collect(),
        bases: bases
            .into_iter()
            .map(|(name, address)| (name, address.clone(), address == base))
            .collect(),
        releases,
        frame,
    };
    render(&page)
}

/// By which addresses the server can be reached: the one of this request, and those of its
/// interfaces.
fn bases(app: &App, who: &ClientContext) -> Vec<(String, String)> {
    let mut bases = vec![("as you have reached it".to_owned(), who.base.clone())];
    bases.extend(
        interfaces(app.config.listen.port()).into_iter().filter(|(_, base)| *base != who.base),
    );
    bases
}

/// The addresses of this machine that others may reach, by the names of their interfaces.
fn interfaces(port: u16) -> Vec<(String, String)> {
    let mut bases = Vec::new();
    for interface in if_addrs::get_if_addrs().unwrap_or_default() {
        let ip = interface.ip();
        let is_link_local =
            matches!(ip, std::net::IpAddr::V6(v6) if v6.segments()[0] & 0xffc0 == 0xfe80);
        if ip.is_loopback() || is_link_local {
            continue;
        }
        bases.push((interface.name, format!("http://{}", std::net::SocketAddr::new(ip, port))));
    }
    bases
}

/// What a look at TFTP and the rest has found. It takes a moment: the page asks for it when it is
/// there.
#[derive(Template)]
#[template(path = "netboot_probe.html")]
struct Probes {
    root: String,
    health: NetbootHealth,
    http: Vec<HttpProbe>,
}

/// Whether firmware that boots by HTTP gets a program at one of the server's addresses.
struct HttpProbe {
    url: String,
    is_well: bool,
    detail: String,
}

/// As many addresses are tried, and so long.
const ADDRESSES_MAX: usize = 8;
const PROBE_TIMEOUT: Duration = Duration::from_millis(1500);

impl HttpProbe {
    async fn of(client: &Client, url: String) -> Self {
        let begun = Instant::now();
        let mut request = Request::get(&url);
        (request.method, request.timeout) = (Some("HEAD"), PROBE_TIMEOUT);
        let (is_well, detail) = match client.exchange_async(&request).await {
            Ok(answer) if answer.is_success() => (true, "it is there".to_owned()),
            Ok(answer) => (false, format!("the answer is {}", answer.status)),
            Err(_) if begun.elapsed() >= PROBE_TIMEOUT => (false, "no answer".into()),
            Err(_) => (false, "nobody listens there: machines of this network cannot boot".into()),
        };
        Self { url, is_well, detail }
    }

    /// At every address of this machine that is not for itself only.
    async fn all(app: &App) -> Vec<Self> {
        let program = crate::services::netboot::programs(&app.config)
            .into_iter()
            .find(|(name, _)| name.ends_with(".efi"));
        let Some((name, _)) = program else { return Vec::new() };
        // no proxy stands between this machine and itself
        let client = Client::default();
        let bases = interfaces(app.config.listen.port()).into_iter().take(ADDRESSES_MAX);
        let probes = bases.map(|(_, base)| Self::of(&client, format!("{base}/boot/{name}")));
        futures_util::future::join_all(probes).await
    }
}

/// Looks whether machines can boot from here.
pub async fn probe(State(app): State<Arc<App>>, who: ClientContext) -> Result<Response> {
    let (axum::Json(health), http) =
        tokio::join!(api::health(State(Arc::clone(&app)), who), HttpProbe::all(&app));
    render(&Probes { root: app.config.root(), health, http })
}

/// A form of the page.
pub async fn act(State(app): State<Arc<App>>, who: ClientContext, fields: Fields) -> Response {
    let done = done(&app, who, &fields).await;
    redirect_with_result(&app, "/ui/netboot", done)
}

async fn done(app: &Arc<App>, who: ClientContext, fields: &Fields) -> Result<Notice> {
    let state = || State(Arc::clone(app));
    let key = fields.text("key").to_owned();
    match fields.text("act") {
        "fetch" => {
            let body = fields
                .maybe("tag")
                .map_or_else(Vec::new, |tag| serde_json::json!({ "tag": tag }).to_string().into());
            let (_, axum::Json(job)) = api::fetch_release(state(), who, Body(body.into())).await?;
            Ok(Notice::done(format!("The release {} is being fetched.", job.key)))
        }
        "cancel" => {
            let cancelled = api::cancel_release(state(), PathText(key)).await;
            cancelled.map(|_| {
                Notice::done(
                    "The fetch is cancelled. It goes on where it was when it is asked for again.",
                )
            })
        }
        "verify" => {
            let axum::Json(verified) = api::verify(state(), PathText(key)).await?;
            let problems: Vec<Problem> = verified
                .wrong
                .into_iter()
                .map(|wrong| Problem::new(verified.version.clone(), wrong))
                .collect();
            let text = match verified.is_right {
                true => format!(
                    "All files of version {} have the digests of their release.",
                    verified.version
                ),
                false => format!("Version {} is not as its release.", verified.version),
            };
            Ok(Notice { is_wrong: !verified.is_right, problems, ..Notice::done(text) })
        }
        "boot" => {
            let values = [("netboot.version".to_owned(), key.clone().into())].into_iter().collect();
            super::settings::put(
                app,
                who,
                values,
                &format!("Machines boot version {key} from now on."),
            )
            .await
        }
        _ => Err(Error::invalid("there is no such act")),
    }
}
