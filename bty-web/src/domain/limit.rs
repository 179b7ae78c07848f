//! Limits that protect the server from its clients.

/// A limit that somebody has reached; docs/server.md says which key of the configuration sets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limit {
    /// All connections are taken.
    Connections,
    /// All connections of one address are taken.
    ConnectionsPerAddress,
    /// A client reads nothing of its answer.
    StalledAnswer,
    /// The body of a request comes too slowly.
    SlowBody,
    /// The memory for bodies is taken.
    BodyMemory,
    /// Passwords are tried too often, or too many wait.
    Logins,
    /// Other simulations are under way.
    Simulations,
    /// Too many machines became known in this minute.
    NewMachines,
    /// An unassigned machine made room for another.
    UnassignedMachines,
    /// The hardware facts of an unassigned machine are too large.
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
