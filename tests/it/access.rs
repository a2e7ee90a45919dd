//! Who may do what, over all verbs and roles, at the web door; tokens, and git over HTTP.

use staithe::domain::access::{ALL, Role};

use crate::support::http::{Answer, exchange};
use crate::support::{Repo, Staithe};

fn ask(staithe: &Staithe, token: Option<&str>, method: &str, path: &str, body: &str) -> Answer {
    let credential =
        token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: box.test\r\nConnection: close\r\n{credential}\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    exchange(staithe.web(), &head).unwrap()
}

fn token(staithe: &Staithe, user: &str, name: &str, scope: &[&str]) -> String {
    let mut arguments = vec!["tokens:create", name, "--user", user];
    arguments.extend(scope);
    staithe.cli(&arguments).succeeds().stdout.trim().to_owned()
}

/// One who asks, and the roles they hold.
struct Asker {
    token: String,
    name: String,
    platform: Option<Role>,
    shop: Option<Role>,
    /// Whether the token has a scope that names the verb.
    verbs: fn(&str) -> bool,
    /// Whether the token is for `shop` only.
    narrowed: bool,
}

/// Tokens name what gives access, or may not.
fn usual(verb: &str) -> bool {
    !["access:", "ssh-keys:", "tokens:", "users:"].iter().any(|noun| verb.starts_with(noun))
}

fn askers(staithe: &Staithe) -> Vec<Asker> {
    let mut askers = Vec::new();
    let mut add = |user: &str, scope: &[&str], held: (Option<Role>, Option<Role>), verbs| {
        let token = token(staithe, user, &format!("token-{}", askers.len()), scope);
        let narrowed = scope.contains(&"--app");
        let name = format!("{user} {scope:?}");
        let (platform, shop) = held;
        askers.push(Asker { token, name, platform, shop, verbs, narrowed });
    };
    for role in Role::ALL {
        let of = |place: &str| format!("{place}-{role}");
        staithe.cli(&["users:add", &of("all"), "--role", role.as_str()]).succeeds();
        for place in ["shop", "blog"] {
            staithe.cli(&["users:add", &of(place)]).succeeds();
            staithe.cli(&["access:add", &of(place), role.as_str(), place]).succeeds();
        }
        let every = ["--verb", EVERY_NOUN];
        add(&of("all"), &["--expires", "1d"], (Some(role), Some(role)), usual);
        add(&of("all"), &every, (Some(role), Some(role)), |_| true);
        add(&of("shop"), &every, (None, Some(role)), |_| true);
        add(&of("blog"), &every, (None, None), |_| true);
    }
    staithe.cli(&["users:add", "nobody"]).succeeds();
    add("nobody", &["--expires", "1d"], (None, None), usual);
    let admin = (Some(Role::Admin), Some(Role::Admin));
    add("all-admin", &["--app", "shop"], admin, usual);
    add("all-admin", &["--verb", "ps:*"], admin, |verb| verb.starts_with("ps:"));
    askers
}

/// Nouns whose verbs give access, and some others.
const EVERY_NOUN: &str = "access:*,ssh-keys:*,tokens:*,users:*,apps:*,ps:*,config:*,events:*";

fn every_noun(verb: &str) -> bool {
    EVERY_NOUN.split(',').any(|noun| verb.starts_with(noun.trim_end_matches('*')))
}

impl Asker {
    /// What the table says: allowed, hidden, or forbidden.
    fn expected(&self, verb: &str, on: &str, needs: Role) -> &'static str {
        let scoped = (self.verbs)(verb) && (!self.name.contains(EVERY_NOUN) || every_noun(verb));
        let held = match on {
            "anybody" => Some(Role::Admin),
            "app" if self.platform.max(self.shop).is_none() => return "hidden",
            "app" => self.platform.max(self.shop),
            _ if self.narrowed => None,
            _ => self.platform,
        };
        if held >= Some(needs) && scoped { "allowed" } else { "forbidden" }
    }
}

