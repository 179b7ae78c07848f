//! Named users and their roles.

use std::str::FromStr;

/// Name of the user whose password is in the configuration.
pub const ADMIN: &str = "admin";

/// What a user may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Read everything except secrets.
    Viewer,
    /// Change machines, plans and the catalog.
    Operator,
    /// Do everything, including tokens, settings and backups.
    Admin,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Admin];

    /// The name in the database and on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| format!("unknown role {text:?}; choose viewer, operator or admin"))
    }
}

/// A person who uses the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Name, as it was added.
    pub name: String,
    /// What this user may do.
    pub role: Role,
}

impl User {
    /// Returns the user whose password is in the configuration.
    #[must_use]
    pub fn admin() -> Self {
        Self { name: ADMIN.to_owned(), role: Role::Admin }
    }
}

const NAME_CHARS_MAX: usize = 64;

/// True if a form means the user whose password is in the configuration: no name, or `admin`.
#[must_use]
pub fn is_admin(name: &str) -> bool {
    name.is_empty() || name.eq_ignore_ascii_case(ADMIN)
}

/// Checks the name of a new user. Names of proxies are often mail addresses.
///
/// # Errors
/// The problem, as one sentence.
pub fn check_name(name: &str) -> Result<(), String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-+@".contains(c);
    let is_name = name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.len() <= NAME_CHARS_MAX
        && name.chars().all(is_plain);
    if !is_name {
        let shown: String = name.chars().take(NAME_CHARS_MAX).collect();
        return Err(format!(
            "invalid user name {shown:?}: expected at most {NAME_CHARS_MAX} letters, digits, ., _, \
             -, + and @, beginning with a letter or digit"
        ));
    }
    if is_admin(name) {
        return Err(format!(
            "the name {ADMIN} belongs to the password of the configuration, admin.password; choose \
             another name"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_and_the_admin_is_not_among_them() {
        for name in ["alice", "Bob.B", "carol@lab.example", "d-1_2+x", "7"] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        let long = "a".repeat(NAME_CHARS_MAX + 1);
        for name in ["", "admin", "ADMIN", "a b", "-a", "token ci", "a\nb", "\u{e9}", &*long] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn every_role_has_a_name_of_its_own() {
        for role in Role::ALL {
            assert_eq!(role.as_str().parse(), Ok(role));
        }
        assert!("Admin".parse::<Role>().unwrap_err().contains("viewer, operator or admin"));
    }
}
