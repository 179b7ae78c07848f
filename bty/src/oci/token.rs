//! Tokens of registries, as the [Distribution
//! specification](https://distribution.github.io/distribution/spec/auth/token/) describes them: a
//! registry answers 401 with a challenge that names a token server, which hands out a token for one
//! repository, to anybody or to a known user. A registry may also want user and password itself.
//!
//! All of it goes through the library's own HTTP client, so the address policy of
//! [`ClientOptions::may_reach`](crate::ClientOptions) holds for the token server and wherever that
//! redirects to, and nothing that it answers gets into an error.

use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use serde::Deserialize;
use url::Url;

use crate::client::Login;
use crate::client::net::Http;
use crate::source::http::origin::{Ask, Fault, Origin};
use crate::{Error, ErrorKind};

/// Real tokens are a few KiB.
const ANSWER_BYTES_MAX: usize = 256 << 10;

/// Bounds the whole exchange, however slowly the token server talks.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(60);

/// The right to read one repository.
pub(crate) struct Access {
    http: Http,
    registry: String,
    repository: String,
    is_plain: bool,
    login: Option<Login>,
    /// The value of the `Authorization` header that was good last.
    authorization: tokio::sync::Mutex<Option<HeaderValue>>,
}

impl Access {
    /// The right to read `repository` of the registry at `host`, which references call `registry`.
    pub(crate) fn new(http: Http, registry: &str, host: String, repository: String) -> Self {
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

    /// True when a user and a password are known for it.
    pub(crate) fn has_login(&self) -> bool {
        self.login.is_some()
    }

    /// What to try; `None` before the registry has refused a request without it.
    pub(crate) async fn authorization(&self) -> Option<HeaderValue> {
        self.authorization.lock().await.clone()
    }

    /// Gets another one, because the registry refused `refused` with the challenge in `headers`.
    /// `None` when there is none for that challenge.
    pub(crate) async fn renew(
        &self,
        refused: Option<&HeaderValue>,
        headers: &HeaderMap,
    ) -> Result<Option<HeaderValue>, Fault> {
        let mut held = self.authorization.lock().await;
        // another request may have renewed it meanwhile
        if held.as_ref() == refused {
            *held = None;
            *held = match tokio::time::timeout(EXCHANGE_TIMEOUT, Box::pin(self.request(headers)))
                .await
            {
                Ok(Ok(authorization)) => authorization,
                Ok(Err(fault)) => return Err(fault.map(|e| self.explain(e))),
                Err(_) => {
                    return Err(Fault::passing(
                        self.explain(self.error("the token server takes too long")),
                    ));
                }
            };
        }
        Ok(held.clone())
    }

    async fn request(&self, headers: &HeaderMap) -> Result<Option<HeaderValue>, Fault> {
        let challenges =
            || headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let Some(challenge) = challenges().find_map(Challenge::find) else {
            let is_basic = challenges().any(|header| names_scheme(header, "basic"));
            return Ok(self.login.as_ref().filter(|_| is_basic).and_then(Login::header));
        };
        let url = challenge.url(&self.repository).ok_or_else(|| {
            Fault::Final(
                self.error("its challenge names no token server that can be asked")
                    .hint("check the registry"),
            )
        })?;
        let login = self.login_for(&url)?;
        let origin = Origin::with_login(self.http.clone(), url, login, false);
        let reply = origin.get(&Ask { accept: Some("application/json"), ..Ask::default() }).await?;
        let answer: Answer =
            serde_json::from_slice(&origin.read_all(reply, ANSWER_BYTES_MAX).await?).map_err(
                |_| Fault::Final(origin.error("the token server's answer is no JSON with a token")),
            )?;
        let token = answer.token.or(answer.access_token).and_then(|token| bearer(&token));
        token.map(Some).ok_or_else(|| {
            Fault::Final(origin.error("the token server's answer has no usable token"))
        })
    }

    /// What the token server at `url` is asked with. A registry that is asked over `https` must not
    /// lead a password to plain `http`.
    fn login_for(&self, url: &Url) -> Result<Option<&Login>, Fault> {
        if self.login.is_some() && url.scheme() == "http" && !self.is_plain {
            let error =
                self.error("it names a token server without https, which must not see a password");
            return Err(Fault::Final(error.hint("check the registry")));
        }
        Ok(self.login.as_ref())
    }

    fn error(&self, message: &str) -> Error {
        Error::new(ErrorKind::Source, message).with_path(&self.registry)
    }

    fn explain(&self, error: Error) -> Error {
        error.context(format!("asking {} for a token", self.registry))
    }
}

/// A token as the value of a header, if it fits into one.
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
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
}

/// What a registry wants before it answers: the parameters of a `Bearer` challenge.
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

    /// Address of the token for `repository`; `None` when the realm is no web address.
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
    fn the_token_is_for_the_repository_unless_the_registry_names_a_scope() {
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
    fn a_challenge_for_user_and_password_is_seen_beside_others() {
        for header in ["Basic realm=\"x\"", "basic", "Negotiate, Basic realm=x"] {
            assert!(names_scheme(header, "basic"), "{header}");
        }
        for header in ["", "Bearer realm=\"Basic x\"", "Negotiate basic=x"] {
            assert!(!names_scheme(header, "basic"), "{header}");
        }
    }

    proptest! {
        #[test]
        fn no_header_is_too_strange(header in "(Bearer|Basic|realm|=|,| |\"|\\\\|é|x){0,24}") {
            let _ = Challenge::find(&header);
        }
    }
}
