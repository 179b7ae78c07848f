//! Every path of the server.
//!
//! | room | paths |
//! |---|---|
//! | `pxe` | `/pxe-bootstrap.ipxe`, `/pxe/…`: what machines ask |
//! | `boot` | `/boot/…`: artifacts of the live environment |
//! | `machines` | `/machines…` |
//! | `plans` | `/plans…`, `/simulate` |
//! | `catalog` | `/images`, `/catalog…` |
//! | `cache` | `/b/…`, `/blob`, `/cache…`: the cache host |
//! | `events` | `/events…`, SSE included |
//! | `workers` | `/workers…`, `/boot/releases…`: jobs |
//! | `transfer` | `/export`, `/import` |
//! | `settings` | `/settings` |
//! | `access` | `/tokens…` |
//! | `health` | `/healthz`, `/version`, `/metrics`, `/openapi.json`, `/docs/api` |
//! | `site` | `/docs/…`: the documentation |
//! | [`crate::http::ui`] | `/ui…`, `/static/…` |

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};
use bty::CancelToken;
use tower::ServiceExt as _;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::OpenApi;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouterExt as _};
use utoipa_axum::routes;

use crate::domain::error::Error;
use crate::http::api::{
    access, cache, catalog, events, health, jobs as workers, machines, plans, settings, transfer,
};
use crate::http::extract::ClientGone;
use crate::http::guard::{Guard, guard, same_origin};
use crate::http::pxe::{self, boot_files as boot};
use crate::http::rewrite;
use crate::services::app::App;
use crate::services::auth::Scope;

/// JSON bodies are at most this large; those that may be larger say so.
const BODY_BYTES_MAX: usize = 1 << 20;

#[derive(OpenApi)]
#[openapi(info(
    title = "bty",
    description = "Machines, plans, events. Errors have the shape of ErrorBody. Times are ISO 8601 in UTC; sizes are bytes."
))]
struct Document;

/// Everything, with the document that describes it.
pub fn router(app: &Arc<App>) -> Router {
    assemble(app, api(app), crate::http::ui::router(app))
}

/// What a cache host has besides its objects: its state, its events, and who may see them.
pub fn cache_router(app: &Arc<App>) -> Router {
    let open = serves_objects().merge(describes_itself());
    let read = OpenApiRouter::new()
        .routes(routes!(cache::state))
        .routes(routes!(events::list))
        .routes(routes!(events::stream))
        .routes(routes!(health::metrics));
    let administers = OpenApiRouter::new()
        .routes(routes!(events::acknowledge))
        .routes(routes!(access::tokens))
        .routes(routes!(access::create))
        .routes(routes!(access::revoke))
        .routes(routes!(access::end_sessions));
    let api = OpenApiRouter::with_openapi(Document::openapi())
        .merge(open)
        .merge(guarded(app, Scope::Read, read))
        .merge(guarded(app, Scope::Catalog, changes_cache()))
        .merge(guarded(app, Scope::Admin, administers));
    assemble(app, api, crate::http::ui::cache_router(app))
}

fn assemble(app: &Arc<App>, api: Api, pages: Router<Arc<App>>) -> Router {
    let (router, mut document) = api.split_for_parts();
    let root: Arc<str> = app.config.root().into();
    if !root.is_empty() {
        document.servers = Some(vec![utoipa::openapi::Server::new(&*root)]);
    }
    let document = Arc::new(document);
    let router = router
        .merge(pages)
        .merge(crate::http::site::router())
        .fallback(missing)
        .method_not_allowed_fallback(not_allowed)
        .layer(Extension(document))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn_with_state(Arc::clone(app), same_origin))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn_with_state(Arc::clone(app), limit_bodies))
        .layer(from_fn(to_the_end))
        .layer(from_fn(headers))
        .layer(from_fn_with_state(Arc::clone(app), measure))
        .with_state(Arc::clone(app));
    // a layer of the router itself would see a request after its route was chosen
    Router::new().fallback(move |mut request: Request| {
        rewrite::rewrite(request.uri_mut(), &root);
        let (router, root) = (router.clone(), Arc::clone(&root));
        async move {
            let mut response = router.oneshot(request).await;
            response
                .iter_mut()
                .for_each(|response| rewrite::redirect(response.headers_mut(), &root));
            response
        }
    })
}