/// Asks every operation of the document as everybody. What is refused has no effect; what is allowed
/// is only tried where it cannot have one: reading, and with a body that no handler takes.
#[test]
fn every_route_is_allowed_exactly_as_the_table_says() {
    let staithe = Staithe::start_with(false, &["web.requests_per_minute=1000000"]);
    for app in ["shop", "blog"] {
        staithe.cli(&["apps:create", app]).succeeds();
    }
    let askers = askers(&staithe);
    let admin = &askers.iter().find(|asker| asker.name.starts_with("all-admin")).unwrap().token;
    let answer = ask(&staithe, Some(admin), "GET", "/api/v1/openapi.json", "");
    let document: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    let mut routes = 0;
    for (template, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let Some(verb) = operation["x-verb"].as_str() else {
                panic!("{method} {template} has no verb");
            };
            let known = ALL.iter().find(|known| known.name == verb);
            let known = known.unwrap_or_else(|| panic!("{verb} is in no table"));
            let on = operation["x-on"].as_str().unwrap();
            routes += 1;
            let path = filled(template);
            let method = method.to_uppercase();
            let strange = ask(&staithe, None, &method, &path, "{");
            assert_eq!(strange.status, 401, "{method} {path}: {strange:?}");
            for asker in &askers {
                let expected = asker.expected(verb, on, known.needs);
                let harmless = method == "GET" || operation["requestBody"].is_object();
                if expected == "allowed" && !harmless {
                    continue;
                }
                let answer = ask(&staithe, Some(&asker.token), &method, &path, "{");
                let found = outcome(&answer);
                assert_eq!(found, expected, "{} {method} {path} ({verb}): {answer:?}", asker.name);
            }
        }
    }
    assert!(routes > 100, "only {routes} routes are described");
}

fn filled(template: &str) -> String {
    let mut path = template.replace("{app}", "shop");
    while let (Some(start), Some(end)) = (path.find('{'), path.find('}')) {
        path.replace_range(start..=end, "1");
    }
    match path.starts_with("/api/v1") {
        true => path,
        false => format!("/api/v1{path}"),
    }
}

fn outcome(answer: &Answer) -> &'static str {
    match answer.status {
        401 => "unknown",
        403 => "forbidden",
        404 if answer.body.contains("app `shop` does not exist") => "hidden",
        _ => "allowed",
    }
}

