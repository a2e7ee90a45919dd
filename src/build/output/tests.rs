//! Tests of what a push prints.

use std::sync::{Arc, Mutex};

use super::*;
use crate::build::Config;

fn recorded(config: &Config, talk: impl FnOnce(&Output)) -> Vec<String> {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&lines);
    let output = Output::new(config, move |line| sink.lock().unwrap().push(line.to_owned()));
    talk(&output);
    lines.lock().unwrap().clone()
}

#[test]
fn lines_speak_herokus_grammar() {
    let lines = recorded(&Config::default(), |output| {
        output.step("Node.js app detected");
        output.detail("one\ntwo");
        output.notice("engines.node is missing");
        output.section("Deployed");
        output.program(Stream::Stdout, "added 3 packages");
        output.program(Stream::Stderr, "-----> Installing");
        output.program(Stream::Stdout, "       indented");
        output.program(Stream::Stdout, "");
    });
    assert_eq!(
        lines,
        [
            "-----> Node.js app detected",
            "       one",
            "       two",
            " !     engines.node is missing",
            "=====> Deployed",
            "       added 3 packages",
            "-----> Installing",
            "       indented",
            "",
        ]
    );
}

#[test]
fn colors_stay_and_are_closed_and_all_other_escapes_go() {
    let check =
        |line: &str, expected: &str| assert_eq!(neutralized(line, 80), expected, "{line:?}");
    check("\x1b[31mred", "\x1b[31mred\x1b[0m");
    check("\x1b[1;32mok\x1b[0m done", "\x1b[1;32mok\x1b[0m done");
    check("\x1b[2J\x1b[1;1Hgone", "gone");
    check("\x1b]0;title\x07text", "text");
    check("\x1b]8;;http://x\x1b\\link", "link");
    check("\x1b(Bplain\x1bc", "plain");
    check("\x1b[?25lhidden", "hidden");
    check("a\x08\x00b\u{9b}31mc", "ab31mc");
    check("a\u{202e}b", "ab");
    check("tab\tstays", "tab\tstays");
    check("\x1b", "");
    check("\x1b[", "");
    check("\x1b[31", "");
}

#[test]
fn a_progress_bar_shows_its_last_state() {
    assert_eq!(neutralized("10%\r50%\r100%\r", 80), "100%");
    assert_eq!(neutralized("windows line\r", 80), "windows line");
}

#[test]
fn lines_and_logs_are_bounded_and_the_user_is_told() {
    assert_eq!(neutralized(&"x".repeat(50), 10), format!("{}…", "x".repeat(10)));
    let config = Config { max_log_bytes: 30, ..Config::default() };
    let lines = recorded(&config, |output| {
        for _ in 0..5 {
            output.program(Stream::Stdout, "0123456789");
        }
        output.step("Still heard");
        output.finish();
    });
    assert_eq!(
        lines,
        [
            "       0123456789",
            " !     the log is full: further output of this build is left out",
            "-----> Still heard",
            " !     4 more lines of output were left out: too much of it",
        ]
    );
}

proptest::proptest! {
    #[test]
    fn no_control_character_but_color_survives(line in "\\PC*|[\\x00-\\x9f]{0,40}") {
        let clean = neutralized(&line, 200).replace("\x1b[", "");
        proptest::prop_assert!(!clean.chars().any(|c| c.is_control() && c != '\t'), "{:?}", clean);
    }
}
