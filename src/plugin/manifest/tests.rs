//! Manifests, good and hostile.

use super::*;

const FULL: &str = r#"
name = "example"
version = "1.0.0"
protocol = 1
description = "An example"

[runtime]
packages = ["python3"]

[[commands]]
name = "set"
usage = "<app> <url>"
description = "where deploys of an app are told"
run = "bin/command"

[hooks]
"post-deploy" = { run = "bin/notify", timeout_s = 20, order = 10 }
"pre-deploy" = { run = "bin/judge", on_failure = "refuse" }

[[settings]]
key = "signing-key"
scope = "both"
secret = true
description = "what notices are signed with"

[permissions]
network = true

[service]
title = "Example"
packages = ["postgresql-17"]
port = 5432
more = [5433]
variable = "DATABASE"
url = "postgres://postgres:{password}@{host}:{port}/{database}"
memory_mb = 512
stop_signal = "INT"
stop_grace_s = 60
backup_extension = "dump"
"#;

fn minimal(more: &str) -> String {
    format!("name = \"x\"\nversion = \"1\"\nprotocol = 1\ndescription = \"x\"\n{more}")
}

#[test]
fn a_full_manifest_is_read() {
    let manifest = Manifest::parse(FULL).unwrap();
    let notify = &manifest.hooks[&Hook::PostDeploy];
    assert_eq!((notify.timeout.as_secs(), notify.order), (20, 10));
    assert_eq!(manifest.hooks[&Hook::PreDeploy].on_failure, OnFailure::Refuse);
    assert_eq!(manifest.hooks[&Hook::PreDeploy].timeout.as_secs(), 10);
    assert_eq!(manifest.settings[0].variable(), "STAITHE_SET_SIGNING_KEY");
    let service = manifest.service.as_ref().unwrap();
    assert_eq!(service.stop_signal_number(), 2);
    assert_eq!(
        service.url("{host}s3cret", "10.0.0.1", 5432, "shop"),
        "postgres://postgres:{host}s3cret@10.0.0.1:5432/shop"
    );
    assert_eq!(
        manifest.programs(),
        [
            "bin/check",
            "bin/command",
            "bin/export",
            "bin/import",
            "bin/judge",
            "bin/notify",
            "bin/ready",
            "bin/start"
        ]
    );
}

#[test]
fn a_manifest_needs_four_lines() {
    let manifest = Manifest::parse(&minimal("")).unwrap();
    assert_eq!(manifest.permissions, Permissions::default());
    assert!(manifest.hooks.is_empty() && manifest.service.is_none());
}

#[test]
fn another_protocol_is_refused_with_a_sentence_whatever_else_it_says() {
    let text = "protocol = 2\nfuture = true\n";
    assert_eq!(
        Manifest::parse(text).unwrap_err().to_string(),
        "plugin.toml: it speaks protocol 2, and this Staithe 1; another version of one of them is \
         needed"
    );
    assert!(Manifest::parse("name = 'x'").unwrap_err().to_string().contains("is missing"));
}

#[test]
fn rules_are_kept() {
    let long = "d".repeat(500);
    for (bad, why) in [
        ("surprise = 1".to_owned(), "unknown field"),
        ("[hooks]\n\"post-x\" = { run = \"a\" }".into(), "is no hook"),
        ("[hooks]\n\"post-deploy\" = { run = \"../a\" }".into(), "the path of a program"),
        ("[hooks]\n\"post-deploy\" = { run = \"/bin/sh\" }".into(), "the path of a program"),
        ("[hooks]\n\"post-deploy\" = { run = \"a\", timeout_s = 0 }".into(), "from 1 to 120"),
        ("[hooks]\n\"post-deploy\" = { run = \"a\", timeout_s = 121 }".into(), "from 1 to 120"),
        ("[hooks]\n\"post-deploy\" = { run = \"a\", on_failure = \"allow\" }".into(), "cannot"),
        (
            "[hooks]\n\"post-deploy\" = { run = \"a\", needs = [\"url\"] }".into(),
            "there is no setting `url`",
        ),
        ("[[commands]]\nname = \"a\"\ndescription = \"x\"".into(), "one of `run` and `sets`"),
        ("[runtime]\npackages = [\"-o=x\"]".into(), "is no package name"),
        ("[permissions]\nroot = true".into(), "unknown field"),
        ("[[commands]]\nname = \"a b\"\ndescription = \"x\"\nrun = \"a\"".into(), "command `a b`"),
        (format!("[[commands]]\nname = \"a\"\ndescription = \"{long}\"\nrun = \"a\""), "one line"),
        (
            "[[settings]]\nkey = \"a\"\nscope = \"service\"\ndescription = \"x\"".into(),
            "there are none",
        ),
        (
            "[[settings]]\nkey = \"a\"\nscope = \"app\"\ndescription = \"x\"\n\
             [[settings]]\nkey = \"a\"\nscope = \"app\"\ndescription = \"x\""
                .into(),
            "twice",
        ),
    ] {
        let error = Manifest::parse(&minimal(&bad)).unwrap_err().to_string();
        assert!(error.contains(why), "{bad}: {error}");
    }
}

#[test]
fn a_services_rules_are_kept() {
    for (from, to, why) in [
        ("port = 5432", "port = 0", "nonzero"),
        ("{database}", "{shell}", "may hold"),
        ("stop_signal = \"INT\"", "stop_signal = \"KILL\"", "stop_signal"),
        ("variable = \"DATABASE\"", "variable = \"DATA BASE\"", "config var name"),
        ("packages = [\"postgresql-17\"]", "packages = []", "names no package"),
        ("memory_mb = 512", "memory_mb = 1", "memory_mb"),
        ("\"dump\"", "\"../x\"", "backup_extension"),
    ] {
        let error = Manifest::parse(&FULL.replace(from, to)).unwrap_err().to_string();
        assert!(error.contains(why), "{to}: {error}");
    }
}

#[test]
fn a_flood_is_refused_before_it_is_parsed() {
    let error = Manifest::parse(&"#".repeat(MAX_BYTES + 1)).unwrap_err().to_string();
    assert_eq!(error, "plugin.toml: it is larger than 64 KiB");
}
