//! One request to one address: redirects, tokens, what a status means, and when to try again.

use std::error::Error as StdError;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, HeaderMap, HeaderValue, IF_RANGE,
    LOCATION, RANGE, RETRY_AFTER,
};
use reqwest::{Response, StatusCode};
use url::Url;

use super::range;
use crate::client::body::{self, Failure};
use crate::client::net::Http;
use crate::client::{ClientOptions, Login, address_policy, trust};
use crate::oci::Access;
use crate::progress::Event;
use crate::{Error, ErrorKind, Result};

const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// Bounds the body of a small answer, however slowly it comes.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);
const REDIRECTS_MAX: usize = 10;

/// What the HTTP client says when a proxy answers 407 to `CONNECT`; it has no type for that.
const PROXY_WANTS_LOGIN: &str = "proxy authorization required";
const PROXY_LOGIN: &str =
    "give the proxy's user and password in its address: http://user:password@host:port";

/// Why a request failed, as far as trying again is concerned.
pub(crate) enum Fault {
    /// Would fail again.
    Final(Error),
    /// May pass; `wait` is what the server asked for.
    Passing { error: Error, wait: Option<Duration> },
}

impl Fault {
    pub(crate) fn passing(error: Error) -> Self {
        Self::Passing { error, wait: None }
    }

    /// The same failure, with its error changed.
    pub(crate) fn map(self, change: impl FnOnce(Error) -> Error) -> Self {
        match self {
            Self::Final(error) => Self::Final(change(error)),
            Self::Passing { error, wait } => Self::Passing { error: change(error), wait },
        }
    }
}

/// Counts failures and waits between attempts.
pub(crate) struct Retries<'a> {
    options: &'a ClientOptions,
    failures: u32,
}

impl<'a> Retries<'a> {
    pub(crate) fn new(options: &'a ClientOptions) -> Self {
        Self { options, failures: 0 }
    }

    /// Something arrived: the count starts anew.
    pub(crate) fn progress(&mut self) {
        self.failures = 0;
    }

    /// Returns when the next attempt is due; fails with the error of `fault` when there is none.
    pub(crate) async fn after(&mut self, fault: Fault) -> Result<()> {
        let (error, asked) = match fault {
            Fault::Final(error) => return Err(error),
            Fault::Passing { error, wait } => (error, wait),
        };
        self.failures += 1;
        if self.failures >= self.options.attempts {
            let tries = self.failures;
            return Err(if tries > 1 {
                error.context(format!("giving up after {tries} attempts"))
            } else {
                error
            });
        }
        let doubled = self.options.retry_delay.saturating_mul(1 << (self.failures - 1).min(16));
        let delay = asked.map_or(doubled.min(BACKOFF_MAX), |asked| asked.min(RETRY_AFTER_MAX));
        let message = format!("{error}; trying again in {:.1} s", delay.as_secs_f64());
        self.options.observer.event(&Event::Notice { message });
        tokio::time::sleep(delay).await;
        Ok(())
    }
}

/// What is asked for.
#[derive(Default)]
pub(crate) struct Ask<'a> {
    /// First byte, and one past the last where it is not the end of the object.
    pub(crate) range: Option<(u64, Option<u64>)>,
    /// Send the range only if the object still has this tag.
    pub(crate) if_range: Option<&'a str>,
    /// Wanted media types.
    pub(crate) accept: Option<&'a str>,
}

/// An address, and what is needed to read from it.
pub(crate) struct Origin {
    pub(crate) http: Http,
    /// Without user and password.
    url: Url,
    shown: String,
    login: Option<HeaderValue>,
    access: Option<Arc<Access>>,
    /// A digest of the whole object is checked by whoever reads it.
    is_proven: bool,
    /// Where the address last redirected to. Later requests go there, so that a redirector does not
    /// send each to another mirror.
    pinned: Mutex<Option<Place>>,
}

/// An address that is asked, on the way that redirections lead.
#[derive(Clone)]
struct Place {
    url: Url,
    /// The way has never left the host that was named, so that what it may know may be sent.
    is_home: bool,
}

impl Origin {
    /// A web address, with the user and the password that it names or that are known for its host.
    pub(crate) fn new(http: Http, url: Url, is_proven: bool) -> Self {
        let login = http.options.credentials.for_address(&url);
        Self::with_login(http, url, login.as_ref(), is_proven)
    }

    /// A web address that is asked with `login` or with nothing.
    pub(crate) fn with_login(http: Http, url: Url, login: Option<&Login>, is_proven: bool) -> Self {
        let login = login.and_then(Login::header);
        let url = without_login(url);
        Self {
            http,
            shown: url.to_string(),
            url,
            login,
            access: None,
            is_proven,
            pinned: Mutex::new(None),
        }
    }

    /// An address of a registry, which may ask for a token.
    pub(crate) fn of_registry(http: Http, url: Url, access: Arc<Access>, is_proven: bool) -> Self {
        Self { access: Some(access), ..Self::with_login(http, url, None, is_proven) }
    }

    /// True when whoever reads it checks a digest of the whole object.
    pub(crate) fn is_proven(&self) -> bool {
        self.is_proven
    }