/// The document that describes every path, without a server.
#[must_use]
pub fn document(app: &Arc<App>) -> utoipa::openapi::OpenApi {
    api(app).split_for_parts().1
}

type Api = OpenApiRouter<Arc<App>>;

fn guarded(app: &Arc<App>, scope: Scope, routes: Api) -> Api {
    let guarded = Guard { app: Arc::clone(app), scope, is_page: false };
    routes.route_layer(from_fn_with_state(guarded, guard))
}

fn api(app: &Arc<App>) -> Api {
    OpenApiRouter::with_openapi(Document::openapi())
        .merge(open())
        .merge(guarded(app, Scope::Read, read()))
        .merge(guarded(app, Scope::Machines, changes_machines()))
        .merge(guarded(app, Scope::Plans, changes_plans()))
        .merge(guarded(app, Scope::Catalog, changes_catalog()))
        .merge(guarded(app, Scope::Admin, administers()))
}

/// For everybody: machines, and who looks whether the server is there.
fn open() -> Api {
    OpenApiRouter::new()
        .routes(routes!(pxe::bootstrap))
        .merge(is_contacted())
        .routes(routes!(boot::get))
        .routes(routes!(catalog::images))
        .routes(routes!(catalog::toml))
        .merge(serves_objects())
        .merge(describes_itself())
}

/// What machines ask and report. It changes their state, so no web site may have a browser ask it.
fn is_contacted() -> Api {
    OpenApiRouter::new()
        .routes(routes!(pxe::contact))
        .routes(routes!(pxe::plan))
        .routes(routes!(pxe::status))
        .routes(routes!(pxe::inventory).layer(DefaultBodyLimit::max(pxe::INVENTORY_BYTES_MAX)))
        .route_layer(axum::middleware::from_fn(crate::http::guard::refuse_browsers))
}

fn describes_itself() -> Api {
    OpenApiRouter::new()
        .routes(routes!(health::healthz))
        .routes(routes!(health::version))
        .routes(routes!(health::openapi))
        .routes(routes!(health::docs))
}

fn read() -> Api {
    OpenApiRouter::new()
        .routes(routes!(machines::list))
        .routes(routes!(machines::get))
        .routes(routes!(machines::lshw))
        .routes(routes!(machines::disks))
        .routes(routes!(plans::list))
        .routes(routes!(plans::get))
        .routes(routes!(plans::revisions))
        .routes(routes!(plans::diff))
        .routes(routes!(plans::simulate_machine))
        .routes(routes!(plans::simulate_fleet))
        .routes(routes!(catalog::entries))
        .routes(routes!(catalog::check))
        .routes(routes!(catalog::cached))
        .routes(routes!(cache::state))
        .routes(routes!(events::list))
        .routes(routes!(events::machines))
        .routes(routes!(events::workers))
        .routes(routes!(events::stream))
        .routes(routes!(workers::jobs))
        .routes(routes!(workers::releases))
        .routes(routes!(workers::verify))
        .routes(routes!(workers::health))
        .routes(routes!(workers::dhcp))
        .routes(routes!(workers::backups))
        .routes(routes!(settings::get))
        .routes(routes!(health::metrics))
}

/// What machines get from a cache host.
fn serves_objects() -> Api {
    OpenApiRouter::new().routes(routes!(cache::object)).routes(routes!(cache::blob))
}

fn changes_cache() -> Api {
    OpenApiRouter::new()
        .routes(routes!(cache::fetch))
        .routes(routes!(cache::delete))
        .routes(routes!(cache::pin, cache::unpin))
        .routes(routes!(cache::cancel))
        .routes(routes!(cache::forget))
}

