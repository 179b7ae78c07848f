//! One HTTP request: redirects, deadlines, and the meaning of a status.

use std::error::Error as StdError;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, HeaderMap, HeaderValue, IF_RANGE,
    LOCATION, RANGE, RETRY_AFTER,
};
use reqwest::{Response, StatusCode};
use url::Url;

use crate::transport::address_policy::{self, AddressRefused};
use crate::transport::body::{self, BodyError};
use crate::transport::headers;
use crate::transport::http_client::HttpClient;
use crate::transport::retry::RequestError;
use crate::transport::trust;
use crate::{Error, ErrorKind, Remedy, Result, redact};

/// Time limit for the body of a small response as a whole.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

const REDIRECTS_MAX: usize = 10;

/// Message of the HTTP client when a proxy answers 407 to `CONNECT`; it has no error type for that.
const PROXY_LOGIN_REQUIRED: &str = "proxy authorization required";
const PROXY_LOGIN_HINT: &str =
    "give the proxy's user and password in its address: http://user:password@host:port";

#[derive(Default)]
pub(crate) struct GetRequest<'a> {
    /// First byte, and one past the last unless it is the end of the object.
    pub(crate) range: Option<(u64, Option<u64>)>,
    /// Strong ETag for `If-Range`: the server sends the range only if the object still has it.
    pub(crate) if_range: Option<&'a str>,
    /// Value of the `Accept` header.
    pub(crate) accept: Option<&'a str>,
}

/// An address that GET requests are sent to, without retries and without tokens.
pub(crate) struct Endpoint {
    pub(crate) http: HttpClient,
    /// Without user and password.
    url: Url,
    shown: String,
    /// Credentials are sent, so a 401 means that they are wrong.
    has_login: bool,
    /// The caller checks a digest of the whole object.
    caller_verifies: bool,
}

/// One step of a chain of redirects.
#[derive(Clone)]
pub(crate) struct Hop {
    pub(crate) url: Url,
    /// No redirect has left the host that was named, so credentials may be sent.
    pub(crate) is_home: bool,
}

impl Endpoint {
    /// `has_login` says that requests carry credentials, `caller_verifies` that the caller checks
    /// a digest of the whole object.
    pub(crate) fn new(http: HttpClient, url: &Url, has_login: bool, caller_verifies: bool) -> Self {
        let url = redact::url(url);
        Self { http, shown: url.to_string(), url, has_login, caller_verifies }
    }

    /// True when the caller checks a digest of the whole object.
    pub(crate) fn caller_verifies(&self) -> bool {
        self.caller_verifies
    }

    /// The start of a chain of redirects.
    pub(crate) fn home(&self) -> Hop {
        Hop { url: self.url.clone(), is_home: true }
    }

    /// True when redirects led to `hop`.
    pub(crate) fn is_redirected(&self, hop: &Hop) -> bool {
        hop.url != self.url
    }

