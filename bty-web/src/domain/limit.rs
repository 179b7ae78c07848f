//! Limits that protect the server from its clients.

/// A limit that a client has reached. `docs/server.md` lists the configuration key of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limit {
    /// Connections of the server.
    Connections,
    /// Connections of one client.
    ConnectionsPerAddress,
    /// Time in which a client reads nothing of its response.
    StalledAnswer,
    /// Time for the body of a request.
    SlowBody,
    /// Memory for the bodies of requests.
    BodyMemory,
    /// Attempts to log in by one client, and passwords that wait to be checked.
    Logins,
    /// Simulations at the same time.
    Simulations,
    /// Unknown machines that become known in a minute.
    NewMachines,
    /// Unassigned machines; the server forgets the one that it has not seen for the longest time.
    UnassignedMachines,
    /// Size of the hardware of an unassigned machine.
    UnassignedBytes,
}

impl Limit {
    /// The name of the limit in the metrics.
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
