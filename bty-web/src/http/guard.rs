//! What stands before the handlers: sessions, tokens, and requests that another site has made a
//! browser send.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use axum_extra::extract::cookie::SignedCookieJar;

use crate::config::Config;
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::time::Time;
use crate::http::network::resolve_client;
use crate::services::app::App;
use crate::services::auth::{SESSION_MS, Scope, digest};
use crate::store::access;

/// Who is let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Principal {
    /// Everybody: no password is set.
    Everybody,
    /// A browser with a session.
    Session {
        /// Digest of its token.
        token_sha256: String,
        /// What its forms must carry.
        csrf: String,
    },
    /// A program with an API token.
    Token {
        /// Name of the token.
        name: String,
        /// Its digest.
        token_sha256: String,
        /// What it may do.
        scopes: Vec<String>,
    },
}

impl Principal {
    /// What a form of a page carries against other sites.
    #[must_use]
    pub fn csrf(&self) -> &str {
        match self {
            Self::Session { csrf, .. } => csrf,
            _ => "",
        }
    }

    /// For who saved something.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Everybody | Self::Session { .. } => "operator".into(),
            Self::Token { name, .. } => format!("token {name}"),
        }
    }

    /// What tells it from others, for budgets.
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            Self::Everybody => "everybody".into(),
            Self::Session { token_sha256, .. } | Self::Token { token_sha256, .. } => {
                token_sha256.clone()
            }
        }
    }

    /// Refuses a token without `scope`; operators may do everything.
    ///
    /// # Errors
    /// [`ErrorKind::Forbidden`].
    pub fn require(&self, scope: Scope) -> Result<()> {
        match self {
            Self::Token { scopes, .. } if !scope.is_in(scopes) => Err(lacks(scope, scopes)),
            _ => Ok(()),
        }
    }

    /// True while what has let it in counts: for answers that go on. Scopes of a token do not
    /// change.
    pub async fn may_still(&self, app: &App) -> bool {
        let now = Time::now();
        let found = match self.clone() {
            Self::Everybody => Ok(true),
            Self::Session { token_sha256, .. } => {
                app.db
                    .read(move |conn| Ok(access::session(conn, &token_sha256, now)?.is_some()))
                    .await
            }
            Self::Token { token_sha256, .. } => {
                app.db
                    .read(move |conn| Ok(access::token(conn, &token_sha256, now)?.is_some()))
                    .await
            }
        };
        found.unwrap_or(false)
    }
}

/// Which scope a group of routes asks for.
#[derive(Clone)]
pub struct Guard {
    /// The server.
    pub app: Arc<App>,
    /// What a token must be allowed.
    pub scope: Scope,
    /// True for pages: who is not logged in is led to the form.
    pub is_page: bool,
}

/// Lets in who may.
pub async fn guard(State(guard): State<Guard>, mut request: Request, next: Next) -> Response {
    match enter(&guard, request.headers()).await {
        Ok(who) => {
            request.extensions_mut().insert(who);
            next.run(request).await
        }
        Err(error) if guard.is_page && error.kind == ErrorKind::LoginRequired => {
            Redirect::to("/ui/login").into_response()
        }
        Err(error) => error.into_response(),
    }
}

/// Refuses what a browser sends: a page of any site can make it ask for an address with an image or
/// a link, and a contact opens a boot cycle. Firmware, iPXE and the live environment send none of
/// these headers.
pub async fn refuse_browsers(request: Request, next: Next) -> Response {
    let is_browser = ["sec-fetch-mode", "sec-fetch-site", "referer"]
        .iter()
        .any(|name| request.headers().contains_key(*name));
    if is_browser {
        let detail = "browsers are refused here: a contact changes the state of a machine; look at its page, or ask with curl";
        return Error::new(ErrorKind::Forbidden, detail).into_response();
    }
    next.run(request).await
}

async fn enter(guard: &Guard, headers: &HeaderMap) -> Result<Principal> {
    if guard.app.auth.is_open() {
        return by_host(&guard.app, headers);
    }
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let token = value.to_str().ok().and_then(|value| value.strip_prefix("Bearer "));
        let token = token.ok_or_else(|| {
            Error::new(ErrorKind::LoginRequired, "only bearer tokens are understood")
        })?;
        return by_token(guard, token.trim()).await;
    }
    match session(&guard.app, headers).await? {
        Some(who) => Ok(who),
        None => Err(Error::new(ErrorKind::LoginRequired, "login required")),
    }
}

/// Lets everybody in who calls the server by a name that it knows. Any web site can make its own
/// name lead to this address (DNS rebinding), and its script is then of the same origin as our
/// pages: only a password tells it from an operator.
fn by_host(app: &App, headers: &HeaderMap) -> Result<Principal> {
    // every browser names a host
    let Some(host) = headers.get(header::HOST) else { return Ok(Principal::Everybody) };
    let host = host.to_str().unwrap_or_default();
    if is_own_host(host, &own_name(), app.config.public_url.as_deref()) {
        return Ok(Principal::Everybody);
    }
    let shown: String = host.chars().filter(|c| !c.is_control()).take(100).collect();
    let why = format!(
        "this server has no password, and {shown:?} is not a name of it: use its IP address, set server.public_url to this name, or set a password"
    );
    Err(Error::new(ErrorKind::Forbidden, why))
}

