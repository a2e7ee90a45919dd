//! Who reaches a service, and what apps are told of it.

use crate::support::staithe::Finished;
use crate::support::{Repo, Staithe};

/// What an app prints that asks the Redis at `$REDIS_URL` (or another var) for an answer.
fn ask(staithe: &Staithe, app: &str, variable: &str) -> Finished {
    let script = format!(
        r#"url=${variable}; [ -n "$url" ] || {{ echo no address; exit 3; }}
        rest=${{url#redis://:}}; password=${{rest%@*}}; place=${{rest#*@}}
        exec 3<>/dev/tcp/${{place%:*}}/${{place#*:}} || exit 4
        printf 'AUTH %s\r\nPING\r\n' "$password" >&3
        read -r -t 10 first <&3; read -r -t 10 second <&3; echo "$first $second""#
    );
    staithe.cli(&["run", "--no-tty", app, "bash", "-c", &script])
}

fn reaches(staithe: &Staithe, app: &str, host: &str, port: u16) -> bool {
    let script = format!("exec 3<>/dev/tcp/{host}/{port}");
    staithe.cli(&["run", "--no-tty", app, "timeout", "5", "bash", "-c", &script]).code == Some(0)
}

fn var(staithe: &Staithe, app: &str, name: &str) -> Option<String> {
    let vars = staithe.json(&["config:export", app]);
    vars[name].as_str().map(str::to_owned)
}

#[test]
fn an_app_reaches_exactly_the_services_that_it_is_linked_to() {
    let staithe = Staithe::start_with_services(&["redis"]);
    for app in ["shop", "stranger"] {
        Repo::of_fixture(&staithe, "procfile-script", app).push().succeeds();
    }
    staithe.cli(&["redis:create", "cart"]).succeeds().says("cart");
    let address = staithe.json(&["redis:info", "cart"])["internal_ip"].as_str().unwrap().to_owned();
    assert!(!reaches(&staithe, "shop", &address, 6379), "reachable before it is linked");

    staithe.cli(&["redis:link", "cart", "shop"]).succeeds().says("REDIS_URL");
    ask(&staithe, "shop", "REDIS_URL").succeeds().says("+OK\r +PONG");
    assert!(!reaches(&staithe, "stranger", &address, 6379), "reachable for a stranger");
    // The way is open for what runs already, too, and only to the service's side.
    let open = format!("exec 3<>/dev/tcp/{address}/6379");
    staithe.cli(&["enter", "--no-tty", "shop", "web", "bash", "-c", &open]).succeeds();
    staithe
        .cli(&[
            "redis:enter",
            "cart",
            "bash",
            "-c",
            "timeout 3 bash -c 'exec 3<>/dev/tcp/1.1.1.1/53'",
        ])
        .fails_with(1);

    // A second one has a colored name, a third the name it is given.
    staithe.cli(&["redis:create", "other"]).succeeds();
    staithe.cli(&["redis:create", "third"]).succeeds();
    staithe.cli(&["redis:link", "other", "shop"]).succeeds().says("DOKKU_REDIS_AQUA_URL");
    staithe.cli(&["redis:link", "third", "shop", "--alias", "QUEUE"]).succeeds().says("QUEUE_URL");
    staithe.cli(&["redis:link", "third", "shop"]).fails_with(4).says("already linked");
    for variable in ["REDIS_URL", "DOKKU_REDIS_AQUA_URL", "QUEUE_URL"] {
        ask(&staithe, "shop", variable).succeeds().says("+PONG");
    }
    let links = staithe.cli(&["redis:app-links", "shop"]).succeeds().stdout;
    assert_eq!(links.lines().collect::<Vec<_>>(), ["cart", "other", "third"]);

    // Promotion swaps; nothing is lost.
    let (cart, other) = (var(&staithe, "shop", "REDIS_URL"), {
        let url = staithe.json(&["redis:info", "other"])["dsn"].as_str().unwrap().to_owned();
        Some(url)
    });
    staithe.cli(&["redis:promote", "other", "shop"]).succeeds();
    assert_eq!(var(&staithe, "shop", "REDIS_URL"), other);
    assert_eq!(var(&staithe, "shop", "DOKKU_REDIS_BLACK_URL"), cart);
    staithe.cli(&["redis:promote", "other", "shop"]).fails_with(4).says("already promoted");

    staithe
        .cli(&["redis:destroy", "cart", "--force"])
        .fails_with(4)
        .says("is linked to app `shop`");
    staithe.cli(&["redis:unlink", "cart", "shop"]).succeeds();
    assert_eq!(var(&staithe, "shop", "DOKKU_REDIS_BLACK_URL"), None);
    assert!(!reaches(&staithe, "shop", &address, 6379), "reachable after it was unlinked");
    staithe.cli(&["redis:linked", "cart", "shop"]).fails_with(1);
    staithe.cli(&["redis:destroy", "cart", "--force"]).succeeds();
    staithe.cli(&["redis:exists", "cart"]).fails_with(20).says("redis service cart does not exist");

    // An app takes its links along.
    staithe.cli(&["apps:destroy", "shop", "--force"]).succeeds();
    staithe.cli(&["redis:destroy", "other", "--force"]).succeeds();
    assert_eq!(staithe.cli(&["redis:list"]).succeeds().stdout.trim(), "third");
}

#[test]
fn a_service_may_have_several_apps_and_a_link_may_wait_for_the_next_release() {
    let staithe = Staithe::start_with_services(&["redis"]);
    staithe.cli(&["redis:create", "cart"]).succeeds();
    for app in ["one", "two"] {
        staithe.cli(&["apps:create", app]).succeeds();
        // Before the first push there is nothing to restart.
        staithe.cli(&["redis:link", "cart", app]).succeeds();
        Repo::of_fixture(&staithe, "procfile-script", app).push().succeeds();
        ask(&staithe, app, "REDIS_URL").succeeds().says("+PONG");
    }
    let releases = |app: &str| staithe.json(&["releases", app]).as_array().unwrap().len();
    let before = releases("two");
    staithe.cli(&["redis:unlink", "cart", "two", "--no-restart"]).succeeds();
    assert_eq!(releases("two"), before);
    assert_eq!(var(&staithe, "two", "REDIS_URL"), None);
    let links = staithe.cli(&["redis:links", "cart"]).succeeds().stdout;
    assert_eq!(links.trim(), "one");
    ask(&staithe, "one", "REDIS_URL").succeeds().says("+PONG");
    staithe.cli(&["redis:link", "cart", "nobody"]).fails_with(20);
    staithe.cli(&["redis:create", "cart"]).fails_with(4).says("already exists");
    staithe.cli(&["nosuch:create", "x"]).fails_with(2).says("is not a staithe command");
}
