//! Who gets in, and who does not.

use serde_json::json;

use super::{all_are_sound, link, sign_in_by_link};
use crate::support::Staithe;
use crate::support::browser::Browser;

#[test]
fn a_link_signs_in_once_and_a_session_ends_when_it_is_told_to() {
    let staithe = Staithe::start();
    let Some(browser) = Browser::start(&format!("http://{}", staithe.web())) else { return };
    // A stranger is led to the sign-in page, and back to where they wanted to go.
    browser.goto("/services").shows("Sign in").is_sound();
    let link = link(&staithe);
    // The code stands behind a `#`: whatever fetches the link, as previews in chats do, never sends it.
    assert!(link.contains("#stl_"), "{link}");
    browser.goto(&link).press_button("Sign in").has(".rail").is_sound();

    browser.fresh(json!({}));
    let status = browser.status_of(&link);
    if status == 200 {
        browser.press_button("Sign in");
    }
    browser.shows("Sign in");
    assert_eq!(browser.count(".rail"), 0, "the link works twice: {}", browser.text("body"));

    browser.fresh(json!({}));
    sign_in_by_link(&staithe, &browser);
    browser.click("form[action='/sign-out'] button").shows("Sign in");
    browser.goto("/").shows("Sign in");
    assert_eq!(browser.count(".rail"), 0);
}

#[test]
fn pages_of_the_platform_are_sound_without_any_app() {
    let staithe = Staithe::start();
    let Some(browser) = Browser::start(&format!("http://{}", staithe.web())) else { return };
    all_are_sound(&browser, &staithe, &["/", "/services", "/sessions"]);
}