fn own_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// True for IP addresses, `localhost`, the name of this machine, and the host of `public_url`.
fn is_own_host(host: &str, own_name: &str, public_url: Option<&str>) -> bool {
    let Ok(url) = url::Url::parse(&format!("http://{host}")) else { return false };
    let public =
        public_url.and_then(|url| url::Url::parse(url).ok()?.host_str().map(str::to_owned));
    match url.host() {
        Some(url::Host::Domain(name)) => {
            let own = [
                "localhost".to_owned(),
                own_name.to_ascii_lowercase(),
                format!("{}.local", own_name.to_ascii_lowercase()),
            ];
            own.iter().chain(&public).any(|known| known == name)
        }
        Some(_) => true,
        None => false,
    }
}

fn lacks(scope: Scope, scopes: &[String]) -> Error {
    let (has, needs) = (scopes.join(", "), scope.as_str());
    Error::new(ErrorKind::Forbidden, format!("this needs the scope {needs}; the token has {has}"))
}

async fn by_token(guard: &Guard, token: &str) -> Result<Principal> {
    let (sha256, now) = (digest(token), Time::now());
    let token_sha256 = sha256.clone();
    let found = guard.app.db.read(move |conn| access::token(conn, &sha256, now)).await?;
    let token = found.ok_or_else(|| {
        Error::new(ErrorKind::LoginRequired, "the token is not known, or has ended")
    })?;
    if !guard.scope.is_in(&token.scopes) {
        return Err(lacks(guard.scope, &token.scopes));
    }
    if token.last_used_at.is_none_or(|last| now.ms_since(last) > 60_000) {
        let id = token.id;
        guard.app.db.write(move |transaction| access::use_token(transaction, id, now)).await?;
    }
    Ok(Principal::Token { name: token.name, token_sha256, scopes: token.scopes })
}

/// The session of a browser, which lives longer by being used.
///
/// # Errors
/// Those of the database.
pub async fn session(app: &App, headers: &HeaderMap) -> Result<Option<Principal>> {
    let jar = SignedCookieJar::from_headers(headers, app.auth.key.clone());
    let Some(cookie) = jar.get(app.auth.cookie) else { return Ok(None) };
    let (token_sha256, now) = (digest(cookie.value()), Time::now());
    let wanted = token_sha256.clone();
    let Some(session) = app.db.read(move |conn| access::session(conn, &wanted, now)).await? else {
        return Ok(None);
    };
    // once a day is enough
    if session.expires_at.ms_since(now) < SESSION_MS - SESSION_MS / 7 {
        let sha256 = token_sha256.clone();
        app.db.write(move |t| access::extend_session(t, &sha256, now.plus_ms(SESSION_MS))).await?;
    }
    Ok(Some(Principal::Session { token_sha256, csrf: session.csrf }))
}

/// Refuses what another site has made a browser send: browsers say where a request comes from,
/// other programs have no sessions to borrow.
pub async fn same_origin(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let is_safe = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if is_safe {
        return next.run(request).await;
    }
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
    let own = own_hosts(&app.config, peer, request.headers());
    let Some(told) = foreign_origin(request.headers(), &own) else {
        return next.run(request).await;
    };
    let error = other_site(&told, &own, peer);
    if is_first_in_a_minute() {
        tracing::warn!(%error, path = request.uri().path(), "a request was refused, as another site may have sent it");
    }
    let accepts = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok());
    match accepts.is_some_and(|accepts| accepts.contains("text/html")) {
        true => crate::http::ui::outside_fault(&app, error),
        false => error.into_response(),
    }
}

/// Hosts, with their ports, by which this server is reached: what the request says, what a trusted
/// proxy says, and `server.public_url`.
fn own_hosts(config: &Config, peer: Option<IpAddr>, headers: &HeaderMap) -> Vec<String> {
    let host = headers.get(header::HOST).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let proxied = peer.map(|peer| {
        resolve_client(peer, headers, &config.trusted_proxies, None, config.listen.port()).base
    });
    let mut own: Vec<String> = host.into_iter().collect();
    for host in
        [proxied.as_deref(), config.public_url.as_deref()].into_iter().flatten().filter_map(host_of)
    {
        if !own.contains(&host) {
            own.push(host);
        }
    }
    own
}

