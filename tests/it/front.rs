//! The front door as its owners see it: ports, proxy properties, pages, routes.

use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::http::{exchange, get_from};
use crate::support::{Repo, Staithe, eventually};

/// For a line to reach its file.
const WRITTEN: Duration = Duration::from_secs(20);

/// The table that the proxy was told last.
fn table(staithe: &Staithe) -> Value {
    let text = std::fs::read_to_string(staithe.data_dir().join("proxy/routes.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// An app's routes in it.
fn routes_of(staithe: &Staithe, app: &str) -> Vec<Value> {
    let table = table(staithe);
    let routes = table["routes"].as_array().unwrap_or_else(|| panic!("no routes in {table}"));
    routes.iter().filter(|route| route["app"] == app).cloned().collect()
}

/// A property as `proxy:report` prints it.
#[track_caller]
fn property(staithe: &Staithe, app: &str, field: &str) -> String {
    let finished = staithe.cli(&["proxy:report", app, &format!("--{field}")]).succeeds();
    finished.stdout.trim().to_owned()
}

#[test]
fn port_mappings_are_dokkus_and_each_host_port_has_one_holder() {
    let staithe = Staithe::start_bare();
    staithe.cli(&["apps:create", "shop"]).succeeds();
    staithe.cli(&["apps:create", "blog"]).succeeds();
    let map = |app: &str| {
        staithe.cli(&["ports:report", app, "--ports-map"]).succeeds().stdout.trim().to_owned()
    };
    assert_eq!(map("shop"), "http:80:5000");

    // Free a moment ago; whoever takes it meanwhile is told.
    let port = crate::support::staithe::free_address().port();
    staithe.cli(&["ports:add", "shop", &format!("http:{port}:6000")]).succeeds();
    assert_eq!(map("shop"), format!("http:80:5000 https:443:5000 http:{port}:6000"));
    assert_eq!(table(&staithe)["listeners"], json!([{ "port": port, "scheme": "http" }]));
    let routes = routes_of(&staithe, "shop");
    let listeners: Vec<_> = routes.iter().map(|r| r["bindings"][0]["listeners"].clone()).collect();
    assert_eq!(listeners, [json!(["http", "https"]), json!([{ "port": port }])]);

    // Another app may share it, told apart by domain, in the same scheme.
    staithe.cli(&["ports:add", "blog", &format!("http:{port}:5000")]).succeeds();
    staithe.cli(&["ports:remove", "blog", &port.to_string()]).succeeds();
    staithe
        .cli(&["ports:add", "blog", &format!("https:{port}:5000")])
        .fails_with(4)
        .says("app `shop` has host port");
    staithe
        .cli(&["ports:add", "shop", &format!("grpc:{port}:5000")])
        .fails_with(4)
        .says("remove that first");

    // Staithe's own and other programs' are refused by the holder's name.
    let ssh = staithe.ssh_address().port();
    staithe.cli(&["ports:add", "shop", &format!("http:{ssh}:1")]).fails_with(4).says("for SSH");
    let web = staithe.http().port();
    staithe.cli(&["ports:add", "shop", &format!("http:{web}:1")]).fails_with(4).says("write 80");
    let other = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let taken = other.local_addr().unwrap().port();
    staithe
        .cli(&["ports:add", "shop", &format!("http:{taken}:1")])
        .fails_with(4)
        .says("cannot be opened")
        .says("ss -ltnp");
    // What was refused is not kept: it would stand in the way of all that comes.
    assert!(!map("shop").contains(&taken.to_string()));
    staithe.cli(&["ports:add", "shop", "https:80:5000"]).fails_with(2).says("TLS on port 80");

    staithe.cli(&["ports:clear", "shop"]).succeeds();
    assert_eq!(map("shop"), "http:80:5000");
    assert_eq!(table(&staithe)["listeners"], json!([]));
    staithe.cli(&["events", "shop"]).succeeds().says("ports set to the default");
}

#[test]
fn proxy_properties_are_set_shown_and_in_the_table_at_once() {
    let staithe = Staithe::start_bare();
    staithe.cli(&["apps:create", "shop"]).succeeds();
    let settings = || routes_of(&staithe, "shop")[0]["settings"].clone();
    assert_eq!(settings()["https_redirect"], true);
    assert_eq!(settings()["hsts"]["include_subdomains"], false);

    staithe.cli(&["proxy:set", "shop", "client-max-body-size", "10m"]).succeeds();
    staithe.cli(&["proxy:set", "shop", "allow", "10.0.0.0/8", "::1"]).succeeds();
    staithe.cli(&["nginx:set", "shop", "proxy-read-timeout", "300s"]).succeeds();
    staithe.cli(&["proxy:set", "shop", "hsts", "false"]).succeeds();
    let now = settings();
    assert_eq!(now["max_body"], "10m", "{now}");
    assert_eq!(now["allow"], json!(["10.0.0.0/8", "::1"]));
    assert_eq!(now["response_head_timeout"], 300_000);
    assert_eq!(now["hsts"], Value::Null);
    assert_eq!(property(&staithe, "shop", "proxy-client-max-body-size"), "10m");

    // All apps, unless they have a value of their own.
    staithe.cli(&["proxy:set", "--global", "client-max-body-size", "1g"]).succeeds();
    staithe.cli(&["proxy:set", "--global", "access-log", "combined"]).succeeds();
    assert_eq!(
        (&settings()["max_body"], &settings()["access_log"]),
        (&json!("10m"), &json!("combined"))
    );
    staithe.cli(&["proxy:set", "shop", "client-max-body-size"]).succeeds();
    assert_eq!(settings()["max_body"], "1g");
    assert_eq!(property(&staithe, "shop", "proxy-global-client-max-body-size"), "1g");
    staithe.cli(&["proxy:report", "--global"]).succeeds().says("combined");

    // Refused with what would do.
    staithe
        .cli(&["proxy:set", "shop", "proxy-buffers", "8"])
        .fails_with(2)
        .says("client-max-body-size");
    staithe.cli(&["proxy:set", "shop", "allow", "everyone"]).fails_with(4).says("10.0.0.0/8");
    staithe.cli(&["proxy:set", "shop", "hsts-preload", "true"]).fails_with(4).says("hsts-max-age");
    staithe
        .cli(&["proxy:set", "shop", "canonical-host", "www.example.org"])
        .fails_with(4)
        .says("domains:add shop www.example.org");
    staithe.cli(&["domains:add", "shop", "www.example.org"]).succeeds();
    staithe.cli(&["proxy:set", "shop", "canonical-host", "www.example.org"]).succeeds();
    assert_eq!(settings()["canonical_host"], "www.example.org");
    staithe.cli(&["domains:remove", "shop", "www.example.org"]).succeeds();
    assert_eq!(settings()["canonical_host"], Value::Null);

    // They go where the app goes.
    staithe.cli(&["apps:rename", "shop", "store"]).succeeds();
    assert_eq!(property(&staithe, "store", "proxy-app-allow"), "10.0.0.0/8,::1");
    staithe.cli(&["apps:clone", "--skip-deploy", "store", "copy"]).succeeds();
    assert_eq!(property(&staithe, "copy", "proxy-app-allow"), "10.0.0.0/8,::1");
    assert_eq!(routes_of(&staithe, "copy")[0]["settings"]["allow"], json!(["10.0.0.0/8", "::1"]));

    // Off the web and back.
    staithe.cli(&["proxy:set", "store", "allow"]).succeeds();
    staithe.cli(&["proxy:disable", "store"]).succeeds();
    assert_eq!(routes_of(&staithe, "store"), [] as [Value; 0]);
    let status = || get_from(staithe.http(), "shop.test", "/").status;
    assert_ne!(status(), 503);
    assert_eq!(staithe.cli(&["urls", "store"]).succeeds().stdout.trim(), "");
    staithe.cli(&["proxy:enable", "store"]).succeeds();
    assert_eq!(status(), 503);
    staithe.cli(&["events", "store"]).succeeds().says("proxy disabled");
}

#[test]
fn pages_are_files_that_the_proxy_alone_may_read() {
    let staithe = Staithe::start_bare();
    staithe.cli(&["apps:create", "shop"]).succeeds();
    let page = "<!doctype html><title>Back soon</title>";
    staithe.cli_with_input(&["maintenance:custom-page", "shop"], page).succeeds();
    staithe.cli(&["maintenance:on", "shop"]).succeeds();
    let settings = routes_of(&staithe, "shop")[0]["settings"].clone();
    assert_eq!(settings["maintenance"], true, "{settings}");
    let id = settings["pages"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(settings["pages"], json!([{ "when": "maintenance", "id": id }]));
    let file = staithe.data_dir().join("pages").join(format!("{id}.html"));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), page);
    let metadata = std::fs::metadata(&file).unwrap();
    assert_eq!((metadata.mode() & 0o777, metadata.uid(), metadata.gid()), (0o640, 0, 32767));

    staithe.cli(&["maintenance:report", "shop"]).succeeds().says("true");
    staithe.cli(&["maintenance:disable", "shop"]).succeeds();
    assert_eq!(routes_of(&staithe, "shop")[0]["settings"]["maintenance"], false);
    staithe.cli_with_input(&["error-pages:set", "shop", "error"], "<p>Ours").succeeds();
    staithe.cli(&["error-pages:report", "shop"]).succeeds().says("sha256:");
    staithe.cli(&["error-pages:clear", "shop", "maintenance"]).succeeds();
    staithe.cli(&["error-pages:clear", "shop", "maintenance"]).fails_with(20).says("no page");
    staithe.cli_with_input(&["error-pages:set", "shop", "error"], "").fails_with(4).says("HTML");
    let huge = "x".repeat((64 << 10) + 1);
    staithe
        .cli_with_input(&["error-pages:set", "shop", "error"], &huge)
        .fails_with(4)
        .says("65537");
    staithe.cli(&["error-pages:set", "shop", "teapot"]).fails_with(2).says("`unavailable`");
}

#[test]
fn routes_lead_paths_of_domains_to_apps() {
    let staithe = Staithe::start_bare();
    for app in ["shop", "api"] {
        staithe.cli(&["apps:create", app]).succeeds();
    }
    // Another app's domain is not to be had by accident.
    staithe
        .cli(&["routes:add", "api", "shop.test/api"])
        .fails_with(4)
        .says("belongs to app `shop`")
        .says("--force");
    staithe.cli(&["routes:add", "api", "shop.test/api", "--strip", "--force"]).succeeds();
    staithe.cli(&["routes:add", "api", "free.example.org", "--process-type", "grpc"]).succeeds();
    staithe.cli(&["routes:add", "api", "shop.test", "--force"]).fails_with(4).says("give a path");
    staithe.cli(&["routes:add", "shop", "shop.test/api"]).fails_with(4).says("leads to app `api`");
    staithe.cli(&["routes:list"]).succeeds().says("shop.test/api");
    let list = staithe.json(&["routes:list", "api"]);
    assert_eq!(list[1]["domain_of"], "shop", "{list}");
    let bindings: Vec<_> = routes_of(&staithe, "api")
        .iter()
        .map(|route| {
            let binding = &route["bindings"][0];
            (
                route["process_type"].clone(),
                binding["domain"].clone(),
                binding["strip_path"].clone(),
            )
        })
        .collect();
    assert_eq!(
        bindings,
        [
            (json!("web"), json!("api.test"), json!(false)),
            (json!("grpc"), json!("free.example.org"), json!(false)),
            (json!("web"), json!("shop.test"), json!(true)),
        ]
    );

    // A domain that is routed away as a whole cannot be taken, not even by default.
    staithe
        .cli(&["domains:add", "shop", "free.example.org"])
        .fails_with(4)
        .says("routes:remove api free.example.org/");
    staithe.cli(&["routes:add", "api", "new.test"]).succeeds();
    staithe.cli(&["apps:create", "new"]).succeeds();
    assert_eq!(routes_of(&staithe, "new"), [] as [Value; 0]);
    assert_eq!(staithe.cli(&["urls", "new"]).succeeds().stdout.trim(), "");

    staithe.cli(&["routes:remove", "api", "shop.test/nope"]).fails_with(20).says("routes:list api");
    staithe.cli(&["routes:remove", "api", "shop.test/api"]).succeeds();
    // Another app can have what a destroyed one had.
    staithe.cli(&["apps:destroy", "api", "--force"]).succeeds();
    assert_eq!(staithe.json(&["routes:list"]), json!([]));
    staithe.cli(&["domains:add", "shop", "free.example.org"]).succeeds();
}

#[test]
fn an_app_given_anothers_default_domain_takes_it_without_harm() {
    let staithe = Staithe::start_bare();
    staithe.cli(&["apps:create", "shop"]).succeeds();
    staithe.cli(&["domains:set", "shop", "blog.test"]).succeeds();
    // Both would have the domain; the one that was given it by name keeps it.
    staithe.cli(&["apps:create", "blog"]).succeeds();
    assert_eq!(routes_of(&staithe, "blog"), [] as [Value; 0]);
    assert_eq!(routes_of(&staithe, "shop").len(), 1);
    staithe.cli(&["domains:set", "shop", "shop.test"]).succeeds();
    assert_eq!(routes_of(&staithe, "blog").len(), 1);
}

#[test]
fn instances_are_told_their_port_and_any_process_type_can_be_reached() {
    let staithe = Staithe::start();
    let repo = Repo::of_fixture(&staithe, "procfile-script", "shop");
    repo.write(
        "Procfile",
        "web: exec perl server.pl\napi: echo 1 api > version.txt; exec perl server.pl\n",
    );
    repo.commit("Serve an API beside");
    repo.push().succeeds();
    let get = |host: &str| get_from(staithe.http(), host, "/");
    get("shop.test").is(200, "version 1\n");

    // A new first mapping is for new instances; those that run are reached where they listen.
    staithe.cli(&["ports:set", "shop", "http:80:3000"]).succeeds();
    get("shop.test").is(200, "version 1\n");
    staithe.cli(&["logs", "shop"]).succeeds().says("listens on 5000");
    staithe.cli(&["ps:restart", "shop"]).succeeds();
    get("shop.test").is(200, "version 1\n");
    staithe.cli(&["logs", "shop"]).succeeds().says("listens on 3000");

    // Of a port where nothing listens no deploy comes of.
    let port = crate::support::staithe::free_address().port();
    staithe.cli(&["ports:add", "shop", &format!("http:{port}:7000")]).succeeds();
    staithe.cli(&["checks:set", "shop", "deadline", "1"]).succeeds();
    staithe.cli(&["ps:restart", "shop"]).fails_with(1).says("nothing listens on port 7000");
    get("shop.test").is(200, "version 1\n");
    staithe.cli(&["ports:clear", "shop"]).succeeds();

    staithe
        .cli(&["routes:add", "shop", "api.example.org", "--process-type", "nope"])
        .fails_with(4)
        .says("declared are: api, web");
    staithe.cli(&["routes:add", "shop", "api.example.org", "--process-type", "api"]).succeeds();
    assert_eq!(get("api.example.org").status, 503);
    staithe.cli(&["ps:scale", "shop", "api=2"]).succeeds();
    get("api.example.org").is(200, "version 1 api\n");
    staithe.cli(&["checks:report", "shop"]).succeeds().says("Check api listening");
    staithe.cli(&["ps:scale", "shop", "api=0"]).succeeds();
    assert_eq!(get("api.example.org").status, 503);
    get("shop.test").is(200, "version 1\n");
}

#[test]
fn a_certificate_brings_https_urls_and_the_redirect() {
    let staithe = Staithe::start_bare();
    staithe.cli(&["apps:create", "shop"]).succeeds();
    let (http, https) = (staithe.http().port(), staithe.address("https").port());
    let urls = || staithe.cli(&["urls", "shop"]).succeeds().stdout.trim().to_owned();
    assert_eq!(urls(), format!("http://shop.test:{http}"));
    staithe.cli(&["certs:generate", "shop", "shop.test"]).succeeds();
    assert_eq!(urls(), format!("https://shop.test:{https}"));
    staithe
        .cli(&["ports:report", "shop", "--ports-map"])
        .succeeds()
        .says("http:80:5000 https:443:5000");
    let redirected = || get_from(staithe.http(), "shop.test", "/x").header("location");
    assert_eq!(redirected().unwrap(), format!("https://shop.test:{https}/x"));

    // A path of the domain shows the certificate of the domain's owner.
    staithe.cli(&["apps:create", "api"]).succeeds();
    staithe.cli(&["routes:add", "api", "shop.test/api", "--force"]).succeeds();
    let certificate = |app: &str, route: usize| {
        routes_of(&staithe, app)[route]["bindings"][0]["certificate"].clone()
    };
    assert!(certificate("shop", 0).is_string());
    assert_eq!(certificate("api", 1), certificate("shop", 0));

    // Nobody is sent where nothing answers, or against the owner's will.
    staithe.cli(&["ports:set", "shop", "http:80:5000"]).succeeds();
    assert_eq!(redirected(), None);
    assert_eq!(urls(), format!("http://shop.test:{http}"));
    staithe.cli(&["ports:clear", "shop"]).succeeds();
    staithe.cli(&["proxy:set", "shop", "https-redirect", "false"]).succeeds();
    assert_eq!(redirected(), None);
}

/// Answers with its own name and the request's head.
const ECHO: &str = r#"
use strict;
use warnings;
use IO::Socket::INET;

$SIG{TERM} = sub { exit 0 };
my @ports = ($ENV{PORT}, split / /, $ENV{MORE_PORTS} // "");
for my $port (@ports[1 .. $#ports]) {
    fork or serve($port);
}
serve($ports[0]);

sub serve {
    my ($port) = @_;
    my $server = IO::Socket::INET->new(LocalPort => $port, Listen => 128, ReuseAddr => 1)
        or die "port $port: $!";
    while (1) {
        my $client = $server->accept or next;
        my $body = "$ENV{DYNO} on $port\n";
        while (defined(my $line = <$client>)) { last if $line =~ /^\r?\n$/; $body .= $line }
        print $client "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: "
            . length($body) . "\r\nConnection: close\r\n\r\n$body";
        close $client;
    }
}
"#;

#[test]
fn what_is_typed_is_what_the_web_sees() {
    let staithe = Staithe::start();
    let repo = Repo::of_fixture(&staithe, "procfile-script", "shop");
    repo.write("server.pl", ECHO);
    repo.write("Procfile", "web: exec perl server.pl\napi: exec perl server.pl\n");
    repo.commit("Echo");
    repo.push().succeeds();
    let get = |host: &str, path: &str| get_from(staithe.http(), host, path);
    let send = |head: &str| exchange(staithe.http(), head).unwrap();
    get("shop.test", "/api/x").is(200, "web.1 on 5000\nGET /api/x HTTP");

    // A path of the domain is another process type's.
    staithe
        .cli(&["routes:add", "shop", "shop.test/api", "--process-type", "api", "--strip"])
        .succeeds()
        .says("ps:scale shop api=1");
    staithe.cli(&["ps:scale", "shop", "api=1"]).succeeds();
    let answer = get("shop.test", "/api/x").is(200, "api.1 on 5000\nGET /x HTTP");
    assert!(answer.body.to_lowercase().contains("x-forwarded-prefix: /api"), "{answer:?}");
    get("shop.test", "/apix").is(200, "web.1 on 5000\n");
    let port = staithe.http().port();
    staithe.cli(&["urls", "shop"]).says(&format!("http://shop.test:{port}/api"));

    // A port more, to another of the app's ports, without a lost request.
    let more = crate::support::staithe::free_address().port();
    staithe.cli(&["config:set", "shop", "MORE_PORTS=6000"]).succeeds();
    staithe.cli(&["ports:add", "shop", &format!("http:{more}:6000")]).succeeds();
    let beside = std::net::SocketAddr::from((Ipv4Addr::LOCALHOST, more));
    get_from(beside, "shop.test", "/").is(200, "web.1 on 6000");
    get("shop.test", "/").is(200, "web.1 on 5000");
    staithe.cli(&["ports:clear", "shop"]).succeeds();

    // Limits and lists.
    staithe.cli(&["proxy:set", "shop", "client-max-body-size", "1k"]).succeeds();
    let long = "POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 2000\r\n\r\n";
    assert_eq!(send(long).status, 413);
    staithe.cli(&["proxy:set", "shop", "client-max-body-size", "0"]).succeeds();
    let body = "x".repeat(2000);
    let whole = format!("{}{body}", long.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"));
    assert_eq!(send(&whole).status, 200);
    staithe.cli(&["proxy:set", "shop", "deny", "127.0.0.0/8"]).succeeds();
    assert_eq!(get("shop.test", "/").status, 403);
    staithe.cli(&["proxy:set", "shop", "deny"]).succeeds();

    // One host of many.
    staithe.cli(&["domains:add", "shop", "www.example.org"]).succeeds();
    staithe.cli(&["proxy:set", "shop", "canonical-host", "www.example.org"]).succeeds();
    let moved = get("shop.test", "/page?q=1");
    assert!((301..=308).contains(&moved.status), "{moved:?}");
    let location = moved.header("location").unwrap();
    assert!(location.contains("www.example.org") && location.ends_with("/page?q=1"), "{location}");
    get("www.example.org", "/page").is(200, "web.1");

    // Maintenance, with a page of the app's own for those who read HTML.
    let page = "<!doctype html><title>Back soon</title>";
    staithe.cli_with_input(&["maintenance:custom-page", "shop"], page).succeeds();
    staithe.cli(&["maintenance:on", "shop"]).succeeds();
    let browse =
        "GET / HTTP/1.1\r\nHost: www.example.org\r\nAccept: text/html\r\nConnection: close\r\n\r\n";
    let answer = send(browse).is(503, page);
    assert!(answer.header("retry-after").is_some(), "{answer:?}");
    staithe.cli(&["maintenance:off", "shop"]).succeeds();
    send(browse).is(200, "web.1");
    staithe.cli_with_input(&["error-pages:set", "shop", "unavailable"], "<p>Closed").succeeds();
    staithe.cli(&["ps:stop", "shop"]).succeeds();
    send(browse).is(503, "<p>Closed");
}

#[test]
fn owners_see_the_requests_of_their_app_and_operators_the_counters() {
    let metrics = crate::support::staithe::free_address();
    let listen = format!("api.metrics_listen=[\"{metrics}\"]");
    let staithe = Staithe::start_with(false, &[&listen]);
    staithe.cli(&["apps:create", "shop"]).succeeds();
    staithe.get("shop", "/first").is(503, "");
    staithe.get("shop", "/second").is(503, "");
    // Counted and written just after the answers.
    let logs = |arguments: &[&str]| staithe.cli(arguments).succeeds().stdout;
    eventually(WRITTEN, "both requests are in the log", || {
        let log = logs(&["proxy:logs", "shop"]);
        if log.lines().count() == 2 { Ok(()) } else { Err(log) }
    });
    let line: Value =
        serde_json::from_str(logs(&["proxy:logs", "shop", "-n", "1"]).trim()).unwrap();
    assert_eq!((&line["target"], &line["error"]), (&json!("/second"), &json!("app-deploying")));
    staithe.cli(&["proxy:logs", "nobody"]).fails_with(20).says("does not exist");

    let counted = "staithe_requests_total{app=\"shop\",release=\"none\",protocol=\"http/1\",status=\"5xx\"} 2\n";
    let text = logs(&["metrics"]);
    assert!(text.contains(counted) && text.ends_with("# EOF\n"), "{text}");
    let answer = get_from(metrics, "x", "/metrics").is(200, counted);
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(answer.header("content-type").as_deref(), Some(kind));
    get_from(metrics, "x", "/api/v1/apps").is(404, "");

    // The log goes with the app, by another name too.
    let log = staithe.data_dir().join("proxy/access/store.log");
    staithe.cli(&["apps:rename", "shop", "store"]).succeeds();
    assert_eq!(logs(&["proxy:logs", "store"]).lines().count(), 2);
    assert!(!log.with_file_name("shop.log").exists());
    staithe.cli(&["--force", "apps:destroy", "store"]).succeeds();
    assert!(!log.exists());
}
