//! Middleware that decides whether a request reaches its handler. It checks sessions, tokens and
//! their permissions, and rejects requests that another site has made a browser send.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{ConnectInfo, FromRef, Request, State};
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use axum_extra::extract::cookie::SignedCookieJar;

use crate::config::Config;
use crate::domain::error::{Error, ErrorKind, Result};
use crate::http::client_address::resolve_client;
use crate::http::ui::error_page;
use crate::http::ui::frame::Frames;
use crate::services::access::{Access, Principal};
use crate::services::auth::Scope;

/// What a group of routes requires.
#[derive(Clone)]
pub struct Guard {
    /// Looks up sessions and tokens.
    access: Access,
    /// For the names of this server and its proxies.
    config: Arc<Config>,
    /// The scope that the principal needs; for pages, that of tokens.
    scope: Scope,
    /// True for pages: a request without a session is redirected to the login page. What users may
    /// do on pages is decided by [`Permission`].
    is_page: bool,
}

impl Guard {
    /// Requires `scope`.
    pub fn new<S>(state: &S, scope: Scope) -> Self
    where
        Access: FromRef<S>,
        Arc<Config>: FromRef<S>,
    {
        let (access, config) = (FromRef::from_ref(state), FromRef::from_ref(state));
        Self { access, config, scope, is_page: false }
    }

    /// Requires a user who may read, or a token with the scope `admin`.
    pub fn for_pages<S>(state: &S) -> Self
    where
        Access: FromRef<S>,
        Arc<Config>: FromRef<S>,
    {
        Self { is_page: true, ..Self::new(state, Scope::Admin) }
    }

    fn check(&self, principal: &Principal) -> Result<()> {
        match self.is_page && principal.user().is_some() {
            true => principal.require(Scope::Read),
            false => principal.require(self.scope),
        }
    }
}

/// The scopes that a group of pages requires.
#[derive(Clone, Copy)]
pub struct Permission {
    /// For reading them.
    pub read: Scope,
    /// For every other request.
    pub change: Scope,
}

/// Refuses a request of an authenticated principal who lacks the scope for it.
pub async fn permit(
    State(permission): State<Permission>,
    principal: Principal,
    request: Request,
    next: Next,
) -> Response {
    let is_reading = matches!(*request.method(), Method::GET | Method::HEAD);
    match principal.require(if is_reading { permission.read } else { permission.change }) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

/// Authenticates a request, and adds its [`Principal`] for the handler.
pub async fn guard(State(guard): State<Guard>, mut request: Request, next: Next) -> Response {
    let peer = peer(&request);
    // also the uploads of pages, which are documented as a part of the API
    let is_page = request.uri().path().starts_with("/ui/");
    let principal = authenticate(&guard, is_page, peer, request.headers()).await;
    match principal.and_then(|principal| guard.check(&principal).map(|()| principal)) {
        Ok(principal) => {
            request.extensions_mut().insert(principal);
            next.run(request).await
        }
        Err(error) if guard.is_page && error.kind == ErrorKind::LoginRequired => {
            Redirect::to("/ui/login").into_response()
        }
        Err(error) => error.into_response(),
    }
}

/// Refuses requests from browsers. A page of any site can make a browser fetch a URL through an
/// image or a link, and a contact opens a boot cycle. Firmware, iPXE and the live environment send
/// none of these headers.
pub async fn refuse_browsers(request: Request, next: Next) -> Response {
    let is_browser = ["sec-fetch-mode", "sec-fetch-site", "referer"]
        .iter()
        .any(|name| request.headers().contains_key(*name));
    if is_browser {
        let detail = "this address is not for browsers, because a contact changes the state of a \
                      machine; open the page of the machine, or use curl";
        return Error::new(ErrorKind::Forbidden, detail).into_response();
    }
    next.run(request).await
}

async fn authenticate(
    guard: &Guard,
    is_page: bool,
    peer: Option<IpAddr>,
    headers: &HeaderMap,
) -> Result<Principal> {
    if guard.access.auth().is_open() {
        return check_host(&guard.config, headers);
    }
    let denied = |detail| Error::new(ErrorKind::LoginRequired, detail);
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let token = value.to_str().ok().and_then(|value| value.strip_prefix("Bearer "));
        let token =
            token.ok_or_else(|| denied("unsupported Authorization header; send a bearer token"))?;
        return guard.access.authenticate_token(token.trim()).await;
    }
    let found = match is_page {
        true => browser(&guard.access, &guard.config, peer, headers).await?,
        false => session(&guard.access, headers).await?,
    };
    found.ok_or_else(|| denied("login required"))
}

fn peer(request: &Request) -> Option<IpAddr> {
    request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip().to_canonical())
}