    /// An error of this address.
    pub(crate) fn error(&self, message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Source, message)
            .with_path(&self.shown)
            .context(format!("fetching {}", self.shown))
    }

    /// Asks once; a reply has status 2xx or 416 and an undisguised body.
    pub(crate) async fn get(&self, ask: &Ask<'_>) -> Result<Response, Fault> {
        let reply = self.answer(ask).await?;
        self.accept(reply)
    }

    /// Asks once, for a reply of any status. A refused token is renewed once.
    pub(crate) async fn answer(&self, ask: &Ask<'_>) -> Result<Response, Fault> {
        let pinned = self.pinned().take();
        if let Some(place) = pinned {
            let authorization = self.authorization().await;
            if let Ok((reply, place)) = self.send(place, ask, authorization.as_ref()).await
                && reply.status().is_success()
            {
                self.pinned().replace(place);
                return Ok(reply);
            }
            // the redirection has expired, or that mirror fails: ask the origin for another
        }
        let home = || Place { url: self.url.clone(), is_home: true };
        let authorization = self.authorization().await;
        let (mut reply, mut place) = self.send(home(), ask, authorization.as_ref()).await?;
        if reply.status() == StatusCode::UNAUTHORIZED
            && place.is_home
            && let Some(access) = &self.access
        {
            let renewed = access.renew(authorization.as_ref(), reply.headers()).await?;
            (reply, place) = self.send(home(), ask, renewed.as_ref()).await?;
        }
        if reply.status().is_success() && place.url != self.url {
            self.pinned().replace(place);
        }
        Ok(reply)
    }

    async fn authorization(&self) -> Option<HeaderValue> {
        match &self.access {
            Some(access) => access.authorization().await,
            None => self.login.clone(),
        }
    }

    fn pinned(&self) -> std::sync::MutexGuard<'_, Option<Place>> {
        self.pinned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks at `place`, and wherever that redirects to; gives the reply that is no redirection, and
    /// who gave it.
    async fn send(
        &self,
        mut place: Place,
        ask: &Ask<'_>,
        authorization: Option<&HeaderValue>,
    ) -> Result<(Response, Place), Fault> {
        for _ in 0..=REDIRECTS_MAX {
            let reply =
                self.send_to(&place.url, ask, authorization.filter(|_| place.is_home)).await?;
            match redirection(&reply) {
                Some(location) => place = self.redirected(&place, location)?,
                None => return Ok((reply, place)),
            }
        }
        Err(Fault::Final(self.error("too many redirects").hint("check the address")))
    }

    /// The place that a redirection leads to, if it may be asked.
    fn redirected(&self, from: &Place, location: &str) -> Result<Place, Fault> {
        let refused = |message: String, hint: &str| Fault::Final(self.error(message).hint(hint));
        let url =
            from.url.join(location).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let Some(url) = url.filter(|url| url.host_str().is_some_and(|host| !host.is_empty()))
        else {
            return Err(refused(
                "the server redirects to something that is no web address".into(),
                "check the address",
            ));
        };
        let url = without_login(url);
        if from.url.scheme() == "https" && url.scheme() == "http" && !self.is_proven {
            let message = format!(
                "the server redirects from https to http ({}), where anybody on the way can change it",
                shown(&url)
            );
            return Err(refused(
                message,
                "give the digest of the file (--sha256), or an address that stays with https",
            ));
        }
        let is_home = from.is_home && url.origin() == self.url.origin();
        Ok(Place { url, is_home })
    }

    async fn send_to(
        &self,
        url: &Url,
        ask: &Ask<'_>,
        authorization: Option<&HeaderValue>,
    ) -> Result<Response, Fault> {
        address_policy::check_literal(self.http.options.may_reach.as_ref(), url)
            .map_err(|refused| Fault::Final(self.error(refused.to_string())))?;
        let mut request = self.http.client.get(url.clone()).header(ACCEPT_ENCODING, "identity");
        if let Some((first, end)) = ask.range {
            let last = end.map_or(String::new(), |end| (end - 1).to_string());
            request = request.header(RANGE, format!("bytes={first}-{last}"));
        }
        if let Some(tag) = ask.if_range {
            request = request.header(IF_RANGE, tag);
        }
        if let Some(types) = ask.accept {
            request = request.header(ACCEPT, types);
        }
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let patience = self.http.options.connect_timeout + self.http.options.stall_timeout;
        match tokio::time::timeout(patience, request.send()).await {
            Ok(reply) => reply.map_err(|e| self.unsent(&e)),
            Err(_) => {
                Err(Fault::passing(self.error(format!("no answer for {} s", patience.as_secs()))))
            }
        }
    }

    /// What became of a request that got no reply.
    fn unsent(&self, error: &reqwest::Error) -> Fault {
        let cause = root_cause(error);
        if is_refused(error) {
            return Fault::Final(self.error(cause));
        }
        if let Some(refusal) = tls_refusal(error) {
            let (why, hint) = trust::refusal(refusal);
            return Fault::Final(
                self.error("the server's certificate is not trusted").because(why).hint(hint),
            );
        }
        if cause.contains(PROXY_WANTS_LOGIN) {
            return Fault::Final(
                self.error("the proxy wants a user and a password").hint(PROXY_LOGIN),
            );
        }
        if error.is_builder() {
            return Fault::Final(self.error(cause).hint("check the address"));
        }
        let message = if error.is_connect() { "cannot connect" } else { "the connection broke" };
        let error = self.error(message).because(cause);
        Fault::passing(error.hint("check the address, the network and the proxy"))
    }

    /// Judges the status and the coding of a reply.
    pub(crate) fn accept(&self, reply: Response) -> Result<Response, Fault> {
        let status = reply.status();
        if !status.is_success() && status != StatusCode::RANGE_NOT_SATISFIABLE {
            return Err(self.refused(status, reply.headers()));
        }
        match range::text(reply.headers(), &CONTENT_ENCODING) {
            Some(coding) if !coding.trim().eq_ignore_ascii_case("identity") => Err(Fault::Final(
                self.error(format!(
                    "the server sends it encoded as {coding:?}, though it was asked not to"
                ))
                .hint("configure the server to send the file as it is"),
            )),
            _ => Ok(reply),
        }
    }

    fn has_login(&self) -> bool {
        self.login.is_some() || self.access.as_ref().is_some_and(|access| access.has_login())
    }

    fn refused(&self, status: StatusCode, headers: &HeaderMap) -> Fault {
        let error = self.error(format!("the server answered {status}"));
        let passes = matches!(status.as_u16(), 408 | 425 | 429) || status.is_server_error();
        if passes {
            let wait = range::text(headers, &RETRY_AFTER).and_then(|text| text.trim().parse().ok());
            return Fault::Passing {
                error: error.hint("try again later"),
                wait: wait.map(Duration::from_secs),
            };
        }
        let hint = match status.as_u16() {
            401 if self.has_login() => {
                "the user or the password is wrong: look at --login, at the netrc, and at the file of podman login"
            }
            401 | 403 => {
                "give a user and a password: --login HOST=FILE, a netrc, or for registries the file of podman login"
            }
            404 | 410 => "check the address; nothing is there",
            407 => PROXY_LOGIN,
            _ => "check the address",
        };
        Fault::Final(error.hint(hint))
    }

    /// All of a body that must be small, and come within a minute. Nothing of it gets into an
    /// error.
    pub(crate) async fn read_all(
        &self,
        mut reply: Response,
        limit_bytes: usize,
    ) -> Result<Vec<u8>, Fault> {
        body::read(&mut reply, limit_bytes, BODY_TIMEOUT)
            .await
            .map_err(|failure| self.unread(failure, 0))
    }

    /// What became of a body that was not read; `position` is as far as it came.
    fn unread(&self, failure: Failure, position: u64) -> Fault {
        let error = match failure {
            Failure::Broken(e) => self
                .error(format!("the connection broke at offset {position}"))
                .because(root_cause(&e)),
            Failure::Stalled(time) => {
                self.error(format!("no data for {:.1} s at offset {position}", time.as_secs_f64()))
            }
            Failure::Late(time) => {
                self.error(format!("the answer takes longer than {} s", time.as_secs()))
            }
            Failure::TooLarge(limit) => {
                let limit = crate::size::human(limit as u64);
                let error = self.error(format!("the answer is larger than {limit}"));
                return Fault::Final(error.hint("check the address"));
            }
        };
        Fault::passing(error.at_offset(position))
    }

    /// The next piece of a body; `None` is its marked end. `position` is only for the error.
    pub(crate) async fn chunk(
        &self,
        reply: &mut Response,
        position: u64,
    ) -> Result<Option<Bytes>, Fault> {
        body::chunk(reply, self.http.options.stall_timeout)
            .await
            .map_err(|failure| self.unread(failure, position))
    }
}

