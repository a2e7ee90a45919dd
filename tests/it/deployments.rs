//! What is told of a deployment afterwards: its stages, its cause, what a release changed.

use crate::support::{Repo, Staithe};

#[test]
fn a_build_tells_its_stages_and_a_release_what_it_changed() {
    let staithe = Staithe::start();
    let repo = Repo::of_fixture(&staithe, "procfile-script", "shop");
    repo.push().succeeds();
    let build = staithe.json(&["builds:info", "shop", "1"]);
    let stages = build["stages"].as_array().expect("stages");
    let done: Vec<_> = stages.iter().map(|stage| stage["stage"].as_str().unwrap()).collect();
    let expected = ["queue", "source", "prepare", "detect", "build", "image", "start", "switch"];
    assert_eq!(done, expected, "{build}");
    assert!(stages.iter().all(|stage| stage["status"] == "succeeded"), "{build}");
    assert!(!build["subject"].as_str().unwrap().is_empty(), "{build}");

    staithe.cli(&["config:set", "shop", "TOKEN=geheim"]).succeeds();
    let diff = staithe.json(&["releases:diff", "shop", "v2"]);
    assert_eq!(diff["before"], 1, "{diff}");
    assert_eq!(diff["config_added"][0], "TOKEN", "{diff}");
    assert!(diff["image"].is_null(), "{diff}");
    assert!(!diff.to_string().contains("geheim"), "{diff}");

    repo.write("Procfile", "web: exit 7\n");
    repo.commit("Break it");
    repo.push().fails_with(1).says("rejected");
    let build = staithe.json(&["builds:info", "shop", "2"]);
    let last = build["stages"].as_array().unwrap().last().unwrap();
    assert_eq!((&last["stage"], &last["status"]), (&"start".into(), &"failed".into()), "{build}");
    assert_eq!(build["subject"], "Break it");
    assert!(build["failure"].as_str().unwrap().contains("web.1"), "{build}");
    assert!(build["hint"].as_str().unwrap().contains("$PORT"), "{build}");
}
