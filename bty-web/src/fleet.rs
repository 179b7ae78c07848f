//! The simulated fleet: machines that boot from a server over HTTP and check its decisions. A seed
//! determines when they crash, and when they lose, repeat or delay messages.
//!
//! Each machine knows what an operator ordered and what is on its disk. A decision of the server is
//! a *violation* if it leads to a write that nobody ordered, boots a half-written disk, or repeats
//! a completed flash. A run with the same seed repeats the same faults.

use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use serde_json::Value;

use crate::client::ServerClient;
use crate::domain::error::{Error, Result};

mod machine;
mod random;
mod report;

use machine::SimulatedMachine;
use random::Random;
use report::Tally;

pub use report::FleetRunReport;

/// Size of the fleet, and how often things go wrong.
#[derive(Clone, Debug, Args)]
pub struct FleetOptions {
    /// Number of machines
    #[arg(long, default_value_t = 100)]
    pub machines: u32,
    /// Network boots per machine
    #[arg(long, default_value_t = 6)]
    pub boots: u32,
    /// Machines that run at the same time
    #[arg(long, default_value_t = 64)]
    pub parallel: usize,
    /// Percentage of steps that go wrong: crashes, lost and repeated messages
    #[arg(long, default_value_t = 10)]
    pub faults: u32,
    /// Seed of the faults; the same seed repeats them
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Reference of the image to assign [default: the first of the catalog]
    #[arg(long)]
    pub image: Option<String>,
}

/// Plans to which the machines are assigned, in turn.
const PLANS: [&str; 5] =
    ["bty-flash-once", "bty-flash-always", "bty-inventory", "bty-tui", "ipxe-exit"];

/// Runs the fleet against `server`.
///
/// # Errors
/// - [`ErrorKind::Upstream`](crate::domain::error::ErrorKind::Upstream) if the server does not
///   respond.
/// - [`ErrorKind::Invalid`](crate::domain::error::ErrorKind::Invalid) if its catalog has no image.
pub async fn run(server: &ServerClient, options: &FleetOptions) -> Result<FleetRunReport> {
    let image = match &options.image {
        Some(image) => image.clone(),
        None => {
            let images = server.get("/images").await?;
            let first = images[0]["ref"].as_str().map(str::to_owned);
            first
                .ok_or_else(|| Error::invalid("the server's catalog has no image; add one first"))?
        }
    };
    let waits_for_stall = stalls_quickly(server).await?;
    let tally = Arc::new(Tally::default());
    tally.count(|report| report.machines = options.machines);
    let begun = Instant::now();
    let permits = Arc::new(tokio::sync::Semaphore::new(options.parallel.max(1)));
    let mut running = tokio::task::JoinSet::new();
    for number in 0..options.machines {
        let (server, tally, permits, image) =
            (server.clone(), Arc::clone(&tally), Arc::clone(&permits), image.clone());
        let random = Random::new(options.seed, number);
        let (boots, faults) = (options.boots, options.faults);
        running.spawn(async move {
            let _permit = permits.acquire_owned().await;
            let mut machine = SimulatedMachine::new(
                number,
                PLANS[number as usize % PLANS.len()],
                &image,
                random,
                faults,
            );
            machine.waits_for_stall = waits_for_stall;
            machine.assign(&server).await?;
            for _ in 0..boots {
                machine.boot(&server, &tally).await?;
            }
            Ok::<_, Error>(())
        });
    }
    while let Some(ended) = running.join_next().await {
        ended.map_err(Error::internal)??;
    }
    let seconds = begun.elapsed().as_secs_f64();
    let tally =
        Arc::into_inner(tally).ok_or_else(|| Error::internal("a machine is still running"))?;
    Ok(tally.finish(seconds))
}

/// The longest `machines.stalled_after` in seconds for which a run waits.
const STALL_SECONDS_MAX: i64 = 5;

/// True if machines that lose power are stalled so soon that the run can wait for it.
async fn stalls_quickly(server: &ServerClient) -> Result<bool> {
    let settings = server.get("/settings").await?;
    let is_key = |setting: &&Value| setting["key"] == "machines.stalled_after";
    let setting = settings.as_array().into_iter().flatten().find(is_key);
    let seconds = setting.and_then(|setting| setting["value"].as_str()?.parse::<i64>().ok());
    Ok(seconds.is_some_and(|seconds| (1..=STALL_SECONDS_MAX).contains(&seconds)))
}
