//! Orders for live environments, with images routed through the cache host.
//!
//! A plan is evaluated once per order. If a cache host may have the image, the server must ask it;
//! if the digest of the image is published in a checksum file, the server must read that again. It
//! must not hold a machine's lock during a network request. So it computes the order without the
//! lock, and commits it under the lock if the machine and the snapshot have not changed. Otherwise
//! it starts over.

use std::sync::Arc;

use crate::domain::error::Result;
use crate::domain::image_route::ImageRoute;
use crate::domain::mac::Mac;
use crate::domain::machine::order::{Order, decide_order, route_image};
use crate::domain::machine::{ClientContext, Outcome};
use crate::domain::plan::Plan;
use crate::services::image_route::ImageRouter;
use crate::services::machines::{MachineView, Machines};
use crate::services::rolling_images::RollingImages;

/// Number of attempts to compute an order without the lock. If the machine keeps changing, its
/// order is then computed under the lock, with the route known by then.
const ATTEMPTS: usize = 3;

/// A committed order.
pub struct MachineOrder {
    /// What the machine has to do.
    pub order: Order,
    /// The plan that decided; `None` when the machine's plan does not exist.
    pub plan: Option<Plan>,
}

/// Gives the live environment of a machine its order.
///
/// # Errors
/// - [`ErrorKind::Throttled`](crate::domain::error::ErrorKind::Throttled) when too many machines
///   have become known in this minute.
/// - [`ErrorKind::Full`](crate::domain::error::ErrorKind::Full) when there is no space on the disk.
pub async fn give(
    machines: &Arc<Machines>,
    origins: &ImageOrigins,
    request: OrderRequest,
) -> Result<MachineOrder> {
    let has_cache = origins.router.host(&request.client.base).is_some();
    match has_cache || origins.rolling.is_any() {
        true => give_routed(machines, origins, request).await,
        false => give_under_lock(machines, request, None, false).await,
    }
}

/// Where images come from, and in which version.
#[derive(Clone)]
pub struct ImageOrigins {
    router: Arc<ImageRouter>,
    rolling: RollingImages,
}

impl ImageOrigins {
    pub(crate) fn new(router: Arc<ImageRouter>, rolling: RollingImages) -> Self {
        Self { router, rolling }
    }
}

/// A request for an order.
#[derive(Clone, Debug)]
pub struct OrderRequest {
    /// The machine.
    pub mac: Mac,
    /// The client that sends the request.
    pub client: ClientContext,
    /// Token of the boot cycle, from the kernel command line of the live environment.
    pub token: Option<String>,
}

/// The image of an order, as far as its origin and a cache host need to know it.
struct ImageToRoute {
    /// Its reference, if the order names one.
    image_ref: Option<String>,
    src: String,
    name: String,
    sha256: Option<String>,
}

impl ImageToRoute {
    /// Returns `None` for an order without an image.
    fn of(order: &Order) -> Option<Self> {
        let image = &order.value["image"];
        let src = image["src"].as_str()?.to_owned();
        let name = bty::catalog::file_name(&src)
            .or_else(|| image["name"].as_str().map(str::to_owned))
            .unwrap_or_default();
        let text = |name: &str| image[name].as_str().map(str::to_owned);
        Some(Self { src, name, image_ref: text("ref"), sha256: text("sha256") })
    }
}

/// Chooses the route of an image. A trait, so that tests need no cache host.
trait RouteChooser: Sync {
    /// `base` is the URL at which the machine reached this server. Returns `None` without a cache
    /// host.
    fn choose_route(
        &self,
        base: &str,
        image: &ImageToRoute,
    ) -> impl Future<Output = Option<ImageRoute>> + Send;

    /// Looks at the origin of an image again. Returns true if the catalog has another version of it
    /// now.
    fn has_moved(&self, image: &ImageToRoute) -> impl Future<Output = bool> + Send;
}

impl RouteChooser for ImageOrigins {
    async fn choose_route(&self, base: &str, image: &ImageToRoute) -> Option<ImageRoute> {
        self.router.host(base)?;
        Some(self.router.choose(base, &image.src, &image.name, image.sha256.as_deref()).await)
    }

    async fn has_moved(&self, image: &ImageToRoute) -> bool {
        match &image.image_ref {
            Some(image_ref) => self.rolling.has_moved(image_ref).await,
            None => false,
        }
    }
}

