//! All routes of the server, and who may use them.
//!
//! | module | paths |
//! |---|---|
//! | `pxe` | `/pxe-bootstrap.ipxe`, `/pxe/…`: scripts and orders for machines, their reports |
//! | `pxe::boot_files` | `/boot/…`: files of the live environment |
//! | `api::machines` | `/machines…` |
//! | `api::plans` | `/plans…`, `/simulate` |
//! | `api::catalog` | `/images`, `/catalog…` |
//! | `api::cache` | `/b/…`, `/blob`, `/packed/…`, `/cache…`: the cache host |
//! | `api::events` | `/events…`: the audit log, and streams of events |
//! | `api::power` | `/power`, `/machines/{mac}/power` |
//! | `api::webhooks` | `/webhooks…` |
//! | `api::jobs` | `/workers…`, `/boot/releases…` |
//! | `api::transfer` | `/export`, `/import` |
//! | `api::settings` | `/settings` |
//! | `api::access` | `/tokens…`, `/sessions` |
//! | `api::health` | `/healthz`, `/version`, `/metrics`, `/openapi.json` |
//! | `ui` | `/ui…`, `/static/…`, `/docs/api` |
//! | `site` | `/docs/…`: the documentation |

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, DefaultBodyLimit, FromRef, Request, State};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{MethodRouter, any, get, post};
use axum::{Extension, Router};
use tower::ServiceExt as _;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::OpenApi;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouterExt as _};
use utoipa_axum::routes;

use crate::config::Config;
use crate::domain::error::{Error, ErrorKind};
use crate::http::api::{
    access, bulk, cache, catalog, events, health, jobs, machine_cards, machines, plans, power,
    settings, transfer, webhooks,
};
use crate::http::bodies::Bodies;
use crate::http::error::ErrorBody;
use crate::http::guard::{Guard, Permission, guard, permit, refuse_browsers, same_origin};
use crate::http::middleware::{
    add_headers, limit_bodies, measure, panic_response, run_to_completion,
};
use crate::http::pxe::{self, boot_files};
use crate::http::state::RouterState;
use crate::http::ui::notice::Notices;
use crate::http::{rewrite, site, ui};
use crate::services::auth::Scope;

/// Maximum size of request bodies in bytes, except for routes that set their own limit.
const BODY_BYTES_MAX: usize = 1 << 20;

#[derive(OpenApi)]
#[openapi(info(
    title = "bty",
    description = "Machines, plans, events. Errors have the shape of ErrorBody. Times are ISO 8601 \
                   in UTC; sizes are bytes."
))]
struct Document;

/// Returns the router of a server: API, pages, scripts for machines, and the OpenAPI document.
pub fn router(state: RouterState) -> Router {
    let root = root(&state);
    below_root(server_routes(state), root)
}

/// Returns the router of a server for the router of another application. Its routes are at the
/// path prefix of the server and below it; without a prefix, it is a fallback.
pub fn mounted(state: RouterState) -> Router {
    let root = root(&state);
    if root.is_empty() {
        return below_root(server_routes(state), root);
    }
    let paths = [root.to_string(), format!("{root}/"), format!("{root}/{{*path}}")];
    let service = below_root(server_routes(state), root);
    let serve = any(move |mut request: Request| {
        // what the outer router has noted about its own route would be taken for ours
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().copied();
        request.extensions_mut().clear();
        if let Some(peer) = peer {
            request.extensions_mut().insert(peer);
        }
        service.clone().oneshot(request)
    });
    paths.iter().fold(Router::new(), |router, path| router.route(path, serve.clone()))
}

fn root(state: &RouterState) -> Arc<str> {
    Arc::<Config>::from_ref(state).root().into()
}

fn server_routes(state: RouterState) -> Router {
    let mut api = documented().merge(open_api());
    for (scope, routes) in scoped_api() {
        api = api.merge(guarded(&state, scope, routes));
    }
    let pages = pages(&state);
    assemble(state, api, pages)
}

