//! Who may send which request: every route, by every role.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use axum::body::Body;
use axum::http::{StatusCode, header};

use super::*;
use crate::blocking::blocking;
use crate::domain::time::Time;
use crate::domain::user::{Role, User};
use crate::services::app::App;
use crate::services::auth::hash_password;
use crate::services::script_workers::ScriptWorkers;
use crate::store::users::{self, StoredUser};

const CHANGING: [&str; 4] = ["POST", "PUT", "PATCH", "DELETE"];

/// Requests that are not reads, but that everybody may send: they change nothing, or need no login.
const OPEN: [(&str, &str); 6] = [
    ("POST", "/machines/{mac}/simulate"),
    ("POST", "/pxe/{mac}/inventory"),
    ("POST", "/pxe/{mac}/status"),
    ("POST", "/simulate"),
    ("POST", "/ui/login"),
    ("POST", "/ui/logout"),
];

/// A server with a cache host and a user of every role, who all have the same password.
struct RoleBench {
    server: Router,
    cache: Router,
    app: Arc<App>,
    _dir: tempfile::TempDir,
}

const PASSWORD: &str = "correct horse";

impl RoleBench {
    async fn open() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let state_dir = dir.path().to_str().unwrap().to_owned();
        let values = [
            ("admin.password", "s3cret"),
            ("cache.embedded", "1"),
            ("paths.state_dir", state_dir.as_str()),
            ("server.remote_user_proxies", "192.0.2.9"),
        ];
        let config = Config::from_values(values).unwrap();
        let workers = ScriptWorkers::new(Arc::new(|| Command::new("false")), 1);
        let opened = blocking(move || App::open(config, workers)).await.unwrap();
        let app = Arc::new(opened.unwrap());
        let hash = hash_password(PASSWORD).unwrap();
        app.db
            .write(move |transaction| {
                for role in Role::ALL {
                    let user = User { name: format!("a-{}", role.as_str()), role };
                    let password_hash = Some(hash.clone());
                    let new = StoredUser { user, password_hash, created_at: Time(1) };
                    assert!(users::put_new(transaction, &new)?);
                }
                Ok(())
            })
            .await
            .unwrap();
        Self {
            server: router(RouterState::new(&app)),
            cache: cache_router(RouterState::new(&app)),
            app,
            _dir: dir,
        }
    }

    /// Returns the cookie of a new session of the user with `role`.
    async fn log_in(&self, role: Role) -> String {
        let form = format!("user=A-{}&password={PASSWORD}", role.as_str().to_uppercase());
        let answer = send(&self.server, "POST", "/ui/login", &[], &form.replace(' ', "+")).await;
        assert_eq!(answer.status(), StatusCode::SEE_OTHER);
        let cookie = answer.headers()[header::SET_COOKIE].to_str().unwrap();
        cookie.split(';').next().unwrap().to_owned()
    }
}

