//! `bty-web user`, which works on the state directory without a server.

use std::process::ExitCode;

use serde_json::json;

use crate::config::Config;
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::event::{Actor, NewEvent};
use crate::domain::time::Time;
use crate::domain::user::{Role, User, check_name, is_admin};
use crate::services::auth::{self, PASSWORD_CHARS_MIN};
use crate::store::Transaction;
use crate::store::database::Database;
use crate::store::users::{self, StoredUser};

use super::cli::UserVerb;
use super::password;
use super::print::out;
use super::remote::table;

pub(crate) fn run(config: &Config, verb: UserVerb) -> Result<ExitCode> {
    let db = super::existing_state::open(config)?;
    let changes = !matches!(verb, UserVerb::List);
    match verb {
        UserVerb::List => list(&db)?,
        UserVerb::Add { name, role, no_password } => add(&db, name, &role, no_password)?,
        UserVerb::Password { name } => set_password(&db, name)?,
        UserVerb::Role { name, role } => set_role(&db, name, &role)?,
        UserVerb::Remove { name } => remove(&db, name)?,
    }
    if changes && config.password.is_none() {
        eprintln!(
            "warning: admin.password is not set here; a server without it asks nobody to log in, \
             and everybody has the admin's rights"
        );
    }
    db.close();
    Ok(ExitCode::SUCCESS)
}

fn list(db: &Database) -> Result<()> {
    let rows: Vec<Vec<String>> = db
        .read_blocking(users::all)?
        .into_iter()
        .map(|stored| {
            let login = if stored.password_hash.is_some() { "password" } else { "proxy" };
            let role = stored.user.role.as_str().to_owned();
            vec![stored.user.name, role, login.to_owned(), stored.created_at.to_string()]
        })
        .collect();
    table(&["Name", "Role", "Login", "Added"], &rows);
    Ok(())
}

fn parse_role(role: &str) -> Result<Role> {
    role.parse().map_err(Error::invalid)
}

/// Reads a password that is long enough, and returns its hash.
fn read_hash() -> Result<String> {
    let password = password::read()?;
    if password.chars().count() < PASSWORD_CHARS_MIN {
        return Err(Error::invalid(format!(
            "the password must have at least {PASSWORD_CHARS_MIN} characters"
        )));
    }
    auth::hash_password(&password)
}

fn add(db: &Database, name: String, role: &str, no_password: bool) -> Result<()> {
    check_name(&name).map_err(Error::invalid)?;
    let role = parse_role(role)?;
    let password_hash = if no_password { None } else { Some(read_hash()?) };
    let shown = name.clone();
    let user = User { name, role };
    let new = StoredUser { user, password_hash, created_at: Time::now() };
    db.write_blocking(move |transaction| {
        if !users::put_new(transaction, &new)? {
            let why = format!(
                "the user {} exists; use bty-web user role or bty-web user password to change it",
                new.user.name
            );
            return Err(Error::new(ErrorKind::Conflict, why));
        }
        let (name, role) = (new.user.name.clone(), new.user.role.as_str());
        let summary = format!("added the user {name} with the role {role}");
        record(transaction, "auth.user.added", name, summary, Some(role))
    })?;
    out!("added the user {shown} with the role {}", role.as_str());
    Ok(())
}

fn set_password(db: &Database, name: String) -> Result<()> {
    let (known, shown) = (name.clone(), name.clone());
    if db.read_blocking(move |conn| users::get(conn, &known))?.is_none() {
        return Err(unknown(&name));
    }
    let hash = read_hash()?;
    db.write_blocking(move |transaction| {
        if !users::set_password(transaction, &name, &hash)? {
            return Err(unknown(&name));
        }
        let summary = format!("set the password of the user {name}");
        record(transaction, "auth.user.changed", name, summary, None)
    })?;
    out!("set the password of {shown}, and ended all sessions of this user");
    Ok(())
}

fn set_role(db: &Database, name: String, role: &str) -> Result<()> {
    let user = User { name, role: parse_role(role)? };
    let said = format!("set the role of {} to {}", user.name, user.role.as_str());
    let summary = said.clone();
    db.write_blocking(move |transaction| {
        if !users::set_role(transaction, &user)? {
            return Err(unknown(&user.name));
        }
        let role = user.role.as_str();
        record(transaction, "auth.user.changed", user.name, summary, Some(role))
    })?;
    out!("{said}");
    Ok(())
}

fn remove(db: &Database, name: String) -> Result<()> {
    let shown = name.clone();
    db.write_blocking(move |transaction| {
        if !users::delete(transaction, &name)? {
            return Err(unknown(&name));
        }
        let summary = format!("removed the user {name}");
        record(transaction, "auth.user.removed", name, summary, None)
    })?;
    out!("removed the user {shown}, and ended all sessions of this user");
    Ok(())
}

fn record(
    transaction: &Transaction<'_>,
    kind: &'static str,
    name: String,
    summary: String,
    role: Option<&str>,
) -> Result<()> {
    let event = NewEvent::new(kind, name, summary).by(Actor::Operator, None);
    transaction.record(&event.with(json!({ "role": role }))).map(drop)
}

fn unknown(name: &str) -> Error {
    match is_admin(name) {
        true => Error::invalid(
            "the admin has no entry; change admin.password in the configuration (see bty-web \
             hash-password)",
        ),
        false => Error::not_found(format!("the user {name}")),
    }
}
