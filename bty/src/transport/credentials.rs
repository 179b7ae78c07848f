//! Users and passwords for web servers and registries.
//!
//! They are sent only to the host that they belong to, and only when a request names that host:
//! a redirect never carries them along. No message and no `Debug` output shows them.

use std::fmt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
#[cfg(feature = "http")]
use reqwest::header::HeaderValue;
use serde::Deserialize;
use url::Url;

use crate::{Error, ErrorKind, Result, size, text};

/// Maximum size of a file with passwords, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// User names and passwords by host. Empty by default.
///
/// Entries that were [added](Self::add) one by one take precedence over those of container auth
/// files (used for registries only), and those over netrc files.
#[derive(Clone, Default)]
pub struct Credentials {
    /// By `host` or `host:port`, in lower case.
    given: Vec<(String, Login)>,
    /// By the name of a registry or a repository, as [`registry_name`] returns it.
    registries: Vec<(String, Login)>,
    /// By `host`, in lower case.
    netrc: Vec<(String, Login)>,
}

/// A user name and a password. Has no `Debug` or `Display` that could show them.
#[derive(Clone, PartialEq)]
pub(crate) struct Login {
    user: String,
    password: String,
}

impl Login {
    /// The value of the `Authorization` header; `None` if it has characters that no header may
    /// have.
    #[cfg(feature = "http")]
    pub(crate) fn header(&self) -> Option<HeaderValue> {
        let encoded = STANDARD.encode(format!("{}:{}", self.user, self.password));
        let mut value = HeaderValue::from_str(&format!("Basic {encoded}")).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// The user information in `url`, percent-decoded.
    pub(crate) fn from_url(url: &Url) -> Option<Self> {
        let text = |part: &str| String::from_utf8_lossy(&text::percent_decode(part)).into_owned();
        let has_any = !url.username().is_empty() || url.password().is_some();
        has_any.then(|| Self {
            user: text(url.username()),
            password: text(url.password().unwrap_or_default()),
        })
    }

    /// Parses `user:password`; the password may contain colons.
    fn parse(text: &str) -> Option<Self> {
        let (user, password) = text.split_once(':')?;
        (!user.is_empty()).then(|| Self { user: user.to_owned(), password: password.to_owned() })
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts =
            self.given.iter().chain(&self.registries).chain(&self.netrc).map(|(host, _)| host);
        f.debug_list().entries(hosts).finish()
    }
}

impl Credentials {
    /// Adds the user and the password for `host`. Without a port (`registry.example:5000`) they
    /// are for every port.
    pub fn add(&mut self, host: &str, user: impl Into<String>, password: impl Into<String>) {
        let login = Login { user: user.into(), password: password.into() };
        self.given.push((host.to_ascii_lowercase(), login));
    }

    /// Adds the user and the password for `host` from a file whose first line is `user:password`.
    ///
    /// # Errors
    /// - [`ErrorKind::Host`]: the file cannot be read.
    /// - [`ErrorKind::Usage`]: its first line has another form.
    pub fn add_file(&mut self, host: &str, path: &Path) -> Result<()> {
        let text = read(path)?;
        let login = text.lines().next().and_then(Login::parse).ok_or_else(|| {
            Error::new(ErrorKind::Usage, format!("{} holds no user and password", path.display()))
                .with_path(path.display())
                .hint("write user:password on its first line")
        })?;
        self.given.push((host.to_ascii_lowercase(), login));
        Ok(())
    }

    /// Adds the `machine` entries of a netrc file. Its `default` entry is ignored, because it would
    /// be sent to every server.
    ///
    /// # Errors
    /// [`ErrorKind::Host`] when the file cannot be read.
    pub fn add_netrc(&mut self, path: &Path) -> Result<()> {
        self.netrc.extend(netrc(&read(path)?));
        Ok(())
    }

    /// Adds the registries of a container auth file, as written by `podman login`, `skopeo login`
    /// and `docker login`. Credential helpers (`credsStore`, `credHelpers`) are not run.
    ///
    /// # Errors
    /// - [`ErrorKind::Host`]: the file cannot be read.
    /// - [`ErrorKind::Usage`]: it is not a container auth file.
    pub fn add_auth_file(&mut self, path: &Path) -> Result<()> {
        let file: AuthFile = serde_json::from_str(&read(path)?).map_err(|e| {
            // the cause quotes nothing of the file
            let place = format!("line {}, column {}", e.line(), e.column());
            Error::new(
                ErrorKind::Usage,
                format!("{} is not a container auth file: {place}", path.display()),
            )
            .with_path(path.display())
            .hint("give a file that podman login has written")
        })?;
        self.registries.extend(file.auths.into_iter().filter_map(|(name, entry)| {
            let decoded = STANDARD.decode(entry.auth?.trim()).ok()?;
            let text = String::from_utf8(decoded).ok()?;
            Some((registry_name(&name), Login::parse(text.trim_end_matches('\0'))?))
        }));
        Ok(())
    }

