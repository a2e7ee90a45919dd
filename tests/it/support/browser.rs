//! A real browser: Debian's Chromium, driven by Playwright in a virtual environment below `target/`.
//!
//! The driver is a process that answers one line of JSON with another (`tests/it/browser/driver.py`).
//! What it cannot do in time fails the test with what the page shows and a picture of it.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use super::skip;

/// The browser; ends when dropped.
pub(crate) struct Browser {
    child: Child,
    pipes: Mutex<Pipes>,
    /// Where pages without a host are.
    base: String,
}

struct Pipes {
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Browser {
    /// Starts it for the pages at `base`; none, and a skip, where it is not installed.
    pub(crate) fn start(base: &str) -> Option<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let python = root.join("target/browser/bin/python");
        let Some(axe) = axe(&root.join("target/browser/lib")) else {
            skip("the browser is not installed: see need_browser in script/lib/packages");
            return None;
        };
        let screenshots = root.join("target/tmp/browser");
        std::fs::create_dir_all(&screenshots).unwrap();
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let mut child = Command::new(python)
            .arg("-B")
            .arg(root.join("tests/it/browser/driver.py"))
            .arg(axe)
            .arg(screenshots.join(name))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let pipes = Pipes {
            requests: child.stdin.take(),
            answers: BufReader::new(child.stdout.take().unwrap()),
        };
        let browser = Self { child, pipes: Mutex::new(pipes), base: base.to_owned() };
        browser.pipes.lock().unwrap().answer();
        Some(browser)
    }

    /// Asks the driver; fails the test with the page's text and a picture if it cannot.
    #[track_caller]
    fn ask(&self, what: &str, mut arguments: Value) -> Value {
        arguments["do"] = what.into();
        let mut pipes = self.pipes.lock().unwrap();
        let requests = pipes.requests.as_mut().unwrap();
        writeln!(requests, "{arguments}").and_then(|()| requests.flush()).unwrap();
        let answer = pipes.answer();
        drop(pipes);
        let Some(error) = answer["error"].as_str() else { return answer["ok"].clone() };
        let said = |key: &str| answer[key].as_str().unwrap_or_default().to_owned();
        panic!("{error}\n---- {} ({}) ----\n{}", said("url"), said("screenshot"), said("text"));
    }

    /// A profile of its own: signed in nowhere.
    pub(crate) fn fresh(&self, options: Value) {
        self.ask("open", options);
    }

    /// Opens a page that must answer 200.
    #[track_caller]
    pub(crate) fn goto(&self, path: &str) -> &Self {
        let status = self.status_of(path);
        assert_eq!(status, 200, "{path}: {}", self.text("body"));
        self
    }

    /// Opens a page; its status.
    #[track_caller]
    pub(crate) fn status_of(&self, path: &str) -> u64 {
        let url = self.absolute(path);
        self.ask("goto", json!({ "url": url })).as_u64().unwrap_or_default()
    }

    fn absolute(&self, path: &str) -> String {
        if path.contains("://") { path.to_owned() } else { format!("{}{path}", self.base) }
    }

    /// Where it is.
    pub(crate) fn url(&self) -> String {
        self.ask("url", json!({})).as_str().unwrap().to_owned()
    }

    /// What a person reads in the element.
    #[track_caller]
    pub(crate) fn text(&self, selector: &str) -> String {
        self.ask("text", json!({ "selector": selector })).as_str().unwrap().to_owned()
    }

    /// The page's source as it is now.
    pub(crate) fn html(&self) -> String {
        self.ask("html", json!({})).as_str().unwrap().to_owned()
    }

    /// How many elements there are.
    #[track_caller]
    pub(crate) fn count(&self, selector: &str) -> u64 {
        self.ask("count", json!({ "selector": selector })).as_u64().unwrap()
    }