/// `url` without user and password.
pub(crate) fn shown(url: &Url) -> String {
    without_login(url.clone()).into()
}

fn without_login(mut url: Url) -> Url {
    // both fail only for addresses without a host, which have no credentials
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url
}

/// Where a reply sends its reader.
fn redirection(reply: &Response) -> Option<&str> {
    let is_redirection = matches!(reply.status().as_u16(), 301 | 302 | 303 | 307 | 308);
    is_redirection.then(|| range::text(reply.headers(), &LOCATION)).flatten()
}

/// The text of the innermost cause: what a library says around it is of no use to an operator.
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn StdError = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// True when an address was not to be reached.
fn is_refused(error: &reqwest::Error) -> bool {
    let mut cause: Option<&(dyn StdError + 'static)> = error.source();
    while let Some(error) = cause {
        if error.is::<address_policy::Refused>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// The reason why a certificate was refused, if that is what happened.
fn tls_refusal(error: &reqwest::Error) -> Option<&rustls::Error> {
    let mut cause: Option<&(dyn StdError + 'static)> = error.source();
    while let Some(error) = cause {
        if let Some(tls @ rustls::Error::InvalidCertificate(_)) = error.downcast_ref() {
            return Some(tls);
        }
        // an io::Error hides what it carries from `source`
        let carried = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        cause = match carried {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}
