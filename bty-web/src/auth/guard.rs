//! What stands before the handlers: sessions, tokens, and requests that another site has made a browser send.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use axum_extra::extract::cookie::SignedCookieJar;

use super::{SESSION_MS, Scope, digest};
use crate::app::App;
use crate::error::{Error, ErrorKind, Result};
use crate::store::access;
use crate::time::Time;

/// Who is let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
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

impl Who {
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
            Self::Session { token_sha256, .. } | Self::Token { token_sha256, .. } => token_sha256.clone(),
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

    /// True while what has let it in counts: for answers that go on. Scopes of a token do not change.
    pub async fn may_still(&self, app: &App) -> bool {
        let now = Time::now();
        let found = match self.clone() {
            Self::Everybody => Ok(true),
            Self::Session { token_sha256, .. } => {
                app.db.read(move |conn| Ok(access::session(conn, &token_sha256, now)?.is_some())).await
            }
            Self::Token { token_sha256, .. } => {
                app.db.read(move |conn| Ok(access::token(conn, &token_sha256, now)?.is_some())).await
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

/// Refuses what a browser sends: a page of any site can make it ask for an address with an image or a link, and a contact opens a boot cycle.
/// Firmware, iPXE and the live environment send none of these headers.
pub async fn refuse_browsers(request: Request, next: Next) -> Response {
    let is_browser =
        ["sec-fetch-mode", "sec-fetch-site", "referer"].iter().any(|name| request.headers().contains_key(*name));
    if is_browser {
        let detail =
            "browsers are refused here: a contact changes the state of a machine; look at its page, or ask with curl";
        return Error::new(ErrorKind::Forbidden, detail).into_response();
    }
    next.run(request).await
}

async fn enter(guard: &Guard, headers: &HeaderMap) -> Result<Who> {
    if guard.app.auth.is_open() {
        return by_host(&guard.app, headers);
    }
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let token = value.to_str().ok().and_then(|value| value.strip_prefix("Bearer "));
        let token = token.ok_or_else(|| Error::new(ErrorKind::LoginRequired, "only bearer tokens are understood"))?;
        return by_token(guard, token.trim()).await;
    }
    match session(&guard.app, headers).await? {
        Some(who) => Ok(who),
        None => Err(Error::new(ErrorKind::LoginRequired, "login required")),
    }
}

/// Lets everybody in who calls the server by a name that it knows. Any web site can make its own name lead to this address (DNS rebinding), and its script is then
/// of the same origin as our pages: only a password tells it from an operator.
fn by_host(app: &App, headers: &HeaderMap) -> Result<Who> {
    // every browser names a host
    let Some(host) = headers.get(header::HOST) else { return Ok(Who::Everybody) };
    let host = host.to_str().unwrap_or_default();
    if is_own_host(host, &own_name(), app.config.public_url.as_deref()) {
        return Ok(Who::Everybody);
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
    let public = public_url.and_then(|url| url::Url::parse(url).ok()?.host_str().map(str::to_owned));
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

async fn by_token(guard: &Guard, token: &str) -> Result<Who> {
    let (sha256, now) = (digest(token), Time::now());
    let token_sha256 = sha256.clone();
    let found = guard.app.db.read(move |conn| access::token(conn, &sha256, now)).await?;
    let token = found.ok_or_else(|| Error::new(ErrorKind::LoginRequired, "the token is not known, or has ended"))?;
    if !guard.scope.is_in(&token.scopes) {
        return Err(lacks(guard.scope, &token.scopes));
    }
    if token.last_used_at.is_none_or(|last| now.ms_since(last) > 60_000) {
        let id = token.id;
        guard.app.db.write(move |transaction| access::use_token(transaction, id, now)).await?;
    }
    Ok(Who::Token { name: token.name, token_sha256, scopes: token.scopes })
}

/// The session of a browser, which lives longer by being used.
///
/// # Errors
/// Those of the database.
pub async fn session(app: &App, headers: &HeaderMap) -> Result<Option<Who>> {
    let jar = SignedCookieJar::from_headers(headers, app.auth.key.clone());
    let Some(cookie) = jar.get(app.auth.cookie) else { return Ok(None) };
    let (token_sha256, now) = (digest(cookie.value()), Time::now());
    let wanted = token_sha256.clone();
    let Some(session) = app.db.read(move |conn| access::session(conn, &wanted, now)).await? else { return Ok(None) };
    // once a day is enough
    if session.expires_at.ms_since(now) < SESSION_MS - SESSION_MS / 7 {
        let sha256 = token_sha256.clone();
        app.db.write(move |t| access::extend_session(t, &sha256, now.plus_ms(SESSION_MS))).await?;
    }
    Ok(Some(Who::Session { token_sha256, csrf: session.csrf }))
}

/// Refuses what another site has made a browser send: browsers say where a request comes from, other programs have no sessions to borrow.
pub async fn same_origin(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let is_safe = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if is_safe || is_same_origin(&app, request.headers()) {
        return next.run(request).await;
    }
    Error::new(ErrorKind::Forbidden, "the request comes from another site").into_response()
}

fn is_same_origin(app: &App, headers: &HeaderMap) -> bool {
    let text = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    match headers.get("sec-fetch-site").map(axum::http::HeaderValue::as_bytes) {
        Some(b"same-origin" | b"none") => return true,
        Some(_) => return false,
        None => {}
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let Some(origin) = origin.to_str().ok() else { return false };
    let bare =
        |url: &str| url.trim_start_matches("http://").trim_start_matches("https://").trim_end_matches('/').to_owned();
    let own = [text(header::HOST).map(str::to_owned), app.config.public_url.as_deref().map(bare)];
    own.into_iter().flatten().any(|host| host == bare(origin))
}

#[cfg(test)]
mod tests {
    use super::*;

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
