//! Which app a path belongs to, and what it gets to see.

use staithe::domain::{IpRange, PathPrefix};
use staithe::proxy::{Binding, Route, RouteTable};

use super::world::*;

/// A route of `app` to its instance, below `path` of `a.test`.
fn below(app: &str, instance: &App, path: &str, strip: bool) -> Route {
    let domains = vec!["a.test".parse().unwrap()];
    let mut route = Route::web(app.parse().unwrap(), domains, live(&[instance.address]));
    let path: PathPrefix = path.parse().unwrap();
    let binding = route.bindings.remove(0);
    route.bindings.push(Binding { path, strip_path: strip, ..binding });
    route
}

/// Answers with its name and the head it got.
async fn named(name: &'static str) -> App {
    App::answering(move |head, _| ok(&format!("{name} {head}"))).await
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n")
}

#[tokio::test]
async fn the_longest_prefix_decides_and_may_be_stripped() {
    let world = World::start().await;
    let (root, api) = (named("root").await, named("api").await);
    let mut table = world.table(&[]);
    table.routes = vec![below("root", &root, "/", false), below("api", &api, "/api", true)];
    world.supervisor.set_routes(&table).await.unwrap();
    for (path, start) in [
        ("/", "root GET / HTTP/1.1"),
        ("/apis?x=1", "root GET /apis?x=1 HTTP/1.1"),
        ("/api", "api GET / HTTP/1.1"),
        ("/api/users/?q=/api", "api GET /users/?q=/api HTTP/1.1"),
    ] {
        let answer = world.ask(&get(path)).await;
        assert!(answer.text().starts_with(start), "{path}: {}", answer.text());
        let prefix = "X-Forwarded-Prefix: /api\r\n";
        assert_eq!(answer.text().contains(prefix), start.starts_with("api"), "{path}");
    }
    let spoofed = "GET / HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-Prefix: /evil\r\n\r\n";
    assert!(!world.ask(spoofed).await.text().contains("evil"));
    world.end().await;
}

#[tokio::test]
async fn no_spelling_of_a_path_gets_around_the_list_of_a_prefix() {
    let world = World::start().await;
    let (root, admin) = (named("root").await, named("admin").await);
    let mut guarded = below("admin", &admin, "/admin", false);
    let nobody: IpRange = "192.0.2.1".parse().unwrap();
    guarded.settings.allow = vec![nobody];
    let routes = vec![below("root", &root, "/", false), guarded];
    let table = RouteTable { routes, ..world.table(&[]) };
    world.supervisor.set_routes(&table).await.unwrap();
    for (path, status) in [
        ("/admin", 403),
        ("/admin/x", 403),
        ("/x/../admin", 403),
        ("/x/%2e%2E/admin/", 403),
        ("/%61dmin", 403),
        ("/./admin", 403),
        ("/x/..%2fadmin", 400),
        ("//admin", 400),
        ("/admin;a=b", 400),
        ("/x/%252e%252e/admin", 400),
        ("/x\\..\\admin", 400),
        ("/administration", 200),
    ] {
        let answer = world.ask(&get(path)).await;
        assert_eq!(answer.status(), status, "{path}: {}", answer.text());
    }
    assert_eq!(admin.connections(), 0);
    // What leaves the prefix is forwarded as what it is.
    let answer = world.ask(&get("/admin/../x?y")).await;
    assert!(answer.text().starts_with("root GET /x?y HTTP/1.1"), "{}", answer.text());
    world.end().await;
}