/// Returns the user of a browser: the one whom a trusted proxy at `peer` has logged in, or that of
/// its session. The proxy decides, so that nobody stays logged in whom it has logged out.
///
/// # Errors
/// - [`ErrorKind::Forbidden`] when the proxy names somebody who is not a user.
/// - [`ErrorKind::Internal`] when the database fails.
pub async fn browser(
    access: &Access,
    config: &Config,
    peer: Option<IpAddr>,
    headers: &HeaderMap,
) -> Result<Option<Principal>> {
    match remote_user(config, peer, headers)? {
        Some(name) => access.find_proxied(name).await.map(Some),
        None => session(access, headers).await,
    }
}

/// Returns the name in `Remote-User`. The header counts only from a listed proxy: anybody else could
/// send any name.
fn remote_user<'a>(
    config: &Config,
    peer: Option<IpAddr>,
    headers: &'a HeaderMap,
) -> Result<Option<&'a str>> {
    let is_proxy =
        peer.is_some_and(|peer| config.remote_user_proxies.contains(peer.to_canonical()));
    let mut names = headers.get_all("remote-user").iter().filter(|_| is_proxy);
    let Some(name) = names.next() else { return Ok(None) };
    let name = name.to_str().map(str::trim).ok().filter(|_| names.next().is_none());
    match name {
        // a proxy sends an empty name for somebody who is not logged in
        Some("") => Ok(None),
        Some(name) => Ok(Some(name)),
        None => Err(Error::new(
            ErrorKind::Forbidden,
            "the proxy sent Remote-User twice or with other characters than ASCII; let it replace \
             the header of the client",
        )),
    }
}

