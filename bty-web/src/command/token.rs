//! `bty-web token`, which works on the state directory without a server.

use std::process::ExitCode;

use crate::config::Config;
use crate::domain::error::{Error, Result};
use crate::domain::event::{Actor, NewEvent};
use crate::domain::time::Time;
use crate::services::auth::{self, Scope};
use crate::store::access;
use crate::store::database::Database;

use super::cli::TokenVerb;
use super::print::out;
use super::remote::table;

pub(crate) fn run(config: &Config, verb: TokenVerb) -> Result<ExitCode> {
    let db = super::existing_state::open(config)?;
    let now = Time::now();
    match verb {
        TokenVerb::List => list(&db)?,
        TokenVerb::Create { name, scope, days } => {
            let known = |scope: &String| Scope::ALL.iter().any(|known| known.as_str() == *scope);
            if let Some(wrong) = scope.iter().find(|scope| !known(scope)) {
                let all: Vec<&str> = Scope::ALL.iter().map(|scope| scope.as_str()).collect();
                return Err(Error::invalid(format!(
                    "unknown scope {wrong:?}; choose from {}",
                    all.join(", ")
                )));
            }
            let token = auth::secret();
            let sha256 = auth::digest(&token);
            let expires_at = days.map(|days| now.plus_ms(i64::from(days) * 24 * 3600 * 1000));
            let id = db.write_blocking(move |transaction| {
                let id = access::put_token(transaction, &name, &sha256, &scope, now, expires_at)?;
                let event = NewEvent::new(
                    "auth.token.created",
                    id.to_string(),
                    format!("created a token for {name}"),
                );
                transaction.record(&event.by(Actor::Operator, None))?;
                Ok(id)
            })?;
            eprintln!("token {id}; it cannot be shown again:");
            out!("{token}");
        }
        TokenVerb::Revoke { id } => {
            db.write_blocking(move |transaction| {
                if !access::revoke_token(transaction, id, now)? {
                    return Err(Error::not_found(format!("token {id}")));
                }
                let event = NewEvent::new(
                    "auth.token.revoked",
                    id.to_string(),
                    format!("revoked token {id}"),
                );
                transaction.record(&event.by(Actor::Operator, None)).map(drop)
            })?;
            out!("revoked token {id}");
        }
    }
    db.close();
    Ok(ExitCode::SUCCESS)
}

fn list(db: &Database) -> Result<()> {
    let time = |time: Option<Time>| time.map_or_else(|| "-".to_owned(), |time| time.to_string());
    let tokens = db.read_blocking(access::tokens)?;
    let rows: Vec<Vec<String>> = tokens
        .into_iter()
        .map(|t| {
            let scopes = t.scopes.join(",");
            vec![
                t.id.to_string(),
                t.name,
                scopes,
                time(Some(t.created_at)),
                time(t.expires_at),
                time(t.last_used_at),
                time(t.revoked_at),
            ]
        })
        .collect();
    table(&["Id", "Name", "Scopes", "Created", "Expires", "Last used", "Revoked"], &rows);
    Ok(())
}