/// Host and port of an address; a port that its scheme implies is left out, as in `Origin`.
fn host_of(address: &str) -> Option<String> {
    let url: url::Url = address.parse().ok()?;
    let host = url.host_str()?;
    Some(url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
}

/// The header that says that a browser sends this for another site, as `Origin: https://h`; none
/// for requests of our own pages and of other programs.
fn foreign_origin(headers: &HeaderMap, own: &[String]) -> Option<String> {
    let shown = |value: &axum::http::HeaderValue| {
        String::from_utf8_lossy(value.as_bytes())
            .chars()
            .filter(|c| !c.is_control())
            .take(100)
            .collect::<String>()
    };
    if let Some(site) = headers.get("sec-fetch-site") {
        let is_own = matches!(site.as_bytes(), b"same-origin" | b"none");
        return (!is_own).then(|| format!("Sec-Fetch-Site: {}", shown(site)));
    }
    let origin = headers.get(header::ORIGIN)?;
    let host = origin.to_str().ok().and_then(host_of);
    let is_own = host.is_some_and(|host| own.iter().any(|own| own.eq_ignore_ascii_case(&host)));
    (!is_own).then(|| format!("Origin: {}", shown(origin)))
}

fn other_site(told: &str, own: &[String], peer: Option<IpAddr>) -> Error {
    let expected: String = own.join(" or ").chars().filter(|c| !c.is_control()).take(200).collect();
    let from = peer.map_or_else(String::new, |peer| {
        format!(" (to {}, if that is the proxy)", peer.to_canonical())
    });
    let mut error = Error::new(
        ErrorKind::Forbidden,
        format!(
            "the request comes from another site: the browser sent \"{told}\", and this server expects {expected}"
        ),
    );
    // a browser that names the site itself is not mistaken about it
    if told.starts_with("Origin: ") {
        error.detail += &format!(
            "; behind a proxy that changes Host, set server.public_url to the address in the browser, or let the proxy send X-Forwarded-Host and \
             set server.trusted_proxy{from}"
        );
    }
    error
}

/// True once a minute: a proxy that is set up wrongly must not fill the log.
fn is_first_in_a_minute() -> bool {
    static LAST: Mutex<Option<Instant>> = Mutex::new(None);
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    let is_first = last.is_none_or(|last| last.elapsed() >= Duration::from_secs(60));
    if is_first {
        *last = Some(Instant::now());
    }
    is_first
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the guard says of a request from a proxy at 10.0.0.9.
    fn told(env: &[(&str, &str)], fields: &[(&'static str, &str)]) -> Option<String> {
        let find = |name: &str| {
            env.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        let config = Config::load(&crate::config::Sources { env: &find, named: &[] }).unwrap();
        let headers = fields
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect();
        let peer = Some("10.0.0.9".parse().unwrap());
        let own = own_hosts(&config, peer, &headers);
        foreign_origin(&headers, &own).map(|told| other_site(&told, &own, peer).detail)
    }

    #[test]
    fn a_proxy_that_changes_the_host_is_told_from_another_site() {
        let inside = ("host", "127.0.0.1:8080");
        let why = told(&[], &[inside, ("origin", "https://bty.example")]).unwrap();
        for part in [
            "\"Origin: https://bty.example\"",
            "expects 127.0.0.1:8080",
            "server.public_url",
            "server.trusted_proxy (to 10.0.0.9",
        ] {
            assert!(why.contains(part), "{part}: {why}");
        }
        let origin = ("origin", "https://bty.example");
        let forwarded =
            [inside, origin, ("x-forwarded-host", "bty.example"), ("x-forwarded-proto", "https")];
        assert!(told(&[], &forwarded).is_some(), "anybody can send that");
        assert_eq!(told(&[("BTY_SERVER_TRUSTED_PROXY", "10.0.0.0/8")], &forwarded), None);
        for url in ["https://bty.example", "https://bty.example:443/bty/"] {
            assert_eq!(told(&[("BTY_SERVER_PUBLIC_URL", url)], &[inside, origin]), None, "{url}");
        }
        assert!(
            told(&[("BTY_SERVER_PUBLIC_URL", "https://bty.example:8443")], &[inside, origin])
                .is_some()
        );
    }

    #[test]
    fn pages_of_our_own_and_programs_are_let_in_and_other_sites_are_not() {
        let host = ("host", "h:8080");
        assert_eq!(told(&[], &[host]), None);
        assert_eq!(told(&[], &[host, ("origin", "http://h:8080")]), None);
        assert_eq!(told(&[], &[host, ("sec-fetch-site", "same-origin"), ("origin", "null")]), None);
        for fields in [
            [host, ("origin", "http://evil.example")],
            [host, ("origin", "http://h:8081")],
            [host, ("origin", "null")],
            [host, ("sec-fetch-site", "cross-site")],
        ] {
            assert!(told(&[], &fields).unwrap().contains("another site"), "{fields:?}");
        }
    }

    #[test]
    fn only_names_of_its_own_lead_to_an_open_server() {
        let is_own = |host: &str| is_own_host(host, "Flasher", Some("https://bty.example:8443/"));
        for host in [
            "10.0.0.1",
            "10.0.0.1:8080",
            "[::1]:8080",
            "[fe80::1]",
            "localhost:8080",
            "flasher",
            "flasher.local:8080",
            "BTY.example",
        ] {
            assert!(is_own(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:8080",
            "flasher.evil.example",
            "10.0.0.1.evil.example",
            "localhost.evil.example",
            "a b",
            "bty.example@evil.example",
        ] {
            assert!(!is_own(host), "{host}");
        }
    }
}
