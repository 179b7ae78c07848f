//! The button that undoes a change.

use axum::extract::State;
use axum::response::Response;

use super::form::Fields;
use super::notice::{Notice, Notices};
use crate::domain::error::{Error, ErrorKind};
use crate::domain::machine::ClientContext;
use crate::services::access::Principal;
use crate::services::undo::UndoService;

/// Undoes the change of a notice, and returns to the page.
pub async fn undo(
    State(undo): State<UndoService>,
    who: ClientContext,
    principal: Principal,
    notices: Notices,
    fields: Fields,
) -> Response {
    let back = fields.back("/ui/dashboard").to_owned();
    let notice = notices.take(fields.text("id"));
    let Some(change) = notice.and_then(|notice| notice.undo.clone()) else {
        let detail = "this can no longer be undone: it is too old, or already undone";
        return notices.redirect(&back, Error::new(ErrorKind::Conflict, detail));
    };
    let undone = undo.undo(&who, &principal, change).await;
    notices.redirect(&back, undone.map(|()| Notice::success("The change is undone.")))
}
