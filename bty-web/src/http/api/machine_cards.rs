//! The further network cards of a machine.

use axum::extract::{Path, State};

use super::machine_body::MachineBody;
use crate::domain::error::Result;
use crate::domain::machine::ClientContext;
use crate::http::error::ErrorBody;
use crate::http::extract::parse_mac;
use crate::services::network_cards::NetworkCards;

/// Adds a network card to a machine.
///
/// From then on, the server treats a boot from this card as one of the machine. If the card was a
/// machine of its own, that machine and its assignment end.
#[utoipa::path(
    put, path = "/machines/{mac}/macs/{card}", tag = "machines",
    params(
        ("mac" = String, Path, description = "MAC address of the machine"),
        ("card" = String, Path, description = "MAC address of the network card"),
    ),
    responses(
        (status = 200, body = MachineBody), (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody), (status = 422, body = ErrorBody),
    ),
)]
pub(crate) async fn add(
    State(cards): State<NetworkCards>,
    Path((mac, card)): Path<(String, String)>,
    who: ClientContext,
) -> Result<axum::Json<MachineBody>> {
    let machine = cards.add(&who, &parse_mac(&mac)?, &parse_mac(&card)?).await?;
    Ok(axum::Json(MachineBody::from(&machine)))
}

/// Removes a network card from a machine.
///
/// At its next boot, the server treats the card as a new machine.
#[utoipa::path(
    delete, path = "/machines/{mac}/macs/{card}", tag = "machines",
    params(
        ("mac" = String, Path, description = "MAC address of the machine"),
        ("card" = String, Path, description = "MAC address of the network card"),
    ),
    responses(
        (status = 200, body = MachineBody), (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
    ),
)]
pub(crate) async fn remove(
    State(cards): State<NetworkCards>,
    Path((mac, card)): Path<(String, String)>,
    who: ClientContext,
) -> Result<axum::Json<MachineBody>> {
    let machine = cards.remove(&who, &parse_mac(&mac)?, &parse_mac(&card)?).await?;
    Ok(axum::Json(MachineBody::from(&machine)))
}
