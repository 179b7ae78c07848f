//! Authentication to registries, as the [Distribution
//! specification](https://distribution.github.io/distribution/spec/auth/token/) describes it.
//!
//! A registry answers 401 with a challenge that names a token server. The token server issues a
//! token for one repository, to anyone or to a known user. A registry may also ask for user and
//! password itself.
//!
//! All requests go through the library's own HTTP client, so
//! [`ClientOptions::may_reach`](crate::ClientOptions::may_reach) also covers the token server and
//! its redirects. Errors quote nothing of what a token server sends.

use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use serde::Deserialize;
use url::Url;

use crate::transport::credentials::Login;
use crate::transport::endpoint::{Endpoint, GetRequest};
use crate::transport::http_client::HttpClient;
use crate::transport::retry::RequestError;
use crate::{Error, ErrorKind};

/// Real tokens are a few KiB.
const RESPONSE_BYTES_MAX: usize = 256 << 10;

/// Time limit for getting a token, redirects included.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(60);

/// Read access to one repository.
pub(crate) struct RegistryAuth {
    http: HttpClient,
    /// Host and port of the registry.
    registry: String,
    repository: String,
    /// The registry is reached over plain HTTP.
    is_plain: bool,
    login: Option<Login>,
    /// The `Authorization` header that worked last. The lock is held while a new one is requested,
    /// so that concurrent requests that were refused wait for one token instead of asking for one
    /// each.
    authorization: tokio::sync::Mutex<Option<HeaderValue>>,
}

impl RegistryAuth {
    /// Access to `repository` at `host`. `registry` is the name of the registry in references,
    /// which credentials are stored under.
    pub(crate) fn new(http: HttpClient, registry: &str, host: String, repository: String) -> Self {
        let is_plain = http.options.plain_http;
        let port = host.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        let port = port.or(Some(if is_plain { 80 } else { 443 }));
        let login = http.options.credentials.for_repository(registry, &repository, port);
        Self {
            http,
            registry: host,
            repository,
            is_plain,
            login,
            authorization: tokio::sync::Mutex::default(),
        }
    }

    /// True when a user and a password are known for the repository.
    pub(crate) fn has_login(&self) -> bool {
        self.login.is_some()
    }

    /// The header to send; `None` until the registry has refused a request without one.
    pub(crate) async fn authorization(&self) -> Option<HeaderValue> {
        self.authorization.lock().await.clone()
    }

    /// Gets another header after the registry refused `refused` with the challenge in `headers`.
    /// `None` when the challenge cannot be met.
    pub(crate) async fn renew(
        &self,
        refused: Option<&HeaderValue>,
        headers: &HeaderMap,
    ) -> Result<Option<HeaderValue>, RequestError> {
        let mut current = self.authorization.lock().await;
        // another request may have renewed it while this one waited for the lock
        if current.as_ref() == refused {
            *current = None;
            let request = Box::pin(self.request(headers));
            *current = match tokio::time::timeout(EXCHANGE_TIMEOUT, request).await {
                Ok(Ok(authorization)) => authorization,
                Ok(Err(error)) => return Err(error.map(|e| self.in_context(e))),
                Err(_) => {
                    let error = self.error("the token server does not answer in time");
                    return Err(RequestError::transient(self.in_context(error)));
                }
            };
        }
        Ok(current.clone())
    }

    /// Asks the token server of the challenge for a token, or uses the login if the registry wants
    /// that itself.
    async fn request(&self, headers: &HeaderMap) -> Result<Option<HeaderValue>, RequestError> {
        let challenges =
            || headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let Some(challenge) = challenges().find_map(Challenge::find) else {
            let is_basic = challenges().any(|header| names_scheme(header, "basic"));
            return Ok(self.login.as_ref().filter(|_| is_basic).and_then(Login::header));
        };
        let url = challenge.url(&self.repository).ok_or_else(|| {
            RequestError::Permanent(
                self.error("its reply does not name a usable token server")
                    .hint("check the registry"),
            )
        })?;
        let login = self.login_for(&url)?.and_then(Login::header);
        let endpoint = Endpoint::new(self.http.clone(), &url, login.is_some(), false);
        let request = GetRequest { accept: Some("application/json"), ..GetRequest::default() };
        let response = endpoint.get(&request, login.as_ref()).await?;
        let body = endpoint.read_all(response, RESPONSE_BYTES_MAX).await?;
        let permanent = |message: &str| RequestError::Permanent(endpoint.error(message));
        let response: TokenResponse = serde_json::from_slice(&body)
            .map_err(|_| permanent("the token server's reply is not JSON with a token"))?;
        let token = response.token.or(response.access_token).and_then(|token| bearer(&token));
        token.map(Some).ok_or_else(|| permanent("the token server's reply has no usable token"))
    }

    /// The login for the token server at `url`. A registry that is reached over `https` must not
    /// make the client send a password over plain `http`.
    fn login_for(&self, url: &Url) -> Result<Option<&Login>, RequestError> {
        if self.login.is_some() && url.scheme() == "http" && !self.is_plain {
            let error =
                self.error("its token server does not use https, and must not receive a password");
            return Err(RequestError::Permanent(error.hint("check the registry")));
        }
        Ok(self.login.as_ref())
    }

    fn error(&self, message: &str) -> Error {
        Error::new(ErrorKind::Source, message).with_path(&self.registry)
    }

    fn in_context(&self, error: Error) -> Error {
        error.context(format!("getting a token for {}", self.registry))
    }
}