    /// Presses the button with that name.
    #[track_caller]
    pub(crate) fn press_button(&self, name: &str) -> &Self {
        self.ask("press_button", json!({ "name": name }));
        self
    }

    /// Follows the link with that name.
    #[track_caller]
    pub(crate) fn follow(&self, name: &str) -> &Self {
        self.ask("follow", json!({ "name": name }));
        self
    }

    /// Clicks the first element.
    #[track_caller]
    pub(crate) fn click(&self, selector: &str) -> &Self {
        self.ask("click", json!({ "selector": selector }));
        self
    }

    /// Fills the field with that label.
    #[track_caller]
    pub(crate) fn fill(&self, label: &str, value: &str) -> &Self {
        self.ask("fill", json!({ "label": label, "value": value }));
        self
    }

    /// Fills the field.
    #[track_caller]
    pub(crate) fn fill_in(&self, selector: &str, value: &str) -> &Self {
        self.ask("fill_in", json!({ "selector": selector, "value": value }));
        self
    }

    /// Chooses of a list.
    #[track_caller]
    pub(crate) fn select(&self, selector: &str, value: &str) -> &Self {
        self.ask("select", json!({ "selector": selector, "value": value }));
        self
    }

    /// Presses keys, such as `Control+k`.
    #[track_caller]
    pub(crate) fn press(&self, keys: &str) -> &Self {
        self.ask("press", json!({ "keys": keys }));
        self
    }

    /// Types where the focus is.
    #[track_caller]
    pub(crate) fn types(&self, text: &str) -> &Self {
        self.ask("type", json!({ "text": text }));
        self
    }

    /// Waits until the page shows the text.
    #[track_caller]
    pub(crate) fn shows(&self, text: &str) -> &Self {
        self.ask("wait_text", json!({ "text": text }));
        self
    }

    /// Waits until an element that matches is visible.
    #[track_caller]
    pub(crate) fn has(&self, selector: &str) -> &Self {
        self.ask("wait_selector", json!({ "selector": selector }));
        self
    }

    /// Waits until the script is true.
    #[track_caller]
    pub(crate) fn until(&self, script: &str) -> &Self {
        self.ask("wait_true", json!({ "script": script }));
        self
    }

    /// What a script says.
    #[track_caller]
    pub(crate) fn evaluate(&self, script: &str) -> Value {
        self.ask("evaluate", json!({ "script": script }))
    }

    /// Nothing serious by axe-core, nothing wider than the window, no error in the console.
    #[track_caller]
    pub(crate) fn is_sound(&self) -> &Self {
        let here = self.url();
        let found = self.ask("axe", json!({}));
        assert_eq!(found, json!([]), "axe-core on {here}:\n{found:#}");
        let wide = self.ask("wide", json!({}));
        assert_eq!(wide, json!(0), "{here} is wider than the window");
        self.has_no_trouble()
    }

    /// No error in the console, no answer of 5xx, no script of a stranger.
    #[track_caller]
    pub(crate) fn has_no_trouble(&self) -> &Self {
        let trouble = self.ask("trouble", json!({}));
        assert_eq!(trouble, json!([]), "on {}", self.url());
        self
    }
}

impl Pipes {
    fn answer(&mut self) -> Value {
        let mut line = String::new();
        let read = self.answers.read_line(&mut line).unwrap();
        assert!(read > 0, "the browser's driver has ended; its error is above");
        serde_json::from_str(&line).unwrap()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver ends with its input, and closes the browser before; it has no other way to.
        if let Ok(pipes) = self.pipes.get_mut() {
            pipes.requests = None;
        }
        let _ = self.child.wait();
    }
}

/// axe-core, as a package of the driver's language brings it.
fn axe(libraries: &Path) -> Option<PathBuf> {
    let versions = std::fs::read_dir(libraries).ok()?.flatten();
    let file = "site-packages/axe_playwright_python/axe.min.js";
    versions.map(|version| version.path().join(file)).find(|path| path.exists())
}