#[test]
fn users_see_what_they_may_and_tokens_do_what_they_are_for() {
    let staithe = Staithe::start_bare();
    for app in ["shop", "blog"] {
        staithe.cli(&["apps:create", app]).succeeds();
    }
    staithe.cli(&["users:add", "alice"]).succeeds();
    staithe.cli(&["access:add", "alice", "operate", "shop"]).succeeds();
    let alice = token(&staithe, "alice", "ci", &["--verb", "apps:*,config:*,tokens:*,events:*"]);
    assert!(alice.starts_with("stt_"), "{alice}");
    let get = |token: &str, path: &str| ask(&staithe, Some(token), "GET", path, "");
    let apps = get(&alice, "/api/v1/apps").body;
    assert!(apps.contains("\"shop\"") && !apps.contains("blog"), "{apps}");
    let events = get(&alice, "/api/v1/events").body;
    assert!(events.contains("app.created") && !events.contains("blog"), "{events}");
    assert!(!events.contains("token.created"), "{events}");

    let set = r#"{"set":[["KEY","hunter2"]],"unset":[],"replace":false,"no_restart":true}"#;
    let changed = ask(&staithe, Some(&alice), "PATCH", "/api/v1/apps/shop/config", set);
    assert_eq!(changed.status, 200, "{changed:?}");
    let event = &staithe.json(&["events", "shop", "--kind", "config."])[0];
    assert_eq!(event["after"], serde_json::json!({ "config": ["KEY"] }));
    assert_eq!(event["actor"]["via"], "token");
    assert_eq!(event["actor"]["from"], "127.0.0.1");
    staithe.cli(&["events", "--format", "csv"]).succeeds().says("id,time,app,kind,");
    let all = staithe.cli(&["events", "--format", "json"]).succeeds().stdout;
    assert!(!all.contains("hunter2") && !all.contains(&alice), "{all}");
    assert!(!staithe.log().contains(&alice), "a token must not be logged");

    // No more than itself, and gone with it.
    let more = r#"{"name":"more"}"#;
    let refused = ask(&staithe, Some(&alice), "POST", "/api/v1/tokens", more);
    assert_eq!(refused.status, 403, "{refused:?}");
    let less = r#"{"name":"less","verbs":["apps:list"],"apps":["shop"]}"#;
    let made = ask(&staithe, Some(&alice), "POST", "/api/v1/tokens", less);
    let made: serde_json::Value = serde_json::from_str(&made.body).unwrap();
    let child = made["token"].as_str().unwrap();
    assert_eq!(get(child, "/api/v1/apps").status, 200);
    staithe.cli(&["tokens:revoke", &alice[4..16]]).succeeds();
    assert_eq!(get(&alice, "/api/v1/apps").status, 401);
    assert_eq!(get(child, "/api/v1/apps").status, 401);

    let again = token(&staithe, "alice", "again", &[]);
    assert_eq!(get(&again, "/api/v1/apps").status, 200);
    staithe.cli(&["users:disable", "alice"]).succeeds();
    assert_eq!(get(&again, "/api/v1/apps").status, 401);
    staithe.cli(&["users:remove", "alice"]).succeeds().says("no admin is left");
    let weak = staithe.cli_with_input(&["users:set-password", "bob"], "a good long password\n");
    weak.fails_with(20).says("there is no user `bob`");
}

#[test]
fn git_pushes_and_clones_over_http_with_a_token() {
    let staithe = Staithe::start();
    let repo = Repo::of_fixture(&staithe, "procfile-script", "shop");
    staithe.cli(&["users:add", "ci", "--role", "deploy"]).succeeds();
    let web = staithe.web();
    let url = |token: &str, app: &str| format!("http://ci:{token}@{web}/git/{app}.git");
    let all = token(&staithe, "ci", "all", &[]);
    repo.git(&["push", &url(&all, "shop"), "main"]).succeeds().says("Releasing v1");
    staithe.get("shop", "/").is(200, "version 1");
    let release = &staithe.json(&["events", "shop", "--kind", "release.deployed"])[0];
    assert_eq!(release["actor"]["name"], "ci");
    assert_eq!(release["actor"]["via"], "token");

    let one = token(&staithe, "ci", "one", &["--app", "shop", "--verb", "git:push"]);
    repo.write("version.txt", "2\n");
    repo.commit("Second");
    repo.git(&["push", &url(&one, "shop"), "main"]).succeeds().says("Releasing v2");
    staithe.get("shop", "/").is(200, "version 2");
    repo.git(&["push", &url(&one, "blog"), "main"]).fails_with(128);
    repo.git(&["ls-remote", &url(&one, "shop")]).fails_with(128);
    repo.git(&["push", &url("stt_0_0", "shop"), "main"]).fails_with(128);

    let clone = Repo::empty(&staithe, "shop");
    clone.git(&["pull", "-q", &url(&all, "shop"), "main"]).succeeds();
    assert_eq!(clone.head(), repo.head());
    // A push that does not deploy is refused as over SSH.
    repo.write("Procfile", "web: exit 9\n");
    repo.commit("Broken");
    repo.git(&["push", &url(&all, "shop"), "main"]).fails_with(1).says("rejected");
    staithe.get("shop", "/").is(200, "version 2");
    assert!(!staithe.log().contains(&all), "a token must not be logged");
}