/// The `Authorization` header for a token; `None` if the token has characters that no header may
/// have.
fn bearer(token: &str) -> Option<HeaderValue> {
    let mut value =
        HeaderValue::from_str(&format!("Bearer {token}")).ok().filter(|_| !token.is_empty())?;
    value.set_sensitive(true);
    Some(value)
}

/// True when a `WWW-Authenticate` header has a challenge of this scheme.
fn names_scheme(header: &str, scheme: &str) -> bool {
    let mut rest = header;
    while let Some((name, value, after)) = next_part(rest) {
        if value.is_none() && name.eq_ignore_ascii_case(scheme) {
            return true;
        }
        rest = after;
    }
    false
}

#[derive(Deserialize)]
struct TokenResponse {
    token: Option<String>,
    access_token: Option<String>,
}

/// The parameters of a `Bearer` challenge.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Challenge {
    realm: String,
    service: Option<String>,
    scope: Option<String>,
}

impl Challenge {
    /// The first `Bearer` challenge of a `WWW-Authenticate` header, which may hold several of
    /// several schemes (RFC 9110, section 11.6.1).
    pub(crate) fn find(header: &str) -> Option<Self> {
        let mut rest = header;
        let mut found: Option<Self> = None;
        while let Some((name, value, after)) = next_part(rest) {
            rest = after;
            let Some(value) = value else {
                // a scheme: the end of the challenge before it
                if found.is_some() {
                    break;
                }
                found = name.eq_ignore_ascii_case("bearer").then(Self::default);
                continue;
            };
            let Some(challenge) = &mut found else { continue };
            match name.to_ascii_lowercase().as_str() {
                "realm" => challenge.realm = value,
                "service" => challenge.service = Some(value),
                "scope" => challenge.scope = Some(value),
                _ => {}
            }
        }
        found
    }

    /// The URL that issues a token for `repository`; `None` when the realm is no web address.
    pub(crate) fn url(&self, repository: &str) -> Option<Url> {
        let mut url =
            Url::parse(&self.realm).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
        let scope = self.scope.clone().unwrap_or_else(|| format!("repository:{repository}:pull"));
        let service = self.service.iter().map(|service| ("service", service));
        url.query_pairs_mut().extend_pairs(service.chain([("scope", &scope)]));
        Some(url)
    }
}

/// The next scheme (`Bearer`, without a value) or parameter (`realm="…"`) of a header, and the
/// rest.
fn next_part(text: &str) -> Option<(&str, Option<String>, &str)> {
    let text = text.trim_start_matches([' ', '\t', ',']);
    let end = text.find([' ', '\t', ',', '=']).unwrap_or(text.len());
    if text.is_empty() {
        return None;
    }
    let (name, rest) = text.split_at(end);
    match rest.trim_start_matches([' ', '\t']).strip_prefix('=') {
        Some(value) => {
            let (value, rest) = next_value(value.trim_start_matches([' ', '\t']));
            Some((name, Some(value), rest))
        }
        None => Some((name, None, rest)),
    }
}

/// A value, quoted or not, and what follows it.
fn next_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([' ', '\t', ',']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let (mut value, mut chars) = (String::new(), quoted.char_indices());
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            _ => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn challenge(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        Challenge {
            realm: realm.into(),
            service: service.map(Into::into),
            scope: scope.map(Into::into),
        }
    }

    #[test]
    fn challenges_are_found_in_every_notation() {
        for (header, expected) in [
            (
                r#"Bearer realm="https://r/t",service="s",scope="a:b,c""#,
                challenge("https://r/t", Some("s"), Some("a:b,c")),
            ),
            (
                r#"bearer service=s , Realm = "https://r/t""#,
                challenge("https://r/t", Some("s"), None),
            ),
            (
                r#"Basic realm="a house", Bearer realm="https://r/t""#,
                challenge("https://r/t", None, None),
            ),
            (
                r#"Bearer realm="https://r/t", Basic realm="a house""#,
                challenge("https://r/t", None, None),
            ),
            (r#"Bearer realm="a\"b\\c"#, challenge(r#"a"b\c"#, None, None)),
            ("Bearer", Challenge::default()),
        ] {
            assert_eq!(Challenge::find(header), Some(expected), "{header}");
        }
        for header in ["", "Basic realm=\"x\"", ",,,", "=\"Bearer\""] {
            assert_eq!(Challenge::find(header), None, "{header}");
        }
    }

    #[test]
    fn the_scope_is_the_repository_unless_the_registry_names_another() {
        let url = |challenge: &Challenge| challenge.url("team/a").map(String::from);
        assert_eq!(
            url(&challenge("http://r/t?x=1", Some("s"), None)).unwrap(),
            "http://r/t?x=1&service=s&scope=repository%3Ateam%2Fa%3Apull"
        );
        assert_eq!(url(&challenge("http://r/t", None, Some("z"))).unwrap(), "http://r/t?scope=z");
        for realm in ["", "a house", "file:///etc/passwd", "ftp://r/t"] {
            assert_eq!(url(&challenge(realm, None, None)), None, "{realm}");
        }
    }

    #[test]
    fn a_basic_challenge_is_found_among_others() {
        for header in ["Basic realm=\"x\"", "basic", "Negotiate, Basic realm=x"] {
            assert!(names_scheme(header, "basic"), "{header}");
        }
        for header in ["", "Bearer realm=\"Basic x\"", "Negotiate basic=x"] {
            assert!(!names_scheme(header, "basic"), "{header}");
        }
    }

    proptest! {
        #[test]
        fn no_header_panics(header in "(Bearer|Basic|realm|=|,| |\"|\\\\|é|x){0,24}") {
            let _ = Challenge::find(&header);
        }
    }
}
