//! Machines: list, read, assign, delete.

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::machine_body::MachineBody;
use super::machine_list::{self, ListPermits, MachineQuery};
use crate::domain::error::Result;
use crate::domain::machine::ClientContext;
use crate::domain::machine::bulk::MachineChanges;
use crate::domain::machine::save::Assignment;
use crate::http::error::ErrorBody;
use crate::http::extract::{Json, Params, PathText, parse_mac};
use crate::services::machine_edits::MachineEdits;
use crate::services::machine_reads::MachineReads;

/// Lists machines, sorted by MAC address.
#[utoipa::path(
    get, path = "/machines", tag = "machines",
    params(
        (
            "q" = Option<String>, Query,
            description = "terms that must all match: words of any text of the machine, or with one \
                           of the prefixes name:, label:, plan:, image: and state:",

        ),
        ("label" = Option<String>, Query), ("plan" = Option<String>, Query),
    ),
    responses(
        (status = 200, body = Vec<MachineBody>), (status = 401, body = ErrorBody),
        (status = 422, body = ErrorBody),
    ),
)]
pub(crate) async fn list(
    State(machines): State<MachineReads>,
    State(lists): State<ListPermits>,
    Params(query): Params<MachineQuery>,
) -> Result<Response> {
    machine_list::stream(machines, lists, query).await
}

/// Returns a machine.
#[utoipa::path(
    get, path = "/machines/{mac}", tag = "machines", params(("mac" = String, Path)),
    responses(
        (status = 200, body = MachineBody), (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
    ),
)]
pub(crate) async fn get(
    State(reads): State<MachineReads>,
    PathText(path): PathText,
) -> Result<axum::Json<MachineBody>> {
    let machine = reads.get(&parse_mac(&path)?).await?;
    Ok(axum::Json(MachineBody::from(&machine)))
}

/// Assigns plan, image, disk and parameters to a machine.
///
/// Omitted fields get their defaults. An unknown machine is added. A request is a new order even if
/// it changes nothing, but not if it changes only the name, labels, drive, kernel arguments or the
/// version of the live environment.
#[utoipa::path(
    put, path = "/machines/{mac}", tag = "machines", params(("mac" = String, Path)),
    request_body = Assignment,
    responses(
        (status = 200, body = MachineBody), (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody), (status = 413, body = ErrorBody),
        (status = 422, body = ErrorBody),
    ),
)]
pub(crate) async fn put(
    State(edits): State<MachineEdits>,
    State(reads): State<MachineReads>,
    PathText(path): PathText,
    who: ClientContext,
    Json(assignment): Json<Assignment>,
) -> Result<axum::Json<MachineBody>> {
    let machine = edits.save(who, &parse_mac(&path)?, assignment).await?;
    let warnings = reads.warnings(&machine).await?;
    Ok(axum::Json(MachineBody { warnings, ..MachineBody::from(&machine) }))
}

/// Changes the given fields of a known machine.
///
/// A request that changes nothing is not a new order.
#[utoipa::path(
    patch, path = "/machines/{mac}", tag = "machines", params(("mac" = String, Path)),
    request_body = MachineChanges,
    responses(
        (status = 200, body = MachineBody), (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 413, body = ErrorBody), (status = 422, body = ErrorBody),
    ),
)]
pub(crate) async fn patch(
    State(edits): State<MachineEdits>,
    State(reads): State<MachineReads>,
    PathText(path): PathText,
    who: ClientContext,
    Json(changes): Json<MachineChanges>,
) -> Result<axum::Json<MachineBody>> {
    let machine = edits.patch(who, &parse_mac(&path)?, changes).await?;
    let warnings = reads.warnings(&machine).await?;
    Ok(axum::Json(MachineBody { warnings, ..MachineBody::from(&machine) }))
}

/// Deletes a machine.
///
/// If it boots from the network again, the server treats it as a new machine.
#[utoipa::path(
    delete, path = "/machines/{mac}", tag = "machines", params(("mac" = String, Path)),
    responses(
        (status = 204), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody),
    ),
)]
pub(crate) async fn delete(
    State(edits): State<MachineEdits>,
    PathText(path): PathText,
    who: ClientContext,
) -> Result<StatusCode> {
    edits.delete(&who, parse_mac(&path)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Returns the hardware of a machine as posted in its last inventory.
#[utoipa::path(
    get, path = "/machines/{mac}/lshw.json", tag = "machines", params(("mac" = String, Path)),
    responses(
        (status = 200, body = Object), (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
    ),
)]
pub(crate) async fn lshw(
    State(reads): State<MachineReads>,
    PathText(path): PathText,
) -> Result<Response> {
    let mac = parse_mac(&path)?;
    let (lshw, _) = reads.lshw(&mac).await?;
    Ok(attachment(&format!("{}-lshw.json", mac.hyphens()), lshw))
}

/// Returns the disks of a machine as posted in its last inventory.
#[utoipa::path(
    get, path = "/machines/{mac}/disks.json", tag = "machines", params(("mac" = String, Path)),
    responses(
        (status = 200, body = Vec<Object>), (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
    ),
)]
pub(crate) async fn disks(
    State(reads): State<MachineReads>,
    PathText(path): PathText,
) -> Result<Response> {
    let mac = parse_mac(&path)?;
    let disks = reads.disks(&mac).await?;
    Ok(attachment(&format!("{}-disks.json", mac.hyphens()), disks.to_string()))
}

fn attachment(name: &str, json: String) -> Response {
    let mut response = ([(header::CONTENT_TYPE, "application/json")], json).into_response();
    if let Ok(value) = HeaderValue::try_from(format!("attachment; filename=\"{name}\"")) {
        response.headers_mut().insert(header::CONTENT_DISPOSITION, value);
    }
    response
}