/// Without a password, accepts only requests whose `Host` is a name of this server. Any web site
/// can make its own name resolve to this address (DNS rebinding). Its scripts then have the same
/// origin as this server's pages, and only a password would distinguish it from an operator.
fn check_host(config: &Config, headers: &HeaderMap) -> Result<Principal> {
    // every browser sends this header
    let Some(host) = headers.get(header::HOST) else { return Ok(Principal::Everybody) };
    let host = host.to_str().unwrap_or_default();
    if is_own_host(host, &own_name(), config.public_url.as_deref()) {
        return Ok(Principal::Everybody);
    }
    let shown: String = host.chars().filter(|c| !c.is_control()).take(100).collect();
    let why = format!(
        "this server has no password, and {shown:?} is not one of its names; use its IP address, \
         set server.public_url to this name, or set a password"
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

/// Returns the session in a browser's cookie.
///
/// # Errors
/// [`ErrorKind::Internal`] when the database fails.
pub async fn session(access: &Access, headers: &HeaderMap) -> Result<Option<Principal>> {
    let jar = SignedCookieJar::from_headers(headers, access.auth().key.clone());
    match jar.get(access.auth().cookie) {
        Some(cookie) => access.find_session(cookie.value()).await,
        None => Ok(None),
    }
}

/// Refuses changes that another site has made a browser send (cross-site request forgery). Browsers
/// send the origin of a request; other programs have no sessions that could be abused.
pub async fn same_origin(
    State(config): State<Arc<Config>>,
    State(frames): State<Frames>,
    request: Request,
    next: Next,
) -> Response {
    let is_safe = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if is_safe {
        return next.run(request).await;
    }
    let peer = peer(&request);
    let own = own_hosts(&config, peer, request.headers());
    let Some(origin) = foreign_origin(request.headers(), &own) else {
        return next.run(request).await;
    };
    let error = cross_site_error(&origin, &own, peer);
    if is_first_in_a_minute() {
        let path = request.uri().path();
        tracing::warn!(%error, path, "refused a request that another site may have sent");
    }
    let accepts = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok());
    match accepts.is_some_and(|accepts| accepts.contains("text/html")) {
        true => error_page::public_error_page(&frames, error),
        false => error.into_response(),
    }
}

/// Returns the hosts, with ports, at which clients reach this server: from the request, from a
/// trusted proxy, and from `server.public_url`.
fn own_hosts(config: &Config, peer: Option<IpAddr>, headers: &HeaderMap) -> Vec<String> {
    let host = headers.get(header::HOST).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let proxied = peer.map(|peer| {
        resolve_client(peer, headers, &config.trusted_proxies, None, "", config.listen.port()).base
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

/// Returns host and port of a URL. Omits the default port of the scheme, as `Origin` does.
fn host_of(address: &str) -> Option<String> {
    let url: url::Url = address.parse().ok()?;
    let host = url.host_str()?;
    Some(url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
}

/// Returns the header with which a browser marks a request from another site, such as
/// `Origin: https://h`; `None` for requests of this server's pages and of other programs.
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

fn cross_site_error(origin: &str, own: &[String], peer: Option<IpAddr>) -> Error {
    let expected: String = own.join(" or ").chars().filter(|c| !c.is_control()).take(200).collect();
    let from = peer.map_or_else(String::new, |peer| {
        format!(" (to {}, if that is the proxy)", peer.to_canonical())
    });
    let mut error = Error::new(
        ErrorKind::Forbidden,
        format!(
            "the request comes from another site: the browser sent \"{origin}\", and this server \
             expects {expected}"
        ),
    );
    // Sec-Fetch-Site is the browser's own judgment, so no proxy setting can change it
    if origin.starts_with("Origin: ") {
        error.detail += &format!(
            "; behind a proxy that changes Host, set server.public_url to the address in the \
             browser, or let the proxy send X-Forwarded-Host and set server.trusted_proxy{from}"
        );
    }
    error
}

/// Returns true at most once per minute, so that a misconfigured proxy does not flood the log.
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

    #[test]
    fn only_a_listed_proxy_can_name_a_user() {
        let config = |proxies: &'static str| {
            let values = [("admin.password", "s3cret"), ("server.remote_user_proxies", proxies)];
            Config::from_values(values).unwrap()
        };
        let value = |name: &str| axum::http::HeaderValue::from_bytes(name.as_bytes()).unwrap();
        let headers = |names: &[&str]| -> HeaderMap {
            names.iter().map(|name| ("remote-user".parse().unwrap(), value(name))).collect()
        };
        let (from, listed) = (|ip: &str| Some(ip.parse().unwrap()), config("10.0.0.9"));
        let alice = headers(&["alice"]);
        assert_eq!(remote_user(&listed, from("10.0.0.9"), &alice).unwrap(), Some("alice"));
        assert_eq!(remote_user(&listed, from("::ffff:10.0.0.9"), &alice).unwrap(), Some("alice"));
        for (config, peer) in [
            (config(""), from("10.0.0.9")),
            (config(""), from("127.0.0.1")),
            (listed.clone(), from("127.0.0.1")),
            (listed.clone(), from("10.0.0.8")),
            (listed.clone(), None),
        ] {
            assert_eq!(remote_user(&config, peer, &alice).unwrap(), None, "{peer:?}");
        }
        assert_eq!(remote_user(&listed, from("10.0.0.9"), &headers(&[""])).unwrap(), None);
        assert_eq!(remote_user(&listed, from("10.0.0.9"), &headers(&[])).unwrap(), None);
        for twice in [&["alice", "root"][..], &["alice", "alice"], &["\u{e9}"]] {
            let headers = headers(twice);
            let refused = remote_user(&listed, from("10.0.0.9"), &headers);
            assert_eq!(refused.unwrap_err().kind, ErrorKind::Forbidden, "{twice:?}");
        }
    }

    /// Returns the error for a request from a proxy at 10.0.0.9; `None` if it passes.
    fn refusal(env: &[(&str, &str)], fields: &[(&'static str, &str)]) -> Option<String> {
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
        foreign_origin(&headers, &own).map(|origin| cross_site_error(&origin, &own, peer).detail)
    }

    #[test]
    fn requests_through_a_proxy_that_changes_host_are_not_cross_site() {
        let inside = ("host", "127.0.0.1:8080");
        let why = refusal(&[], &[inside, ("origin", "https://bty.example")]).unwrap();
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
        assert!(refusal(&[], &forwarded).is_some(), "anybody can send that");
        assert_eq!(refusal(&[("BTY_SERVER_TRUSTED_PROXY", "10.0.0.0/8")], &forwarded), None);
        for url in ["https://bty.example", "https://bty.example:443/bty/"] {
            assert_eq!(
                refusal(&[("BTY_SERVER_PUBLIC_URL", url)], &[inside, origin]),
                None,
                "{url}"
            );
        }
        assert!(
            refusal(&[("BTY_SERVER_PUBLIC_URL", "https://bty.example:8443")], &[inside, origin])
                .is_some()
        );
    }

    #[test]
    fn own_pages_and_programs_pass_and_other_sites_do_not() {
        let host = ("host", "h:8080");
        assert_eq!(refusal(&[], &[host]), None);
        assert_eq!(refusal(&[], &[host, ("origin", "http://h:8080")]), None);
        assert_eq!(
            refusal(&[], &[host, ("sec-fetch-site", "same-origin"), ("origin", "null")]),
            None
        );
        for fields in [
            [host, ("origin", "http://evil.example")],
            [host, ("origin", "http://h:8081")],
            [host, ("origin", "null")],
            [host, ("sec-fetch-site", "cross-site")],
        ] {
            assert!(refusal(&[], &fields).unwrap().contains("another site"), "{fields:?}");
        }
    }

    #[test]
    fn an_open_server_accepts_only_its_own_names() {
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