    /// The login for a web address: its own user information or, without any, the entry of its
    /// host.
    pub(crate) fn for_address(&self, url: &Url) -> Option<Login> {
        let host = url.host_str()?;
        let port = url.port_or_known_default();
        Login::from_url(url).or_else(|| self.of_host(host, port).cloned())
    }

    /// The login for a repository, in this order: one added for the host, that of the longest
    /// matching name in an auth file, that of the host in a netrc file.
    pub(crate) fn for_repository(
        &self,
        registry: &str,
        repository: &str,
        port: Option<u16>,
    ) -> Option<Login> {
        let full = format!("{}/{repository}", registry_name(registry));
        let is_above = |name: &str| {
            full.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let host = registry.split(':').next().unwrap_or(registry);
        let given = find(&self.given, host, port);
        let listed = || {
            self.registries
                .iter()
                .filter(|(name, _)| is_above(name))
                .max_by_key(|(name, _)| name.len())
        };
        given
            .or_else(|| listed().map(|(_, login)| login))
            .or_else(|| find(&self.netrc, host, port))
            .cloned()
    }

    fn of_host(&self, host: &str, port: Option<u16>) -> Option<&Login> {
        find(&self.given, host, port).or_else(|| find(&self.netrc, host, port))
    }
}

/// The login of a host. An entry with the port takes precedence over one without.
fn find<'a>(logins: &'a [(String, Login)], host: &str, port: Option<u16>) -> Option<&'a Login> {
    let named = |name: &str| {
        logins.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, login)| login)
    };
    port.and_then(|port| named(&format!("{host}:{port}"))).or_else(|| named(host))
}

/// Normalizes the name of a registry or a repository in an auth file:
/// `https://index.docker.io/v1/` becomes `docker.io`.
fn registry_name(name: &str) -> String {
    let name = name.split_once("://").map_or(name, |(_, rest)| rest).trim_end_matches('/');
    let name = name.strip_suffix("/v1").or_else(|| name.strip_suffix("/v2")).unwrap_or(name);
    let (host, path) = name.split_at(name.find('/').unwrap_or(name.len()));
    let host = match host.to_ascii_lowercase().as_str() {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        host => host.to_owned(),
    };
    host + path
}

#[derive(Deserialize)]
struct AuthFile {
    #[serde(default)]
    auths: std::collections::BTreeMap<String, AuthEntry>,
}

#[derive(Deserialize)]
struct AuthEntry {
    auth: Option<String>,
}

fn read(path: &Path) -> Result<String> {
    use std::io::Read as _;
    let failed = |e: std::io::Error| {
        Error::new(ErrorKind::Host, format!("reading {}", path.display()))
            .because(e)
            .with_path(path.display())
    };
    // checked before opening: opening a pipe would wait for a writer
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(failed(std::io::Error::other("it is not a file")));
    }
    let mut text = String::new();
    std::fs::File::open(path)
        .map_err(failed)?
        .take(FILE_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .map_err(failed)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        let limit = size::human(FILE_BYTES_MAX);
        return Err(failed(std::io::Error::other(format!("it is larger than {limit}")))
            .hint("give a file that contains only users and passwords"));
    }
    Ok(text)
}

/// Parses the `machine` entries of a netrc file: `machine HOST login USER password PASSWORD`, with
/// the fields in any order and over any number of lines.
fn netrc(text: &str) -> Vec<(String, Login)> {
    let mut logins = Vec::new();
    let mut machine: Option<(String, Option<String>, Option<String>)> = None;
    let mut finish = |machine: &mut Option<(String, Option<String>, Option<String>)>| {
        if let Some((host, Some(user), Some(password))) = machine.take() {
            logins.push((host.to_ascii_lowercase(), Login { user, password }));
        }
    };
    let mut rest = text;
    while let Some((word, after)) = next_word(rest) {
        rest = after;
        let mut value = || {
            let (value, after) = next_word(rest)?;
            rest = after;
            Some(value)
        };
        match word.as_str() {
            "machine" => {
                finish(&mut machine);
                machine = value().map(|host| (host, None, None));
            }
            "default" => finish(&mut machine),
            "login" | "user" => {
                let user = value();
                machine.iter_mut().for_each(|machine| machine.1.clone_from(&user));
            }
            "password" | "passwd" => {
                let password = value();
                machine.iter_mut().for_each(|machine| machine.2.clone_from(&password));
            }
            "account" => drop(value()),
            // a macro ends with a blank line
            "macdef" => rest = rest.split_once("\n\n").map_or("", |(_, rest)| rest),
            _ => {}
        }
    }
    finish(&mut machine);
    logins
}