async fn give_routed(
    machines: &Arc<Machines>,
    chooser: &impl RouteChooser,
    request: OrderRequest,
) -> Result<MachineOrder> {
    let mut route: Option<ImageRoute> = None;
    // count a discovered machine only once
    let mut is_counted = false;
    for _ in 0..ATTEMPTS {
        let (service, copy) = (Arc::clone(machines), request.clone());
        let decide = move |view: &MachineView<'_>| compute(&service, view, &copy, is_counted);
        let mut proposal = machines.propose(&request.mac, decide).await?;
        is_counted = true;
        if let Some(image) = ImageToRoute::of(&proposal.outcome.answer.0) {
            if chooser.has_moved(&image).await {
                continue;
            }
            let known = route.take().filter(|route| route.src == image.src);
            route = match known {
                Some(route) => Some(route),
                None => chooser.choose_route(&request.client.base, &image).await,
            };
            if let Some(route) = &route {
                apply_route(&mut proposal.outcome, route);
            }
        }
        if let Some(((order, plan), _)) = machines.commit(&request.mac, proposal).await? {
            return Ok(MachineOrder { order, plan });
        }
    }
    give_under_lock(machines, request, route, is_counted).await
}

/// Computes and commits the order under the lock. Images other than that of `route` come from their
/// origins.
async fn give_under_lock(
    machines: &Arc<Machines>,
    request: OrderRequest,
    route: Option<ImageRoute>,
    is_counted: bool,
) -> Result<MachineOrder> {
    let (service, mac) = (Arc::clone(machines), request.mac.clone());
    let decide = move |view: &MachineView<'_>| {
        let mut outcome = compute(&service, view, &request, is_counted)?;
        if let Some(route) = &route {
            apply_route(&mut outcome, route);
        }
        Ok(outcome)
    };
    let forget = machines.forget_unassigned();
    let ((order, plan), _) = machines.update(&mac, decide, forget).await?;
    Ok(MachineOrder { order, plan })
}

type Computed = Outcome<(Order, Option<Plan>)>;

fn compute(
    machines: &Machines,
    view: &MachineView<'_>,
    request: &OrderRequest,
    is_counted: bool,
) -> Result<Computed> {
    let OrderRequest { mac, client, token } = request;
    let (machine, discovered) = match is_counted {
        true => view.known_or_new(mac, client),
        false => machines.discover(view, mac, client)?,
    };
    let mut outcome =
        decide_order(&machine, &view.context(&machine.plan), client, token.as_deref());
    outcome.events.splice(0..0, discovered);
    let plan = view.snapshot.plan(&machine.plan).cloned();
    Ok(Outcome { machine: outcome.machine, events: outcome.events, answer: (outcome.answer, plan) })
}

