//! The live environment that machines boot, probes of its delivery, and the options for the DHCP
//! server.

use std::sync::Arc;
use std::time::{Duration, Instant};

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use bty::Client;
use bty::client::Request;
use serde::Deserialize;

use super::form::Fields;
use super::frame::Frame;
use super::notice::{Notice, Notices};
use super::render::{percent, render};
use super::settings::save_settings;
use crate::config::Config;
use crate::domain::error::{Error, Problem, Result};
use crate::domain::machine::ClientContext;
use crate::http::extract::Params;
use crate::services::job_control::{JobControl, NetbootHealth, ReleaseCheck, Releases};
use crate::services::jobs::Job;
use crate::services::netboot::NetbootVersion;
use crate::services::netboot::dhcp::{Snippet, Value};
use crate::services::netboot::dhcp_lines::{snippets, values};
use crate::services::netboot::programs;
use crate::services::settings::SettingEdits;
use crate::services::snapshot::Snapshots;

/// The query of the page.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct NetbootQuery {
    /// The base URL at which machines reach the server.
    base: String,
}

#[derive(Template)]
#[template(path = "netboot.html")]
struct Netboot {
    frame: Frame,
    releases: Releases,
    fetches: Vec<Fetch>,
    tag: String,
    /// Names and base URLs for which DHCP options can be shown, and whether each is selected.
    bases: Vec<(String, String, bool)>,
    /// Installed versions of the live environment other than the default.
    others: Vec<NetbootVersion>,
    is_loopback: bool,
    values: Vec<Value>,
    snippets: Vec<Snippet>,
}

/// A download of a release.
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

    fn is_running(&self) -> bool {
        !self.job.status.is_over()
    }
}

/// Shows the files, the probes and the DHCP options.
pub async fn page(
    State(jobs): State<JobControl>,
    State(snapshots): State<Arc<Snapshots>>,
    State(config): State<Arc<Config>>,
    who: ClientContext,
    frame: Frame,
    Params(query): Params<NetbootQuery>,
) -> Result<Response> {
    let mut releases = jobs.releases();
    let bases = bases(&config, &who);
    let base = bases
        .iter()
        .map(|(_, base)| base)
        .find(|base| **base == query.base)
        .unwrap_or(&who.base)
        .clone();
    let page = Netboot {
        fetches: std::mem::take(&mut releases.fetches)
            .into_iter()
            .take(5)
            .map(Fetch::new)
            .collect(),
        tag: snapshots.current().settings.get("upstream.netboot_tag").to_owned(),
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

/// Returns the base URLs of the server: that of this request, and those of its interfaces.
fn bases(config: &Config, who: &ClientContext) -> Vec<(String, String)> {
    let mut bases = vec![("as in your browser".to_owned(), who.base.clone())];
    bases.extend(interfaces(config).into_iter().filter(|(_, base)| *base != who.base));
    bases
}

/// Returns the addresses of this host that other hosts may reach, with the names of their
/// interfaces.
fn interfaces(config: &Config) -> Vec<(String, String)> {
    let (port, path) = (config.listen.port(), &config.base_path);
    let mut bases = Vec::new();
    for interface in if_addrs::get_if_addrs().unwrap_or_default() {
        let ip = interface.ip();
        let is_link_local =
            matches!(ip, std::net::IpAddr::V6(v6) if v6.segments()[0] & 0xffc0 == 0xfe80);
        if ip.is_loopback() || is_link_local {
            continue;
        }
        let address = std::net::SocketAddr::new(ip, port);
        bases.push((interface.name, format!("http://{address}{path}")));
    }
    bases
}

/// Results of probes. They take a moment, so the page loads them after it is displayed.
#[derive(Template)]
#[template(path = "netboot_probe.html")]
struct Probes {
    root: String,
    health: NetbootHealth,
    http: Vec<HttpProbe>,
}

/// The result of requesting a boot program from one of the server's addresses, as UEFI HTTP Boot
/// does.
struct HttpProbe {
    url: String,
    is_well: bool,
    detail: String,
}

const ADDRESSES_MAX: usize = 8;
const PROBE_TIMEOUT: Duration = Duration::from_millis(1500);

impl HttpProbe {
    async fn run(client: &Client, url: String) -> Self {
        let begun = Instant::now();
        let mut request = Request::get(&url);
        (request.method, request.timeout) = (Some("HEAD"), PROBE_TIMEOUT);
        let (is_well, detail) = match client.exchange_async(&request).await {
            Ok(answer) if answer.is_success() => (true, "the file exists".to_owned()),
            Ok(answer) => (false, format!("the server responded with {}", answer.status)),
            Err(_) if begun.elapsed() >= PROBE_TIMEOUT => {
                (false, "the server did not respond".into())
            }
            Err(_) => (
                false,
                "nothing listens at this address, so machines in its network cannot boot".into(),
            ),
        };
        Self { url, is_well, detail }
    }

    /// Probes every address of this host that other hosts may reach.
    async fn all(config: &Config) -> Vec<Self> {
        let program = programs(config).into_iter().find(|(name, _)| name.ends_with(".efi"));
        let Some((name, _)) = program else { return Vec::new() };
        // there is no proxy between this host and itself
        let client = Client::default();
        let bases = interfaces(config).into_iter().take(ADDRESSES_MAX);
        let probes = bases.map(|(_, base)| Self::run(&client, format!("{base}/boot/{name}")));
        futures_util::future::join_all(probes).await
    }
}

/// Probes whether machines can boot from this server.
pub async fn probe(
    State(jobs): State<JobControl>,
    State(config): State<Arc<Config>>,
    who: ClientContext,
) -> Result<Response> {
    let (health, http) = tokio::join!(jobs.netboot_health(&who), HttpProbe::all(&config));
    render(&Probes { root: config.root(), health, http })
}

/// Handles the forms of the page.
pub async fn submit(
    State(jobs): State<JobControl>,
    State(settings): State<SettingEdits>,
    who: ClientContext,
    notices: Notices,
    fields: Fields,
) -> Response {
    notices.redirect("/ui/netboot", handle(&jobs, &settings, &who, &fields).await)
}

async fn handle(
    jobs: &JobControl,
    settings: &SettingEdits,
    who: &ClientContext,
    fields: &Fields,
) -> Result<Notice> {
    let key = fields.text("key").to_owned();
    match fields.text("act") {
        "fetch" => {
            let job = jobs.fetch_release(who, fields.optional("tag")).await?;
            Ok(Notice::success(format!("The release {} is being fetched.", job.key)))
        }
        "cancel" => {
            jobs.cancel_release(&key)?;
            Ok(Notice::success("The fetch is being cancelled. A new fetch resumes it."))
        }
        "verify" => Ok(verify_notice(jobs.verify_release(key).await?)),
        "boot" => {
            let text = format!("Machines boot version {key} from now on.");
            let values = [("netboot.version".to_owned(), key.into())].into_iter().collect();
            save_settings(settings, who, values, &text).await
        }
        _ => Err(Error::invalid("unknown action")),
    }
}

fn verify_notice(check: ReleaseCheck) -> Notice {
    let ReleaseCheck { version, is_right, wrong } = check;
    let text = match is_right {
        true => format!("All files of version {version} match their digests."),
        false => format!("Files of version {version} do not match their digests."),
    };
    let problems = wrong.into_iter().map(|wrong| Problem::new(version.clone(), wrong)).collect();
    Notice { is_wrong: !is_right, problems, ..Notice::success(text) }
}