async fn send(
    router: &Router,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Response {
    send_from("192.0.2.1", router, method, path, headers, body).await
}

async fn send_from(
    peer: &str,
    router: &Router,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Response {
    let path = path.replace("{mac}", "02:00:00:00:00:01").replace(['{', '}'], "");
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let peer: SocketAddr = format!("{peer}:1000").parse().unwrap();
    request = request
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .extension(ConnectInfo(peer));
    let request = request.body(Body::from(body.to_owned())).unwrap();
    router.clone().oneshot(request).await.unwrap()
}

async fn text(answer: Response) -> String {
    let bytes = axum::body::to_bytes(answer.into_body(), 1 << 22).await.unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Returns the paths of all routes of `router`, which has `pages`, each with its methods. Those of
/// pages may have fewer.
async fn routes_of(
    router: &Router,
    pages: Vec<(Permission, Pages)>,
) -> BTreeMap<String, Vec<String>> {
    let document = text(send(router, "GET", "/openapi.json", &[], "").await).await;
    let document: serde_json::Value = serde_json::from_str(&document).unwrap();
    let mut routes: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        let methods = methods.as_object().unwrap().keys().map(|method| method.to_uppercase());
        routes.insert(path.clone(), methods.collect());
    }
    let open = ["/", "/ui", "/ui/login", "/static/{name}"];
    let pages = pages.into_iter().flat_map(|(_, pages)| pages).map(|(path, _)| path);
    for path in pages.chain(open) {
        routes.insert(path.to_owned(), vec!["GET".to_owned(), "POST".to_owned()]);
    }
    routes
}

fn server_pages_of_all_scopes() -> Vec<(Permission, Pages)> {
    scoped_cache_pages(Scope::Machines).into_iter().chain(scoped_pages()).collect()
}

#[tokio::test]
async fn a_viewer_can_change_nothing() {
    let bench = RoleBench::open().await;
    let cookie = bench.log_in(Role::Viewer).await;
    let routers = [
        (&bench.server, routes_of(&bench.server, server_pages_of_all_scopes()).await),
        (&bench.cache, routes_of(&bench.cache, scoped_cache_pages(Scope::Admin)).await),
    ];
    let mut refused = 0;
    for (router, routes) in routers {
        // every method of every path, also those that nobody has documented
        for path in routes.keys() {
            for method in CHANGING {
                if OPEN.contains(&(method, path.as_str())) {
                    continue;
                }
                let answer = send(router, method, path, &[("cookie", &cookie)], "").await;
                match answer.status() {
                    StatusCode::METHOD_NOT_ALLOWED => {}
                    StatusCode::FORBIDDEN => {
                        let why = text(answer).await;
                        assert!(why.contains("has the role viewer"), "{method} {path}: {why}");
                        refused += 1;
                    }
                    status => panic!("{method} {path}: {status}"),
                }
            }
        }
    }
    assert!(refused > 50, "only {refused} routes were found");
    let events = bench.app.db.read(crate::store::events::newest).await.unwrap();
    assert_eq!(events, 1, "nothing but the login has happened");
}

/// What neither a viewer nor an operator may read.
const SECRET: [&str; 4] = ["GET /export", "GET /tokens", "GET /ui/account", "GET /ui/backups/{id}"];

/// What an operator may not change.
const ADMINISTRATION: [&str; 16] = [
    "DELETE /boot/releases/{tag}",
    "DELETE /sessions",
    "DELETE /tokens/{id}",
    "DELETE /workers/backups/{id}",
    "POST /boot/releases",
    "POST /import",
    "POST /tokens",
    "POST /ui/account",
    "POST /ui/backups",
    "POST /ui/netboot",
    "POST /ui/settings",
    "POST /ui/settings/configuration",
    "POST /webhooks/{name}/test",
    "POST /workers/backups",
    "PUT /boot/{name}",
    "PUT /settings",
];

#[tokio::test]
async fn an_operator_may_do_everything_but_administration() {
    let bench = RoleBench::open().await;
    for role in [Role::Viewer, Role::Operator] {
        let cookie = bench.log_in(role).await;
        let mut refused = BTreeSet::new();
        for (path, methods) in routes_of(&bench.server, server_pages_of_all_scopes()).await {
            for method in methods {
                // machines need no login, and two pages look at other servers
                let is_open = path.starts_with("/pxe") || path.starts_with("/docs");
                let is_slow = matches!(path.as_str(), "/netboot/health" | "/ui/netboot/probe");
                if is_open || is_slow && method == "GET" || role == Role::Viewer && method != "GET"
                {
                    continue;
                }
                let answer = send(&bench.server, &method, &path, &[("cookie", &cookie)], "").await;
                if answer.status() == StatusCode::FORBIDDEN
                    && text(answer).await.contains(&format!("has the role {}", role.as_str()))
                {
                    refused.insert(format!("{method} {path}"));
                }
            }
        }
        let changes = ADMINISTRATION.iter().filter(|_| role == Role::Operator);
        let expected: BTreeSet<String> =
            SECRET.iter().chain(changes).map(|route| (*route).to_owned()).collect();
        assert_eq!(refused, expected, "{role:?}");
    }
}

#[tokio::test]
async fn a_proxied_user_sees_pages_with_forms_and_cannot_use_the_api() {
    let bench = RoleBench::open().await;
    let get = async |peer: &str, path: &str, name: &str| {
        send_from(peer, &bench.server, "GET", path, &[("remote-user", name)], "").await
    };
    let page = get("192.0.2.9", "/ui/machines", "a-operator").await;
    assert_eq!(page.status(), StatusCode::OK);
    let csrf = text(page).await;
    let csrf = csrf.split("name=\"csrf\" value=\"").nth(1).unwrap().split('"').next().unwrap();
    assert_eq!(csrf.len(), 64);
    let add = async |name: &str, csrf: &str| {
        let form = format!("mac=02:00:00:00:00:07&csrf={csrf}");
        let headers = [("remote-user", name)];
        let path = "/ui/machines/add";
        send_from("192.0.2.9", &bench.server, "POST", path, &headers, &form).await.status()
    };
    assert_eq!(add("a-operator", "").await, StatusCode::FORBIDDEN);
    assert_eq!(add("a-admin", csrf).await, StatusCode::FORBIDDEN, "the token of another user");
    assert_eq!(add("a-operator", csrf).await, StatusCode::SEE_OTHER);

    assert_eq!(get("192.0.2.9", "/machines", "a-admin").await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(get("192.0.2.9", "/ui/machines", "nobody").await.status(), StatusCode::FORBIDDEN);
    assert_eq!(get("192.0.2.8", "/ui/machines", "a-admin").await.status(), StatusCode::SEE_OTHER);
    let home = get("192.0.2.9", "/ui/login", "a-viewer").await;
    assert_eq!(home.headers()[header::LOCATION], "/ui/dashboard");
}

#[tokio::test]
async fn a_changed_role_applies_to_open_sessions_and_a_removed_user_has_none() {
    let bench = RoleBench::open().await;
    let cookie = bench.log_in(Role::Admin).await;
    let get = async |path: &str| {
        send(&bench.server, "GET", path, &[("cookie", &cookie)], "").await.status()
    };
    assert_eq!(get("/tokens").await, StatusCode::OK);
    let user = User { name: "A-Admin".into(), role: Role::Viewer };
    bench.app.db.write(move |t| users::set_role(t, &user).map(drop)).await.unwrap();
    assert_eq!(get("/tokens").await, StatusCode::FORBIDDEN);
    assert_eq!(get("/machines").await, StatusCode::OK);
    bench.app.db.write(|t| users::delete(t, "a-ADMIN").map(drop)).await.unwrap();
    assert_eq!(get("/machines").await, StatusCode::UNAUTHORIZED);
}