fn apply_route(outcome: &mut Computed, route: &ImageRoute) {
    let Outcome { machine, events, answer: (order, _) } = outcome;
    route_image(machine, order, events, route);
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use bty_script::decide::{Decision, PlanCall};
    use serde_json::json;

    use super::*;
    use crate::config::limits::PerMinute;
    use crate::domain::image_route::{CacheStatus, PackedImage};
    use crate::domain::machine::Machine;
    use crate::domain::time::Time;
    use crate::services::event_bus::EventBus;
    use crate::services::snapshot::Snapshots;
    use crate::store::{self, Database};

    const SRC: &str = "https://images.example/debian.img.zst";
    const MIRRORED: &str = "http://10.0.0.1:8081/v1/debian.img.zst";
    const PACKED: &str = "http://10.0.0.1:8081/packed/cd/debian.img.zst";

    /// Machines with a plan that flashes, a counter of its evaluations, and their environment.
    struct Bench {
        machines: Arc<Machines>,
        snapshots: Arc<Snapshots>,
        evaluations: Arc<AtomicUsize>,
        db: Database,
        _dir: tempfile::TempDir,
    }

    impl Bench {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let bus = EventBus::default();
            let db = Database::open(&dir.path().join("state.db"), bus.clone()).unwrap();
            let snapshots = Arc::new(Snapshots::open(db.clone(), None).unwrap());
            let evaluations = Arc::new(AtomicUsize::new(0));
            let count = Arc::clone(&evaluations);
            let evaluator = Arc::new(move |question: &PlanCall<'_>| {
                let value = match question.function {
                    "boot" => json!({ "boot": "live" }),
                    _ => {
                        count.fetch_add(1, Ordering::Relaxed);
                        json!({ "image": { "src": SRC }, "disk": { "serial": "S1" } })
                    }
                };
                Ok(Decision { value, state: json!({}), is_defined: true })
            });
            let machines = Arc::new(Machines::new(
                db.clone(),
                bus,
                Arc::default(),
                Arc::clone(&snapshots),
                evaluator,
                Arc::new(PerMinute::new(0)),
                0,
            ));
            Self { machines, snapshots, evaluations, db, _dir: dir }
        }

        fn machine(&self) -> Machine {
            self.db.read_blocking(|conn| store::machines::get(conn, &mac())).unwrap().unwrap()
        }

        /// Adds a label to the machine, as an operator could.
        async fn change(&self) {
            let decide = |view: &MachineView<'_>| {
                let (mut machine, _) = view.known_or_new(&mac(), &ClientContext::default());
                machine.labels.push("changed".into());
                Ok(Outcome { machine, events: Vec::new(), answer: () })
            };
            self.machines.update(&mac(), decide, |_, _| Ok(())).await.unwrap();
        }

        async fn give(&self, cache: &Mirror<'_>) -> MachineOrder {
            let client = ClientContext { now: Time(1), ..ClientContext::default() };
            let request = OrderRequest { mac: mac(), client, token: None };
            give_routed(&self.machines, cache, request).await.unwrap()
        }

        fn evaluations(&self) -> usize {
            self.evaluations.load(Ordering::Relaxed)
        }
    }

    fn mac() -> Mac {
        "52:54:00:12:34:56".parse().unwrap()
    }

    /// A cache host that has every image. While it is asked, something changes on the server.
    struct Mirror<'a> {
        bench: &'a Bench,
        meanwhile: Meanwhile,
        requests: AtomicUsize,
    }

    #[derive(Clone, Copy, PartialEq)]
    enum Meanwhile {
        Nothing,
        TheMachineChanges,
        TheSnapshotChanges,
        TheImageMoves,
    }

    impl<'a> Mirror<'a> {
        fn new(bench: &'a Bench, meanwhile: Meanwhile) -> Self {
            Self { bench, meanwhile, requests: AtomicUsize::new(0) }
        }
    }

    impl RouteChooser for Mirror<'_> {
        async fn has_moved(&self, _: &ImageToRoute) -> bool {
            if self.meanwhile != Meanwhile::TheImageMoves || self.bench.evaluations() > 1 {
                return false;
            }
            self.bench.snapshots.refresh().await.unwrap();
            true
        }

        async fn choose_route(&self, _: &str, image: &ImageToRoute) -> Option<ImageRoute> {
            self.requests.fetch_add(1, Ordering::Relaxed);
            match self.meanwhile {
                Meanwhile::Nothing | Meanwhile::TheImageMoves => {}
                Meanwhile::TheMachineChanges => self.bench.change().await,
                Meanwhile::TheSnapshotChanges => self.bench.snapshots.refresh().await.unwrap(),
            }
            Some(ImageRoute {
                src: image.src.clone(),
                url: Some(MIRRORED.into()),
                packed: Some(PackedImage { url: PACKED.into(), index_sha256: "ab".repeat(32) }),
                status: CacheStatus::Hit,
            })
        }
    }

    #[tokio::test]
    async fn a_plan_is_evaluated_once_for_an_order_from_a_cache_host() {
        let bench = Bench::new();
        bench.change().await;
        let given = bench.give(&Mirror::new(&bench, Meanwhile::Nothing)).await;
        assert_eq!(bench.evaluations(), 1);
        assert_eq!(given.order.value["image"]["src"], MIRRORED);
        assert_eq!(given.order.value["image"]["packed"], PACKED);
        let order = bench.machine().cycle.and_then(|cycle| cycle.order).unwrap();
        assert_eq!(order.index_sha256, Some("ab".repeat(32)), "which reports are compared with");
        let events = bench
            .db
            .read_blocking(|conn| store::events::list(conn, &store::events::Filter::default(), 10));
        let given = events.unwrap().into_iter().find(|e| e.kind == "netboot.pxe.plan").unwrap();
        assert_eq!(given.details["image"], MIRRORED);
        assert_eq!(given.details["withcache"]["served_from"], "withcache");
    }

    #[tokio::test]
    async fn an_order_is_computed_again_when_its_machine_or_the_snapshot_has_changed() {
        for meanwhile in [Meanwhile::TheMachineChanges, Meanwhile::TheSnapshotChanges] {
            let bench = Bench::new();
            bench.change().await;
            let mirror = Mirror::new(&bench, meanwhile);
            let given = bench.give(&mirror).await;
            assert_eq!(bench.evaluations(), 2);
            assert_eq!(mirror.requests.load(Ordering::Relaxed), 1, "the image is the same");
            assert_eq!(given.order.value["image"]["src"], MIRRORED);
            let labels = bench.machine().labels.len();
            assert_eq!(labels, 1 + usize::from(meanwhile == Meanwhile::TheMachineChanges));
        }
    }

    #[tokio::test]
    async fn an_order_for_an_image_that_has_moved_is_computed_again_before_it_is_routed() {
        let bench = Bench::new();
        bench.change().await;
        let mirror = Mirror::new(&bench, Meanwhile::TheImageMoves);
        bench.give(&mirror).await;
        assert_eq!(bench.evaluations(), 2);
        assert_eq!(mirror.requests.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn an_unknown_machine_becomes_known_with_its_order() {
        let bench = Bench::new();
        bench.give(&Mirror::new(&bench, Meanwhile::Nothing)).await;
        assert_eq!(bench.evaluations(), 1);
        assert!(bench.machine().discovered_at.is_some());
    }
}
