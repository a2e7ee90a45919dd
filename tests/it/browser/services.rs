//! A database for an app, made, linked, backed up and looked into by somebody without a terminal.

use super::{all_are_sound, signed_in};
use crate::support::{Repo, Staithe};

#[test]
fn a_service_is_created_linked_backed_up_and_shows_its_password_only_when_asked() {
    let staithe = Staithe::start_with_services(&["postgres", "redis"]);
    let Some(browser) = signed_in(&staithe) else { return };
    Repo::of_fixture(&staithe, "procfile-script", "shop").push().succeeds();

    browser
        .goto("/apps/shop/services")
        .shows("No service is linked")
        .click("a[href*='type=postgres']");
    browser.fill("Name", "shop-db").press_button("Create service");
    browser.shows("shop-db serves, and shop finds it in DATABASE_URL.");
    let dsn = staithe.cli(&["config:get", "shop", "DATABASE_URL"]).succeeds().stdout;
    let dsn = dsn.trim();
    assert!(dsn.starts_with("postgres"), "{dsn}");
    let password = dsn.split([':', '@']).nth(2).unwrap();
    assert!(!browser.html().contains(password), "the password is in the page unasked");
    browser.follow("Show credentials").shows(dsn).follow("Hide").shows("Show credentials");

    browser.press_button("Back up now").shows("is verified");
    let backups = staithe.json(&["postgres:backup-list", "shop-db"]);
    assert_eq!(backups[0]["state"], "verified", "{backups}");
    all_are_sound(
        &browser,
        &staithe,
        &["/services", "/services/postgres/shop-db", "/apps/shop/services", "/apps/shop/config"],
    );

    browser.goto("/services/postgres/shop-db").click("form[action$='/unlink'] button");
    // The dialog says what happens; its button is the form's own.
    browser.has("dialog[open]").click("dialog[open] .danger");
    browser.shows("shop does not know shop-db any more.");
    let unset = staithe.cli(&["config:get", "shop", "DATABASE_URL"]);
    assert_eq!(unset.stdout.trim(), "");
}