/// The next word, which may be quoted, and the rest of the text. Skips comments.
fn next_word(text: &str) -> Option<(String, &str)> {
    let mut text = text.trim_start();
    while text.starts_with('#') {
        text = text.split_once('\n').map_or("", |(_, rest)| rest).trim_start();
    }
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(char::is_whitespace).unwrap_or(text.len());
        return (end > 0).then(|| (text[..end].to_owned(), &text[end..]));
    };
    let (mut word, mut chars) = (String::new(), quoted.char_indices());
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((word, &quoted[at + 1..])),
            '\\' => word.extend(chars.next().map(|(_, escaped)| escaped)),
            _ => word.push(c),
        }
    }
    Some((word, ""))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn login(user: &str, password: &str) -> Login {
        Login { user: user.into(), password: password.into() }
    }

    impl fmt::Debug for Login {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{}:{}", self.user, self.password)
        }
    }

    fn with(name: &str, text: &str, add: fn(&mut Credentials, &Path) -> Result<()>) -> Credentials {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(name), text).unwrap();
        let mut credentials = Credentials::default();
        add(&mut credentials, &dir.path().join(name)).unwrap();
        credentials
    }

    #[test]
    fn a_netrc_is_parsed_as_by_other_programs() {
        let text = "# mine\nmachine Images.example login me password s:e#cret\n\
                    machine b\n  login \"a b\"\n  password \"q\\\"x\"\n\
                    macdef init\ncd /\nmachine evil login x password y\n\n\
                    machine c account z login only\ndefault login anonymous password @\n";
        assert_eq!(
            netrc(text),
            [
                ("images.example".to_owned(), login("me", "s:e#cret")),
                ("b".to_owned(), login("a b", "q\"x")),
            ]
        );
        let credentials = with("netrc", text, Credentials::add_netrc);
        let of = |url: &str| credentials.for_address(&url.parse().unwrap());
        assert_eq!(of("https://images.example:8443/a"), Some(login("me", "s:e#cret")));
        assert_eq!(of("https://you:other%40@images.example/a"), Some(login("you", "other@")));
        assert_eq!(of("https://other.example/a"), None, "the default entry is never used");
        assert_eq!(format!("{credentials:?}"), "[\"images.example\", \"b\"]");
    }

    #[test]
    fn an_auth_file_is_searched_from_the_longest_name() {
        let encoded = |text: &str| STANDARD.encode(text);
        let text = format!(
            r#"{{"auths": {{"registry.example:5000": {{"auth": "{}"}},
            "registry.example:5000/team/a": {{"auth": "{}"}},
            "https://index.docker.io/v1/": {{"auth": "{}"}}, "empty.example": {{}}}},
            "credsStore": "x"}}"#,
            encoded("all:1"),
            encoded("team:2"),
            encoded("hub:3")
        );
        let credentials = with("auth.json", &text, Credentials::add_auth_file);
        let of = |registry: &str, repository: &str| {
            credentials.for_repository(registry, repository, Some(5000))
        };
        assert_eq!(of("registry.example:5000", "team/a"), Some(login("team", "2")));
        assert_eq!(of("registry.example:5000", "team/ab"), Some(login("all", "1")));
        assert_eq!(of("docker.io", "library/x"), Some(login("hub", "3")));
        assert_eq!(of("registry.example", "team/a"), None);
        assert_eq!(of("empty.example", "a/b"), None);
        assert_eq!(
            credentials.for_address(&"https://registry.example:5000/".parse().unwrap()),
            None
        );
    }

    #[test]
    fn added_logins_take_precedence_and_may_name_a_port() {
        let mut credentials = with("netrc", "machine h login n password n", Credentials::add_netrc);
        credentials.add("H:81", "port", "p");
        let of = |url: &str| credentials.for_address(&url.parse().unwrap());
        assert_eq!(of("http://h:81/"), Some(login("port", "p")));
        assert_eq!(of("http://h/"), Some(login("n", "n")));
        assert_eq!(credentials.for_repository("h:81", "a/b", Some(81)), Some(login("port", "p")));
    }

    #[test]
    fn errors_quote_nothing_of_a_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "SECRET\nme:more").unwrap();
        let mut credentials = Credentials::default();
        for error in [
            credentials.add_file("h", file.path()).unwrap_err(),
            credentials.add_auth_file(file.path()).unwrap_err(),
            credentials.add_netrc(Path::new("/nonexistent")).unwrap_err(),
        ] {
            assert!(!format!("{error:?}").contains("SECRET"), "{error:?}");
        }
    }

    #[test]
    fn a_file_that_is_too_large_is_refused_and_not_cut() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let last = "machine h login u password p\n";
        let text = |len: usize| format!("{}\n{last}", "#".repeat(len - last.len() - 1));
        let limit = usize::try_from(FILE_BYTES_MAX).unwrap();
        let mut credentials = Credentials::default();
        std::fs::write(file.path(), text(limit)).unwrap();
        credentials.add_netrc(file.path()).unwrap();
        assert_eq!(credentials.netrc.len(), 1);
        std::fs::write(file.path(), text(limit + 1)).unwrap();
        for error in [
            credentials.add_netrc(file.path()).unwrap_err(),
            credentials.add_file("h", file.path()).unwrap_err(),
            credentials.add_auth_file(file.path()).unwrap_err(),
        ] {
            assert!(format!("{error:#}").contains("larger than"), "{error:#}");
        }
    }

    proptest! {
        #[test]
        fn no_netrc_panics(text in "(machine |login |password |default |macdef \
                                    |\"|\\\\|#|\n| |é|x){0,20}") {
            let _ = netrc(&text);
        }
    }
}