/// Returns the router of a process that is only a cache host: objects, its state, events and
/// tokens.
pub fn cache_router(state: RouterState) -> Router {
    let read = OpenApiRouter::new()
        .routes(routes!(cache::state))
        .routes(routes!(events::list))
        .routes(routes!(events::stream))
        .routes(routes!(health::metrics));
    let admin = OpenApiRouter::new().routes(routes!(events::acknowledge)).merge(access_api());
    let api = documented()
        .merge(objects_api())
        .merge(server_api())
        .merge(guarded(&state, Scope::Read, read))
        .merge(guarded(&state, Scope::Catalog, cache_changes_api()))
        .merge(guarded(&state, Scope::Admin, admin));
    let pages = cache_pages(&state);
    let root = root(&state);
    below_root(assemble(state, api, pages), root)
}

/// Returns the OpenAPI document of a server.
#[must_use]
pub fn document() -> utoipa::openapi::OpenApi {
    let routes = scoped_api().into_iter().map(|(_, routes)| routes);
    let api = routes.fold(documented().merge(open_api()), Api::merge);
    api.split_for_parts().1
}

type Api = OpenApiRouter<RouterState>;

/// Returns a router without routes, whose document has a title.
fn documented() -> Api {
    OpenApiRouter::with_openapi(Document::openapi())
}

fn assemble(state: RouterState, api: Api, pages: Router<RouterState>) -> Router {
    let (router, mut document) = api.split_for_parts();
    let config = Arc::<Config>::from_ref(&state);
    let root = root(&state);
    if !root.is_empty() {
        document.servers = Some(vec![utoipa::openapi::Server::new(&*root)]);
    }
    let bodies = Arc::new(Bodies::new(&config.limits));
    router
        .merge(pages)
        .merge(site::router())
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(Extension(Arc::new(document)))
        .layer(Extension(Notices::default()))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn_with_state(state.clone(), same_origin))
        .layer(CatchPanicLayer::custom(panic_response))
        .layer(from_fn_with_state(bodies, limit_bodies))
        .layer(from_fn(run_to_completion))
        .layer(from_fn(add_headers))
        .layer(from_fn_with_state(state.clone(), measure))
        .with_state(state)
}