    /// A [`ErrorKind::Source`] error about this address.
    pub(crate) fn error(&self, message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Source, message)
            .with_path(&self.shown)
            .context(format!("fetching {}", self.shown))
    }

    /// Sends `request` with `authorization`, and [accepts](Self::accept) the response.
    pub(crate) async fn get(
        &self,
        request: &GetRequest<'_>,
        authorization: Option<&HeaderValue>,
    ) -> Result<Response, RequestError> {
        let (response, _) = self.send(self.home(), request, authorization).await?;
        self.accept(response)
    }

    /// Sends `request` to `hop`, and follows redirects. Returns the final response, whatever its
    /// status, and where it came from. `authorization` is sent only while the hops stay home.
    pub(crate) async fn send(
        &self,
        mut hop: Hop,
        request: &GetRequest<'_>,
        authorization: Option<&HeaderValue>,
    ) -> Result<(Response, Hop), RequestError> {
        for _ in 0..=REDIRECTS_MAX {
            let response =
                self.send_to(&hop.url, request, authorization.filter(|_| hop.is_home)).await?;
            match redirect_location(&response) {
                Some(location) => hop = self.redirected(&hop, location)?,
                None => return Ok((response, hop)),
            }
        }
        Err(RequestError::Permanent(self.error("too many redirects").hint("check the address")))
    }

    /// The hop that a `Location` header leads to. A redirect from `https` to `http` is refused
    /// unless the caller verifies the bytes.
    fn redirected(&self, from: &Hop, location: &str) -> Result<Hop, RequestError> {
        let url =
            from.url.join(location).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let Some(url) = url.filter(|url| url.host_str().is_some_and(|host| !host.is_empty()))
        else {
            let message = "the server redirects to an address that is not http:// or https://";
            return Err(RequestError::Permanent(self.error(message).hint("check the address")));
        };
        let url = redact::url(&url);
        if from.url.scheme() == "https" && url.scheme() == "http" && !self.caller_verifies {
            let message = format!(
                "the server redirects from https to http ({url}), where anybody in \
                 between can change it"
            );
            let hint = "give the digest of the file, or an address that stays with https";
            let error = self.error(message).hint(hint).with_remedy(Remedy::Sha256);
            return Err(RequestError::Permanent(error));
        }
        let is_home = from.is_home && url.origin() == self.url.origin();
        Ok(Hop { url, is_home })
    }

    async fn send_to(
        &self,
        url: &Url,
        request: &GetRequest<'_>,
        authorization: Option<&HeaderValue>,
    ) -> Result<Response, RequestError> {
        address_policy::check_literal(self.http.options.may_reach.as_ref(), url)
            .map_err(|refused| RequestError::Permanent(self.error(refused.to_string())))?;
        let mut builder =
            self.http.for_url(url).get(url.clone()).header(ACCEPT_ENCODING, "identity");
        if let Some((first, end)) = request.range {
            let last = end.map_or(String::new(), |end| (end - 1).to_string());
            builder = builder.header(RANGE, format!("bytes={first}-{last}"));
        }
        if let Some(etag) = request.if_range {
            builder = builder.header(IF_RANGE, etag);
        }
        if let Some(media_types) = request.accept {
            builder = builder.header(ACCEPT, media_types);
        }
        if let Some(authorization) = authorization {
            builder = builder.header(AUTHORIZATION, authorization);
        }
        let timeout = self.http.options.connect_timeout + self.http.options.stall_timeout;
        match tokio::time::timeout(timeout, builder.send()).await {
            Ok(response) => response.map_err(|e| self.send_error(&e)),
            Err(_) => {
                let error = self.error(format!("no answer for {} s", timeout.as_secs()));
                Err(RequestError::transient(error))
            }
        }
    }

    /// The error for a request that got no response.
    fn send_error(&self, error: &reqwest::Error) -> RequestError {
        let cause = root_cause(error);
        if is_address_refused(error) {
            return RequestError::Permanent(self.error(cause));
        }
        if let Some(refusal) = tls_refusal(error) {
            let error = self.error("the server's certificate is not trusted");
            return RequestError::Permanent(trust::explain(error, refusal));
        }
        if cause.contains(PROXY_LOGIN_REQUIRED) {
            return RequestError::Permanent(
                self.error("the proxy requires a user and a password").hint(PROXY_LOGIN_HINT),
            );
        }
        if error.is_builder() {
            return RequestError::Permanent(self.error(cause).hint("check the address"));
        }
        let message = if error.is_connect() { "cannot connect" } else { "the connection broke" };
        let failure = match system_error(error) {
            Some(cause) => self.error(message).because(cause),
            None => self.error(message).because(cause),
        };
        if failure.io_kind() == Some(io::ErrorKind::ConnectionRefused) {
            let hint = "check the address, the port and the proxy, and whether the server runs";
            return RequestError::Refused(failure.hint(hint));
        }
        RequestError::transient(failure.hint("check the address, the network and the proxy"))
    }

    /// Checks the status of a response (2xx or 416), and that its body is not encoded.
    pub(crate) fn accept(&self, response: Response) -> Result<Response, RequestError> {
        let status = response.status();
        if !status.is_success() && status != StatusCode::RANGE_NOT_SATISFIABLE {
            return Err(self.status_error(status, response.headers()));
        }
        match headers::text(response.headers(), &CONTENT_ENCODING) {
            Some(coding) if !coding.trim().eq_ignore_ascii_case("identity") => {
                let error = self.error(format!(
                    "the server sends it encoded as {coding:?}, although the request forbids that"
                ));
                let error = error.hint("configure the server to send the file as it is");
                Err(RequestError::Permanent(error))
            }
            _ => Ok(response),
        }
    }

    fn status_error(&self, status: StatusCode, headers: &HeaderMap) -> RequestError {
        let error = self.error(format!("the server answered {status}"));
        let is_transient = matches!(status.as_u16(), 408 | 425 | 429) || status.is_server_error();
        if is_transient {
            let seconds =
                headers::text(headers, &RETRY_AFTER).and_then(|text| text.trim().parse().ok());
            return RequestError::Transient {
                error: error.hint("try again later"),
                retry_after: seconds.map(Duration::from_secs),
            };
        }
        RequestError::Permanent(match status.as_u16() {
            401 if self.has_login => error
                .hint("the user or the password is wrong: correct it")
                .with_remedy(Remedy::Credentials),
            401 | 403 => error.hint("give a user and a password").with_remedy(Remedy::Credentials),
            404 | 410 => error.hint("check the address; nothing is there"),
            407 => error.hint(PROXY_LOGIN_HINT),
            _ => error.hint("check the address"),
        })
    }

    /// Reads a whole body of at most `limit_bytes` within a minute. Errors quote nothing of it.
    pub(crate) async fn read_all(
        &self,
        mut response: Response,
        limit_bytes: usize,
    ) -> Result<Vec<u8>, RequestError> {
        body::read(&mut response, limit_bytes, BODY_TIMEOUT)
            .await
            .map_err(|error| self.body_error(error, 0))
    }

    /// The error for a body that could not be read beyond offset `position`.
    fn body_error(&self, error: BodyError, position: u64) -> RequestError {
        let error = match error {
            BodyError::Broken(e) => self
                .error(format!("the connection broke at offset {position}"))
                .because(root_cause(&e)),
            BodyError::Stalled(time) => {
                self.error(format!("no data for {:.1} s at offset {position}", time.as_secs_f64()))
            }
            BodyError::Late(time) => {
                self.error(format!("the answer takes longer than {} s", time.as_secs()))
            }
            BodyError::TooLarge(limit) => {
                let limit = crate::size::human(limit as u64);
                let error = self.error(format!("the answer is larger than {limit}"));
                return RequestError::Permanent(error.hint("check the address"));
            }
        };
        RequestError::transient(error.at_offset(position))
    }

    /// The next chunk of a body, or `None` at its end. `position` is the offset for errors.
    pub(crate) async fn chunk(
        &self,
        response: &mut Response,
        position: u64,
    ) -> Result<Option<Bytes>, RequestError> {
        body::chunk(response, self.http.options.stall_timeout)
            .await
            .map_err(|error| self.body_error(error, position))
    }
}

/// The `Location` of a redirect.
fn redirect_location(response: &Response) -> Option<&str> {
    let is_redirect = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
    is_redirect.then(|| headers::text(response.headers(), &LOCATION)).flatten()
}

/// The text of the innermost cause. The layers around it do not help an operator.
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn StdError = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// The error of a system call that made the request fail.
fn system_error(error: &reqwest::Error) -> Option<io::Error> {
    let mut cause: Option<&(dyn StdError + 'static)> = error.source();
    while let Some(error) = cause {
        if let Some(code) = error.downcast_ref().and_then(io::Error::raw_os_error) {
            return Some(io::Error::from_raw_os_error(code));
        }
        cause = error.source();
    }
    None
}

/// True when the address policy refused the host.
fn is_address_refused(error: &reqwest::Error) -> bool {
    let mut cause: Option<&(dyn StdError + 'static)> = error.source();
    while let Some(error) = cause {
        if error.is::<AddressRefused>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// The reason why the server's certificate was refused, if that is what happened.
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
