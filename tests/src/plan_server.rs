//! A server with the endpoints for machines in the live environment, and faults on request.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::server::{Reply, Request, Server};

/// A fault of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Answers with this status.
    Status(u16),
    /// Accepts the connection, and does not answer in time.
    Hang,
    /// Resets the connection without a response.
    Reset,
    /// Closes the connection in the middle of the response.
    Cut,
}

impl Fault {
    fn reply(self) -> Reply {
        match self {
            Self::Status(status) => Reply::status(status).body(b"no luck"),
            Self::Hang => Reply::raw(b"").stall_after(0),
            Self::Reset => Reply::raw(b"").reset_after(0),
            Self::Cut => Reply::whole(&[b'x'; 100]).close_after(50),
        }
    }
}

/// The plan that the server has for the machine.
#[derive(Clone, Debug)]
pub enum Plan {
    /// A plan script; clients that do not accept scripts get JSON.
    Script(String),
    /// JSON only, as from an older server.
    Json(Value),
    /// Something that is not a plan.
    Text(&'static str),
}

/// A server with one plan, which records requests.
pub struct PlanServer {
    server: Server,
    faults: Arc<Mutex<Faults>>,
}

#[derive(Default)]
struct Faults {
    plan: Vec<Fault>,
    inventory: Vec<Fault>,
    status: Vec<Fault>,
}

impl PlanServer {
    /// Starts a server with images, given as `(name, bytes)`.
    #[must_use]
    pub fn start(
        plan: impl Fn(&str) -> Plan + Send + Sync + 'static,
        images: Vec<(&'static str, Vec<u8>)>,
    ) -> Self {
        let faults: Arc<Mutex<Faults>> = Arc::default();
        let shared = Arc::clone(&faults);
        let server = Server::start(move |request| {
            let path = request.target.split('?').next().unwrap_or_default();
            let next = |of: fn(&mut Faults) -> &mut Vec<Fault>| {
                let mut faults = shared.lock().expect("no test panics with the lock");
                let faults = of(&mut faults);
                (!faults.is_empty()).then(|| faults.remove(0).reply())
            };
            let endpoint = path.rsplit('/').next().unwrap_or_default();
            match (request.method.as_str(), endpoint) {
                ("GET", "plan") => next(|f| &mut f.plan).unwrap_or_else(|| {
                    let host = request.header("host").unwrap_or_default();
                    plan_reply(request, plan(&format!("http://{host}")))
                }),
                ("POST", "inventory") => {
                    next(|f| &mut f.inventory).unwrap_or_else(|| Reply::status(204))
                }
                ("POST", "status") => next(|f| &mut f.status).unwrap_or_else(|| Reply::status(204)),
                ("GET", "catalog.toml") => Reply::whole(b"version = 1\n"),
                ("GET", name) => match images.iter().find(|(known, _)| *known == name) {
                    Some((_, bytes)) => Reply::file(request, bytes, "\"1\""),
                    None => Reply::status(404),
                },
                _ => Reply::status(405),
            }
        });
        Self { server, faults }
    }

    /// Faults for the next requests of the plan endpoint, one each.
    ///
    /// # Panics
    /// If the lock is poisoned.
    #[must_use]
    pub fn plan_faults(self, faults: &[Fault]) -> Self {
        self.faults.lock().expect("no test panics with the lock").plan = faults.to_vec();
        self
    }

    /// Faults for the next requests of the inventory endpoint, one each.
    ///
    /// # Panics
    /// If the lock is poisoned.
    #[must_use]
    pub fn inventory_faults(self, faults: &[Fault]) -> Self {
        self.faults.lock().expect("no test panics with the lock").inventory = faults.to_vec();
        self
    }

    /// Faults for the next requests of the status endpoint, one each.
    ///
    /// # Panics
    /// If the lock is poisoned.
    #[must_use]
    pub fn status_faults(self, faults: &[Fault]) -> Self {
        self.faults.lock().expect("no test panics with the lock").status = faults.to_vec();
        self
    }

    /// Address for URLs: `127.0.0.1:port`.
    #[must_use]
    pub fn host(&self) -> String {
        self.server.host()
    }

    /// Requests of an endpoint, oldest first.
    #[must_use]
    pub fn requests(&self, endpoint: &str) -> Vec<Request> {
        let is_meant =
            |r: &Request| r.target.split('?').next().unwrap_or_default().ends_with(endpoint);
        self.server.requests().into_iter().filter(is_meant).collect()
    }

    /// Reports that it received, without progress.
    #[must_use]
    pub fn reports(&self) -> Vec<Value> {
        let all = self.requests("/status").into_iter().map(|r| r.json());
        all.filter(|report| report["status"] != "progress").collect()
    }
}

fn plan_reply(request: &Request, plan: Plan) -> Reply {
    let wants_script = request.header("accept").is_some_and(|accept| accept.contains("text/rhai"));
    match plan {
        Plan::Script(text) if wants_script => Reply::status(200)
            .header("Content-Type", "text/rhai; charset=utf-8")
            .body(text.as_bytes()),
        Plan::Script(_) => json_reply(&json!({ "mode": "exit" })),
        Plan::Json(json) => json_reply(&json),
        Plan::Text(text) => {
            Reply::status(200).header("Content-Type", "text/html").body(text.as_bytes())
        }
    }
}

fn json_reply(json: &Value) -> Reply {
    Reply::status(200).header("Content-Type", "application/json").body(json.to_string().as_bytes())
}
