//! Authentication: the admin has a password and sessions, programs have tokens with scopes.

use std::net::IpAddr;
use std::path::Path;

use axum_extra::extract::cookie::Key;
use bty::Digest;
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::domain::error::{Error, Result};
use crate::domain::user::Role;
use crate::random::random_token;

mod password;

pub use password::{Password, hash_password};

/// Name of the session cookie. Browsers send a cookie to all ports of a host, so a cache host on
/// the same host needs a different name.
const COOKIE: &str = "bty-token";
/// Name of the session cookie of a cache host.
const CACHE_COOKIE: &str = "bty-cache-token";

/// Time without use after which a session expires, in milliseconds.
pub const SESSION_MS: i64 = 7 * 24 * 3600 * 1000;

/// Minimum length of a new password in characters.
pub const PASSWORD_CHARS_MIN: usize = 8;

/// A permission of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Read everything except secrets.
    Read,
    /// Assign and delete machines.
    Machines,
    /// Change the catalog.
    Catalog,
    /// Change plans.
    Plans,
    /// Do everything, including tokens and settings.
    Admin,
}

impl Scope {
    /// All scopes.
    pub const ALL: [Self; 5] =
        [Self::Read, Self::Machines, Self::Catalog, Self::Plans, Self::Admin];

    /// Returns the name in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Machines => "machines",
            Self::Catalog => "catalog",
            Self::Plans => "plans",
            Self::Admin => "admin",
        }
    }

    /// True if one of `scopes` includes this one: `admin` includes all, and every scope includes
    /// `read`.
    #[must_use]
    pub fn is_in(self, scopes: &[String]) -> bool {
        scopes.iter().any(|scope| scope == self.as_str() || scope == "admin" || self == Self::Read)
    }

    /// True if users with `role` have this scope.
    #[must_use]
    pub fn is_of(self, role: Role) -> bool {
        match role {
            Role::Viewer => self == Self::Read,
            Role::Operator => self != Self::Admin,
            Role::Admin => true,
        }
    }
}

/// The admin's password, and the key that signs session cookies.
pub struct Auth {
    password: Option<Password>,
    /// Signs session cookies.
    pub key: Key,
    /// Name of the session cookie.
    pub cookie: &'static str,
}

impl Auth {
    /// Takes the password and the secret from `config`. If the secret is not set, generates one and
    /// keeps it in the state directory.
    ///
    /// # Errors
    /// `ErrorKind::Internal` when the secret's file cannot be read or written.
    pub fn new(config: &Config) -> Result<Self> {
        let secret = match &config.session_secret {
            Some(secret) => secret.clone(),
            None => kept_secret(&config.state_dir.join("session-secret"))?,
        };
        // a new password changes the key, which ends all sessions
        let secret = format!("{secret}\n{}", config.password.as_deref().unwrap_or_default());
        // a key has 64 bytes
        let key = [Digest::of(secret.as_bytes()), Digest::of(format!("{secret}.").as_bytes())]
            .map(|d| *d.as_bytes());
        let key = Key::from(&key.concat());
        let cookie = if config.is_cache_only { CACHE_COOKIE } else { COOKIE };
        Ok(Self {
            password: config
                .password
                .as_deref()
                .map(|password| Password::new(password, config.limits.waiting_logins)),
            key,
            cookie,
        })
    }

    /// True if no password is set, so that everybody has the admin's rights.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.password.is_none()
    }

    /// True if `text` is the admin's password; false if none is set. See [`Password::check`].
    ///
    /// # Errors
    /// [`ErrorKind::Throttled`](crate::domain::error::ErrorKind::Throttled), with the time to wait.
    pub async fn check_password(&self, ip: IpAddr, text: String) -> Result<bool> {
        match &self.password {
            None => Ok(false),
            Some(password) => password.check(ip, text).await,
        }
    }

    /// True if `text` is the password of the user `name`, whose hash is `hash`; false without a
    /// hash. See [`Password::check_user`].
    ///
    /// # Errors
    /// [`ErrorKind::Throttled`](crate::domain::error::ErrorKind::Throttled), with the time to wait.
    pub async fn check_user(
        &self,
        ip: IpAddr,
        name: &str,
        hash: Option<&str>,
        text: String,
    ) -> Result<bool> {
        match &self.password {
            None => Ok(false),
            Some(password) => password.check_user(ip, name, hash, text).await,
        }
    }

    /// Returns the CSRF token of a user whom a proxy has logged in, and who therefore has no session
    /// that could keep one.
    #[must_use]
    pub fn proxied_csrf(&self, name: &str) -> String {
        let keyed = |text: &[u8]| Digest::of(&[self.key.signing(), text].concat());
        // twice, so that the token of one name cannot be extended to that of another
        keyed(keyed(format!("csrf {name}").as_bytes()).as_bytes()).to_string()
    }
}

/// Returns the digest of a token, which the database stores instead of the token itself.
#[must_use]
pub fn digest(token: &str) -> String {
    Digest::of(token.as_bytes()).to_string()
}

/// Generates a secret of 256 random bits, as 64 hexadecimal digits.
#[must_use]
pub fn secret() -> String {
    format!("{}{}", random_token(), random_token())
}

fn kept_secret(path: &Path) -> Result<String> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    match std::fs::read_to_string(path) {
        Ok(text) if text.trim().len() >= 32 => return Ok(text.trim().to_owned()),
        Ok(_) => {}
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(Error::internal(format!("reading {}: {e}", path.display()))),
    }
    let secret = secret();
    let new = path.with_extension("new");
    let write = || {
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o640)
            .open(&new)?;
        file.write_all(secret.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&new, path)
    };
    write().map_err(|e| Error::internal(format!("saving {}: {e}", path.display())))?;
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auth(password: Option<&str>) -> Auth {
        let find = |name: &str| match name {
            "BTY_SERVER_SESSION_SECRET" => Some("0123456789abcdef0123456789abcdef".to_owned()),
            "BTY_ADMIN_PASSWORD" => password.map(str::to_owned),
            _ => None,
        };
        Auth::new(&Config::load(&crate::config::Sources { env: &find, named: &[] }).unwrap())
            .unwrap()
    }

    #[test]
    fn a_new_password_changes_the_session_key() {
        let key = |password| auth(password).key.master().to_vec();
        assert_eq!(key(Some("a")), key(Some("a")));
        assert!(key(Some("a")) != key(Some("b")) && key(Some("a")) != key(None));
    }

    #[test]
    fn scopes_include_each_other_as_the_docs_say() {
        let is = |scope: Scope, own: &str| scope.is_in(&[own.to_owned()]);
        assert!(
            is(Scope::Read, "machines")
                && is(Scope::Machines, "admin")
                && !is(Scope::Admin, "machines")
        );
        assert!(!is(Scope::Catalog, "read") && !is(Scope::Plans, "catalog"));
        let of = |role| Scope::ALL.into_iter().filter(|scope| scope.is_of(role)).count();
        assert_eq!(Role::ALL.map(of), [1, 4, 5]);
        assert!(Scope::Read.is_of(Role::Viewer) && !Scope::Admin.is_of(Role::Operator));
    }

    #[test]
    fn the_forms_of_every_proxied_user_have_a_token_of_their_own() {
        let (one, other) = (auth(Some("a")), auth(Some("b")));
        assert_eq!(one.proxied_csrf("alice"), one.proxied_csrf("alice"));
        assert!(one.proxied_csrf("alice") != one.proxied_csrf("bob"));
        assert!(one.proxied_csrf("alice") != other.proxied_csrf("alice"));
    }
}
