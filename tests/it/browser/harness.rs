//! What the other tests rely on: that the driver sees what is wrong with a page.

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::json;

use crate::support::browser::Browser;

/// Pages on disk, one in order and one that is not.
fn browser() -> Option<Browser> {
    Browser::start(concat!("file://", env!("CARGO_MANIFEST_DIR"), "/tests/it/browser/pages"))
}

fn failure(work: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(work)).expect_err("nothing is found wrong");
    *panic.downcast::<String>().unwrap()
}

#[test]
fn the_browser_reads_fills_and_finds_fault() {
    let Some(browser) = browser() else { return };
    browser.goto("/good.html").is_sound();
    browser.fill("Name", "world").select("#size", "large").press_button("Greet");
    browser.shows("Hello large world").has("#answer").until("document.title === 'Good'");
    browser.fill_in("#name", "").click("#name").types("mars").press("Tab");
    assert_eq!(browser.evaluate("document.getElementById('name').value"), json!("mars"));
    assert_eq!(browser.count("label"), 2);

    browser.follow("Onwards");
    assert!(browser.url().ends_with("/bad.html"), "{}", browser.url());
    assert!(browser.html().contains("A bad page"));
    let found = failure(|| {
        let _ = browser.is_sound();
    });
    assert!(found.contains("image-alt") && found.contains("html-has-lang"), "{found}");
    let found = failure(|| {
        let _ = browser.has_no_trouble();
    });
    assert!(found.contains("out of order") && found.contains("a stranger's script"), "{found}");
    let found = failure(|| {
        let _ = browser.goto("/missing.html");
    });
    assert!(found.contains("ERR_FILE_NOT_FOUND") && found.contains(".png"), "{found}");

    browser.fresh(json!({ "width": 390, "height": 800, "theme": "dark" }));
    browser.goto("/good.html");
    assert_eq!(browser.evaluate("innerWidth"), json!(390));
    assert_eq!(browser.evaluate("matchMedia('(prefers-color-scheme: dark)').matches"), json!(true));
}
