//! Simulated machines: they boot from a server over HTTP, crash, lose and repeat messages by a
//! seed, and check every decision.
//!
//! A machine knows what it was ordered and what is on its disk. Whatever leads to a write that
//! nobody ordered, to a half-written disk that is booted, or to the same flash again and again is a
//! *violation*. A run without violations is a proof by example; the seed repeats it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};

use crate::client::Server;
use crate::domain::error::{Error, Result};

mod machine;
mod random;

use machine::Simulated;
use random::Random;

/// How many machines, and what befalls them.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// So many machines
    #[arg(long, default_value_t = 100)]
    pub machines: u32,
    /// So many network boots of each
    #[arg(long, default_value_t = 6)]
    pub boots: u32,
    /// So many machines at a time
    #[arg(long, default_value_t = 64)]
    pub parallel: usize,
    /// Of a hundred steps, so many go wrong: crashes, lost and repeated messages
    #[arg(long, default_value_t = 10)]
    pub faults: u32,
    /// The same number repeats the run
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Reference of the image that is bound; else the first of the catalog
    #[arg(long)]
    pub image: Option<String>,
}

/// The plans that machines are bound to, in turn.
const PLANS: [&str; 5] =
    ["bty-flash-once", "bty-flash-always", "bty-inventory", "bty-tui", "ipxe-exit"];

/// What came of a run.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Machines that were simulated.
    pub machines: u32,
    /// Network boots.
    pub boots: u64,
    /// Requests.
    pub requests: u64,
    /// Flashes that were begun.
    pub flashes: u64,
    /// Flashes that were completed, and acknowledged by the server.
    pub completed: u64,
    /// Machines that lost power.
    pub crashes: u64,
    /// Messages that were sent twice, and messages whose answer was lost.
    pub repeated: u64,
    /// Messages of earlier boots that arrived late.
    pub late: u64,
    /// Times that a machine was taken for stalled, and was saved again.
    pub stalled: u64,
    /// Wrong decisions.
    pub violations: Vec<String>,
    /// Seconds.
    pub seconds: f64,
    /// Times of requests by what they were, in milliseconds: how many, the median, the 99th
    /// percentile, the longest.
    pub times_ms: BTreeMap<String, Times>,
}

/// Times of requests.
#[derive(Debug, Default, Serialize)]
pub struct Times {
    /// How many.
    pub count: usize,
    /// The median.
    pub p50: f64,
    /// The 99th percentile.
    pub p99: f64,
    /// The longest.
    pub max: f64,
}

/// What all machines write into.
#[derive(Default)]
struct Tally {
    report: Mutex<Report>,
    times: Mutex<BTreeMap<&'static str, Vec<f64>>>,
}

impl Tally {
    fn count(&self, change: impl FnOnce(&mut Report)) {
        change(&mut self.report.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn time(&self, what: &'static str, begun: Instant) {
        let ms = begun.elapsed().as_secs_f64() * 1e3;
        self.times.lock().unwrap_or_else(PoisonError::into_inner).entry(what).or_default().push(ms);
        self.count(|report| report.requests += 1);
    }

    fn finish(self, seconds: f64) -> Report {
        let mut report = self.report.into_inner().unwrap_or_else(PoisonError::into_inner);
        report.seconds = seconds;
        for (what, mut times) in self.times.into_inner().unwrap_or_else(PoisonError::into_inner) {
            times.sort_by(f64::total_cmp);
            let at = |share: f64| {
                times
                    .get(((times.len() as f64 * share) as usize).min(times.len() - 1))
                    .copied()
                    .unwrap_or_default()
            };
            report.times_ms.insert(
                what.to_owned(),
                Times { count: times.len(), p50: at(0.5), p99: at(0.99), max: at(1.0) },
            );
        }
        report
    }
}

/// Runs the fleet against `server`.
///
/// # Errors
/// When the server cannot be reached, or has no image to bind.
pub async fn run(server: &Server, options: &Options) -> Result<Report> {
    let image = match &options.image {
        Some(image) => image.clone(),
        None => {
            let images = server.get("/images").await?;
            let first = images[0]["ref"].as_str().map(str::to_owned);
            first.ok_or_else(|| {
                Error::invalid("the catalog of the server has no image: add one first")
            })?
        }
    };
    let tally = Arc::new(Tally::default());
    tally.count(|report| report.machines = options.machines);
    let begun = Instant::now();
    let turns = Arc::new(tokio::sync::Semaphore::new(options.parallel.max(1)));
    let mut running = tokio::task::JoinSet::new();
    for number in 0..options.machines {
        let (server, tally, turns, image) =
            (server.clone(), Arc::clone(&tally), Arc::clone(&turns), image.clone());
        let random = Random::new(options.seed, number);
        let (boots, faults) = (options.boots, options.faults);
        running.spawn(async move {
            let _turn = turns.acquire_owned().await;
            let mut machine = Simulated::new(
                number,
                PLANS[number as usize % PLANS.len()],
                &image,
                random,
                faults,
            );
            machine.bind(&server).await?;
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

/// What a machine posts about itself.
fn inventory(serial: &str) -> Value {
    json!({
        "disks": [{ "path": "/dev/nvme0n1", "size": "64G", "size_bytes": 64_u64 << 30, "serial": serial, "tran": "nvme", "removable": false, "readonly": false }],
        "lshw": { "id": "simulated", "class": "system", "vendor": "bty", "product": "Simulated 1", "children": [
            { "id": "memory", "class": "memory", "size": 8_u64 << 30 }, { "id": "cpu:0", "class": "processor", "product": "Simulated" }] },
    })
}
