//! Limits that protect the server from its clients.

/// A limit that a client has reached. `docs/reference/configuration.md` lists the configuration key
/// of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limit {
    /// Connections of the server.
    Connections,
    /// Connections of one client.
    ConnectionsPerAddress,
    /// Time during which a client reads nothing of its response.
    StalledAnswer,
    /// Time to receive the body of a request.
    SlowBody,
    /// Memory for request bodies.
    BodyMemory,
    /// Login attempts by one client, and passwords waiting to be checked.
    Logins,
    /// Concurrent simulations.
    Simulations,
    /// Machines discovered per minute.
    NewMachines,
    /// Number of unassigned machines; the server forgets the one not seen for the longest time.
    UnassignedMachines,
    /// Size of an unassigned machine's hardware description.
    UnassignedBytes,
}

impl Limit {
    /// Returns the name of the limit in the metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::ConnectionsPerAddress => "connections_per_address",
            Self::StalledAnswer => "stalled_answer",
            Self::SlowBody => "slow_body",
            Self::BodyMemory => "body_memory",
            Self::Logins => "logins",
            Self::Simulations => "simulations",
            Self::NewMachines => "new_machines",
            Self::UnassignedMachines => "unassigned_machines",
            Self::UnassignedBytes => "unassigned_bytes",
        }
    }
}