/// Serves `router` under the path prefix `root`. It is the fallback of an outer router, because
/// layers of `router` see a request only after routing.
fn below_root(router: Router, root: Arc<str>) -> Router {
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

async fn not_found() -> Response {
    Error::new(ErrorKind::NotFound, "no such path; /docs/api lists all").into_response()
}

async fn method_not_allowed() -> Response {
    let detail = "this path does not support this method; /docs/api lists all".into();
    let body = ErrorBody { detail, problems: vec![] };
    (axum::http::StatusCode::METHOD_NOT_ALLOWED, axum::Json(body)).into_response()
}

// ---- the API, and the requests of machines

/// Returns the routes that need a login or a token, by the scope of the token.
fn scoped_api() -> [(Scope, Api); 5] {
    [
        (Scope::Read, read_api()),
        (Scope::Machines, machine_changes_api()),
        (Scope::Plans, plan_changes_api()),
        (Scope::Catalog, catalog_changes_api()),
        (Scope::Admin, admin_api()),
    ]
}

fn guarded(state: &RouterState, scope: Scope, routes: Api) -> Api {
    routes.route_layer(from_fn_with_state(Guard::new(state, scope), guard))
}

/// Routes without authentication: machines, their images, and health.
fn open_api() -> Api {
    OpenApiRouter::new()
        .routes(routes!(pxe::bootstrap))
        .merge(contacts_api())
        .routes(routes!(boot_files::get))
        .routes(routes!(catalog::images))
        .routes(routes!(catalog::toml))
        .merge(objects_api())
        .merge(server_api())
}

/// Contacts and reports of machines. They change the state, so requests from browsers are refused:
/// any web site could make a browser send them.
fn contacts_api() -> Api {
    OpenApiRouter::new()
        .routes(routes!(pxe::contact))
        .routes(routes!(pxe::plan))
        .routes(routes!(pxe::status))
        .routes(routes!(pxe::inventory).layer(DefaultBodyLimit::max(pxe::INVENTORY_BYTES_MAX)))
        .route_layer(from_fn(refuse_browsers))
}

fn server_api() -> Api {
    OpenApiRouter::new()
        .routes(routes!(health::healthz))
        .routes(routes!(health::version))
        .routes(routes!(health::openapi))
        .routes(routes!(ui::docs::docs))
}

fn read_api() -> Api {
    OpenApiRouter::new()
        .routes(routes!(machines::list))
        .routes(routes!(bulk::csv))
        .routes(routes!(bulk::toml))
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
        .routes(routes!(events::export))
        .routes(routes!(events::machines))
        .routes(routes!(events::workers))
        .routes(routes!(events::stream))
        .routes(routes!(jobs::jobs))
        .routes(routes!(jobs::releases))
        .routes(routes!(jobs::verify))
        .routes(routes!(jobs::health))
        .routes(routes!(jobs::dhcp))
        .routes(routes!(jobs::backups))
        .routes(routes!(settings::get))
        .routes(routes!(webhooks::list))
        .routes(routes!(health::metrics))
}

/// Objects of the cache host.
fn objects_api() -> Api {
    OpenApiRouter::new()
        .routes(routes!(cache::object))
        .routes(routes!(cache::blob))
        .routes(routes!(cache::packed))
}

fn cache_changes_api() -> Api {
    OpenApiRouter::new()
        .routes(routes!(cache::fetch))
        .routes(routes!(cache::delete))
        .routes(routes!(cache::pin, cache::unpin))
        .routes(routes!(cache::cancel))
        .routes(routes!(cache::forget))
}

fn machine_changes_api() -> Api {
    OpenApiRouter::new()
        .routes(routes!(machines::put))
        .routes(routes!(machines::patch))
        .routes(routes!(machines::delete))
        .routes(routes!(bulk::change))
        .routes(routes!(bulk::import).layer(DefaultBodyLimit::max(bulk::TABLE_BYTES_MAX)))
        .routes(routes!(machine_cards::add, machine_cards::remove))
        .routes(routes!(events::acknowledge))
        .routes(routes!(power::switch))
        .routes(routes!(power::switch_many))
}

fn plan_changes_api() -> Api {
    OpenApiRouter::new()
        .routes(routes!(plans::check))
        .routes(routes!(plans::put))
        .routes(routes!(plans::roll_back))
        .routes(routes!(plans::delete))
}

fn catalog_changes_api() -> Api {
    OpenApiRouter::new()
        .routes(routes!(catalog::add))
        .routes(routes!(catalog::delete))
        .routes(routes!(catalog::import))
        .routes(routes!(ui::catalog_upload::upload))
        .routes(routes!(catalog::refresh))
        .routes(routes!(catalog::warm))
        .merge(cache_changes_api())
}

fn access_api() -> Api {
    OpenApiRouter::new()
        .routes(routes!(access::tokens))
        .routes(routes!(access::create))
        .routes(routes!(access::revoke))
        .routes(routes!(access::end_sessions))
}

fn admin_api() -> Api {
    OpenApiRouter::new()
        .routes(routes!(boot_files::put).layer(DefaultBodyLimit::disable()))
        .routes(routes!(jobs::fetch_release))
        .routes(routes!(jobs::cancel_release))
        .routes(routes!(jobs::create_backup))
        .routes(routes!(jobs::cancel_backup))
        .routes(routes!(transfer::export))
        .routes(routes!(transfer::import).layer(DefaultBodyLimit::max(transfer::BUNDLE_BYTES_MAX)))
        .routes(routes!(settings::put))
        .routes(routes!(webhooks::test))
        .merge(access_api())
}

// ---- pages

/// Paths of pages, with their handlers.
type Pages = Vec<(&'static str, MethodRouter<RouterState>)>;

/// Reading the pages of this group needs `read`, and forms on them need `change`.
const fn readable(change: Scope) -> Permission {
    Permission { read: Scope::Read, change }
}

const ADMIN_ONLY: Permission = Permission { read: Scope::Admin, change: Scope::Admin };

/// Returns the pages that need a login, by permission.
fn scoped_pages() -> Vec<(Permission, Pages)> {
    vec![
        (readable(Scope::Machines), machine_pages()),
        (readable(Scope::Plans), plan_pages()),
        (
            readable(Scope::Catalog),
            vec![("/ui/images", get(ui::images::page).post(ui::images::submit))],
        ),
        (readable(Scope::Admin), server_pages()),
        (ADMIN_ONLY, vec![("/ui/backups/{id}", get(ui::backups::download))]),
    ]
}

fn machine_pages() -> Pages {
    vec![
        ("/ui/dashboard", get(ui::dashboard::page)),
        ("/ui/machines", get(ui::machines::page)),
        ("/ui/machines/add", post(ui::machines::add)),
        ("/ui/machines/{mac}", get(ui::machine::page).post(ui::machine::save)),
        ("/ui/machines/{mac}/preview", post(ui::machine::preview)),
        ("/ui/machines/{mac}/delete", post(ui::machine::delete)),
        ("/ui/undo", post(ui::undo::undo)),
    ]
}

fn plan_pages() -> Pages {
    vec![
        ("/ui/plans", get(ui::plans::page).post(ui::plan_editor::save)),
        ("/ui/plans/new", get(ui::plan_editor::new)),
        ("/ui/plans/check", post(ui::plan_editor::check)),
        ("/ui/plans/{name}", get(ui::plan::page)),
        ("/ui/plans/{name}/edit", get(ui::plan_editor::edit)),
        ("/ui/plans/{name}/roll-back", post(ui::plan::roll_back)),
        ("/ui/plans/{name}/delete", post(ui::plan::delete)),
    ]
}

fn server_pages() -> Pages {
    vec![
        ("/ui/netboot", get(ui::netboot::page).post(ui::netboot::submit)),
        ("/ui/netboot/probe", get(ui::netboot::probe)),
        ("/ui/backups", get(ui::backups::page).post(ui::backups::submit)),
        ("/ui/settings", get(ui::settings::page).post(ui::settings::submit)),
        ("/ui/settings/configuration", post(ui::settings::configure)),
    ]
}

/// The pages that a cache host also serves, by permission. `acknowledge` is the scope that
/// acknowledging events needs.
fn scoped_cache_pages(acknowledge: Scope) -> Vec<(Permission, Pages)> {
    vec![
        (
            readable(Scope::Catalog),
            vec![("/ui/cache", get(ui::cache::page).post(ui::cache::submit))],
        ),
        (
            readable(acknowledge),
            vec![("/ui/events", get(ui::events::page).post(ui::events::submit))],
        ),
        (
            readable(Scope::Read),
            vec![("/ui/live", get(ui::live::stream)), ("/ui/logout", post(ui::login::log_out))],
        ),
        (ADMIN_ONLY, vec![("/ui/account", get(ui::account::page).post(ui::account::submit))]),
    ]
}

fn pages(state: &RouterState) -> Router<RouterState> {
    let pages = scoped_cache_pages(Scope::Machines).into_iter().chain(scoped_pages());
    open_pages().merge(guarded_pages(state, pages))
}

fn cache_pages(state: &RouterState) -> Router<RouterState> {
    open_pages().merge(guarded_pages(state, scoped_cache_pages(Scope::Admin)))
}

/// Pages without a login.
fn open_pages() -> Router<RouterState> {
    Router::new()
        .route("/", get(|| async { Redirect::to("/ui/login") }))
        .route("/ui", get(home))
        .route("/ui/login", get(ui::login::page).post(ui::login::log_in))
        .route("/static/{name}", get(ui::assets::get))
}

fn guarded_pages(
    state: &RouterState,
    groups: impl IntoIterator<Item = (Permission, Pages)>,
) -> Router<RouterState> {
    let mut router = Router::new();
    for (permission, pages) in groups {
        let group = pages
            .into_iter()
            .fold(Router::new(), |group, (path, handlers)| group.route(path, handlers));
        router = router.merge(group.route_layer(from_fn_with_state(permission, permit)));
    }
    router
        .route_layer(from_fn_with_state(state.clone(), ui::error_page::errors_as_pages))
        .route_layer(from_fn_with_state(Guard::for_pages(state), guard))
}

async fn home(State(config): State<Arc<Config>>) -> Redirect {
    Redirect::to(ui::frame::home(&config))
}

#[cfg(test)]
mod tests;