fn changes_machines() -> Api {
    OpenApiRouter::new()
        .routes(routes!(machines::put))
        .routes(routes!(machines::patch))
        .routes(routes!(machines::delete))
        .routes(routes!(events::acknowledge))
}

fn changes_plans() -> Api {
    OpenApiRouter::new()
        .routes(routes!(plans::check))
        .routes(routes!(plans::put))
        .routes(routes!(plans::roll_back))
        .routes(routes!(plans::delete))
}

fn changes_catalog() -> Api {
    OpenApiRouter::new()
        .routes(routes!(catalog::add))
        .routes(routes!(catalog::delete))
        .routes(routes!(catalog::import))
        .routes(routes!(catalog::upload))
        .routes(routes!(catalog::refresh))
        .routes(routes!(catalog::warm))
        .merge(changes_cache())
}

fn administers() -> Api {
    OpenApiRouter::new()
        .routes(routes!(boot::put).layer(DefaultBodyLimit::disable()))
        .routes(routes!(workers::fetch_release))
        .routes(routes!(workers::cancel_release))
        .routes(routes!(workers::create_backup))
        .routes(routes!(workers::cancel_backup))
        .routes(routes!(transfer::export))
        .routes(routes!(transfer::import).layer(DefaultBodyLimit::max(transfer::BUNDLE_BYTES_MAX)))
        .routes(routes!(settings::put))
        .routes(routes!(access::tokens))
        .routes(routes!(access::create))
        .routes(routes!(access::revoke))
        .routes(routes!(access::end_sessions))
}

async fn missing() -> Response {
    Error::new(
        crate::domain::error::ErrorKind::NotFound,
        "there is no such path; /docs/api lists them",
    )
    .into_response()
}

async fn not_allowed() -> Response {
    let body = crate::domain::error::ErrorBody {
        detail: "this path has other methods; /docs/api lists them".into(),
        problems: vec![],
    };
    (axum::http::StatusCode::METHOD_NOT_ALLOWED, axum::Json(body)).into_response()
}

#[allow(clippy::needless_pass_by_value)] // as the layer calls it
fn panicked(panic: Box<dyn std::any::Any + Send>) -> Response {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or(panic.downcast_ref::<&str>().copied());
    Error::internal(format!("a handler panicked: {}", text.unwrap_or("without a message")))
        .into_response()
}

/// Bodies must not come too slowly, and those of strangers share a limited memory.
async fn limit_bodies(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let share = app.bodies.share();
    request.extensions_mut().insert(share.clone());
    let response = next.run(request.map(|body| app.bodies.pace(body))).await;
    drop(share);
    response
}

/// What was begun is done, also when the client goes meanwhile: a change that is written is
/// followed by what has to know of it.
async fn to_the_end(mut request: Request, next: Next) -> Response {
    let gone = ClientGone::default();
    request.extensions_mut().insert(gone.clone());
    // dropped early when the client goes
    let _guard = CancelOnDrop(gone.0);
    let answered = tokio::spawn(next.run(request)).await;
    answered
        .unwrap_or_else(|e| Error::internal(format!("a request ended early: {e}")).into_response())
}

struct CancelOnDrop(CancelToken);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Nothing is framed, sniffed, or loaded from elsewhere.
async fn headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let fixed = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
    ];
    for (name, value) in fixed {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}

const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; script-src 'self'; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Counts and logs what was answered.
async fn measure(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let route =
        request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let peer = request
        .extensions()
        .get::<axum::extract::ConnectInfo<SocketAddr>>()
        .map(|info| info.0.ip());
    let response = next.run(request).await;
    let seconds = begun.elapsed().as_secs_f64();
    let status = response.status().as_u16();
    app.metrics.request(method.as_str(), &route, status, seconds);
    if let Some(limit) = response.extensions().get::<Error>().and_then(|error| error.limit) {
        app.metrics.refuse(limit);
    }
    tracing::debug!(%method, %path, status, peer = ?peer, ms = seconds * 1e3, "answered");
    response
}
