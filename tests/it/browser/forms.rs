//! Forms of an app: what a person fills in is what the app then has.

use serde_json::json;

use super::{all_are_sound, sign_in_by_code, sign_in_by_link, signed_in};
use crate::support::{Repo, Staithe};

const PAGES: [&str; 8] = [
    "/apps/shop/access",
    "/apps/shop/config",
    "/apps/shop/scale",
    "/apps/shop/domains",
    "/apps/shop/services",
    "/apps/shop/cron",
    "/apps/shop/volumes",
    "/apps/shop/settings",
];

fn config(staithe: &Staithe, key: &str) -> String {
    staithe.cli(&["config:get", "shop", key]).stdout.trim().to_owned()
}

#[test]
fn config_is_masked_staged_compared_and_applied_at_once() {
    let staithe = Staithe::start();
    let Some(browser) = signed_in(&staithe) else { return };
    Repo::of_fixture(&staithe, "procfile-script", "shop").push().succeeds();
    let secret = "hunter2<script>alert(1)</script>\"'";
    staithe.cli(&["config:set", "shop", &format!("SECRET={secret}"), "OLD=1"]).succeeds();
    let release = |version: u64| staithe.json(&["releases", "shop"])[0]["version"] == version;
    assert!(release(2));

    browser.goto("/apps/shop/config").is_sound();
    assert!(!browser.html().contains("hunter2"), "a value is in the page unasked");
    browser.click("[data-key=SECRET] [data-reveal]").shows(secret);
    browser.click("[data-key=SECRET] button").has("[data-key=SECRET] .mask");

    browser.fill_in("textarea[name='set.SECRET']", "changed");
    browser.click("input[name='unset.OLD']");
    browser.fill_in("input[name='new.key.1']", "NEW").fill_in("[name='new.value.1']", "a b\nc");
    browser.shows("3 changes staged").press_button("Review changes").shows("Review 3 changes");
    browser.is_sound();
    let difference = browser.text(".diff");
    for line in ["NEW", "added", "SECRET", "changed", "OLD", "removed"] {
        assert!(difference.contains(line), "`{line}` is missing in: {difference}");
    }
    assert!(release(2), "nothing is done before it is applied");
    browser.press_button("Apply 3 changes").shows("3 changes applied; v3 serves now.");
    assert_eq!(config(&staithe, "SECRET"), "changed");
    assert_eq!(config(&staithe, "NEW"), "a b\nc");
    assert_eq!(config(&staithe, "OLD"), "");
    assert!(release(3), "three edits are one release");

    // What somebody else changed meanwhile is not overwritten unseen.
    browser.goto("/apps/shop/config").fill_in("textarea[name='set.SECRET']", "mine");
    staithe.cli(&["config:set", "shop", "SECRET=theirs"]).succeeds();
    browser.press_button("Review changes").shows("Somebody else has changed the config meanwhile");
    assert_eq!(config(&staithe, "SECRET"), "theirs");
    // The refusal is an answer of 422 or 409, which the console tells of.
    browser.goto("/apps/shop/config");
    browser.fill_in("input[name='new.key.1']", "NOT OK").press_button("Review changes");
    browser.shows("NOT OK").has("[role=alert]");
}

#[test]
fn sliders_and_quotas_change_what_runs_and_work_without_scripts() {
    let staithe = Staithe::start();
    let Some(browser) = signed_in(&staithe) else { return };
    Repo::of_fixture(&staithe, "procfile-script", "shop").push().succeeds();
    browser.goto("/apps/shop/scale").is_sound();
    browser.evaluate(
        "(() => { const s = document.querySelector('[data-type=web] [data-slider]'); s.value = 2; \
         s.dispatchEvent(new Event('input', { bubbles: true })) })()",
    );
    browser.press_button("Apply scale").shows("Scaled to").shows("2 of 2 ready");
    browser.until("document.querySelector('[data-type=web] [data-memory]').value > 0");
    browser.fill("Memory of web", "200m").fill("CPUs of web", "0.3");
    browser.press_button("Apply quotas").shows("The quotas are changed");
    let report = staithe.cli(&["resource:report", "shop"]).succeeds().stdout;
    assert!(report.contains("200m") && report.contains("0.3"), "{report}");
    browser.fill("Memory of web", "much").press_button("Apply quotas").has("[role=alert]");

    browser.fresh(json!({ "javascript": false }));
    sign_in_by_code(&staithe, &browser);
    browser.goto("/apps/shop/scale").fill("Number of web instances", "1");
    browser.press_button("Apply scale").shows("Scaled to web=1");
    let scale = staithe.json(&["ps:report", "shop"]);
    assert!(scale.to_string().contains("[\"web\",1]"), "{scale}");
}

#[test]
fn domains_volumes_and_settings_are_changed_by_forms() {
    let staithe = Staithe::start();
    let Some(browser) = signed_in(&staithe) else { return };
    Repo::of_fixture(&staithe, "procfile-script", "shop").push().succeeds();
    all_are_sound(&browser, &staithe, &PAGES);
    browser.fresh(json!({}));
    sign_in_by_link(&staithe, &browser);

    browser.goto("/apps/shop/domains").fill("New domain", "localhost.shop.test");
    browser.press_button("Add domain").shows("localhost.shop.test leads to shop");
    browser.fill("New domain", "http://no").press_button("Add domain").has("[role=alert]");

    browser.goto("/apps/shop/volumes").fill_in("form[action$='/create'] [name=name]", "uploads");
    browser.press_button("Create volume").shows("There is a volume uploads now");
    browser.fill("Place inside the app", "/app/uploads").press_button("Mount");
    browser.shows("uploads is mounted at /app/uploads");
    let mounts = staithe.json(&["storage:list", "shop"]);
    assert_eq!(mounts[0]["container_dir"], "/app/uploads", "{mounts}");

    browser.goto("/apps/shop/settings").press_button("Turn maintenance on");
    browser.shows("Visitors see the maintenance page now.");
    assert_eq!(staithe.get("localhost.shop", "/").status, 503);
    browser.press_button("Let visitors in").shows("Visitors see the app again.");
    browser.fill("New name", "store").press_button("Rename").shows("shop is called store now");
    let confirm = "form[action$='/destroy'] [name=confirm]";
    browser.fill_in(confirm, "wrong").press_button("Destroy store").has("[role=alert]");
    assert_eq!(staithe.json(&["apps:list"]).as_array().unwrap().len(), 1);
    browser.fill_in(confirm, "store").press_button("Destroy store").shows("store is gone");
    assert_eq!(staithe.json(&["apps:list"]).as_array().unwrap().len(), 0);
}
