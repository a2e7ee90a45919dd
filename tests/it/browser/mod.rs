//! The dashboard as people use it: a real browser against the real daemon.

mod forms;
mod harness;
mod services;
mod sign_in;

use serde_json::json;

use crate::support::Staithe;
use crate::support::browser::Browser;

/// A browser in front of `staithe`, signed in as an admin by a link; none where there is no browser.
fn signed_in(staithe: &Staithe) -> Option<Browser> {
    let browser = Browser::start(&format!("http://{}", staithe.web()))?;
    sign_in_by_link(staithe, &browser);
    Some(browser)
}

fn sign_in_by_link(staithe: &Staithe, browser: &Browser) {
    browser.goto(&link(staithe)).press_button("Sign in").has(".rail");
}

/// As [`sign_in_by_link`], by hand: without scripts nothing fills the code in.
fn sign_in_by_code(staithe: &Staithe, browser: &Browser) {
    let link = link(staithe);
    let (path, code) = link.split_once('#').unwrap();
    browser.goto(path).fill_in("[name=secret]", code).press_button("Sign in").has(".rail");
}

/// The path of a link that signs in once.
fn link(staithe: &Staithe) -> String {
    let said = staithe.cli(&["dashboard:login"]).succeeds().stdout;
    let url = said.split_whitespace().next().unwrap();
    let path = url.splitn(4, '/').nth(3).unwrap_or_else(|| panic!("no link in: {said}"));
    format!("/{path}")
}

/// Each of the pages in both themes and on both sizes: nothing serious by axe, nothing too wide.
fn all_are_sound(browser: &Browser, staithe: &Staithe, pages: &[&str]) {
    for (width, theme) in [(1280, "light"), (390, "dark")] {
        browser.fresh(json!({ "width": width, "height": 844, "theme": theme }));
        sign_in_by_link(staithe, browser);
        for page in pages {
            browser.goto(page).is_sound();
        }
    }
}
