//! Plugins as their authors and operators meet them: the worked example of the page, hostile ones,
//! routes that ask for passwords, and installation.

mod bundled;

use std::path::Path;
use std::time::Duration;

use crate::support::http::{Answer, exchange};
use crate::support::staithe::Finished;
use crate::support::{Repo, Staithe, eventually};

/// For what happens in the background on a busy machine.
const SOON: Duration = Duration::from_secs(30);

/// A plugin's folder.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new(manifest: &str, programs: &[(&str, &str)]) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.write("plugin.toml", manifest, 0o644);
        for (name, text) in programs {
            folder.write(name, text, 0o755);
        }
        folder
    }

    fn write(&self, name: &str, text: &str, mode: u32) {
        let path = self.0.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        staithe::support::atomic_file::write(&path, text.as_bytes(), mode).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(&path, mode).unwrap();
    }

    fn path(&self) -> &str {
        self.0.path().to_str().unwrap()
    }
}

/// A manifest of one hook that runs `run`.
fn manifest(name: &str, hook: &str, more: &str) -> String {
    format!(
        "name = \"{name}\"\nversion = \"1\"\nprotocol = 1\ndescription = \"{name}\"\n\
         [hooks]\n\"{hook}\" = {{ run = \"run\"{more} }}\n"
    )
}

/// The files of the worked example, exactly as docs/PLUGINS.md shows them.
fn example() -> Folder {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/PLUGINS.md");
    let page = std::fs::read_to_string(page).unwrap();
    let block = |heading: &str| {
        let (_, rest) = page.split_once(heading).unwrap_or_else(|| panic!("no {heading}"));
        let (_, rest) = rest.split_once("```").unwrap();
        let (_, rest) = rest.split_once('\n').unwrap();
        rest.split_once("```").unwrap().0.to_owned()
    };
    let names = ["bin/judge", "bin/diary", "bin/show"];
    let programs = names.map(|name| (name, block(&format!("\n`{name}`"))));
    let programs: Vec<_> = programs.iter().map(|(name, text)| (*name, text.as_str())).collect();
    Folder::new(&block("\n`plugin.toml`:"), &programs)
}

fn today() -> String {
    let mut command = std::process::Command::new("date");
    command.args(["-u", "+%A"]).env("LC_ALL", "C");
    Finished::of(command, "").succeeds().stdout.trim().to_owned()
}

#[test]
fn the_worked_example_of_the_page_works() {
    let staithe = Staithe::start();
    staithe.cli(&["plugin:install", example().path()]).succeeds().says("friday:show [<app>]");
    staithe.cli(&["apps:create", "shop"]).succeeds();
    staithe.cli(&["plugin:set", "friday", "shop", "day", "Someday"]).succeeds();
    Repo::of_fixture(&staithe, "procfile-script", "shop").push().succeeds();
    eventually(SOON, "the deploy is in the diary", || {
        let shown = staithe.cli(&["friday:show", "shop"]);
        let good = shown.stdout.contains(" shop v1 by alice");
        good.then_some(()).ok_or_else(|| format!("{shown:?}"))
    });

    staithe.cli(&["plugin:set", "friday", "shop", "day", &today()]).succeeds();
    let why = format!("plugin `friday` refuses: it is {}; try again tomorrow", today());
    staithe.cli(&["ps:restart", "shop"]).fails_with(4).says(&why);
    staithe.get("shop", "/").is(200, "");
    let judged = staithe.json(&["plugin:trigger", "pre-deploy", "shop", "--plugin", "friday"]);
    assert_eq!(judged[0]["outcome"], "veto", "{judged}");

    staithe.cli(&["plugin:disable", "friday"]).succeeds();
    staithe.cli(&["friday:show", "shop"]).fails_with(4).says("staithe plugin:enable friday");
    staithe.cli(&["ps:restart", "shop"]).succeeds();
    staithe.cli(&["plugin:uninstall", "friday"]).succeeds();
    staithe.cli(&["friday:show"]).fails_with(2).says("`friday:show` is not a staithe command");
}

/// What hostile programs do, and what is said of it. None of them may veto by crashing, and what
/// they try must not work.
const HOSTILE: &[(&str, &str, &str, &str)] = &[
    ("hangs", "exec sleep 1000", "failed", "took longer than 2 s and was stopped"),
    ("floods", "exec yes", "failed", "printed more than 1 MiB and was stopped"),
    ("shouts", "head -c 50000000 /dev/zero >&2", "silent", ""),
    ("babbles", "echo hello", "failed", "its answer is not what the protocol asks for"),
    ("dies", "kill -9 $$", "failed", "exit code 137"),
    ("bloats", "head -c 600m /dev/zero | tail > /dev/null; exec sleep 9", "failed", ""),
    ("breeds", "(while :; do sleep 1000 & done) 2> /dev/null; exit 0", "silent", ""),
    ("stays", "setsid sleep 1000 > /dev/null 2>&1 & exit 0", "silent", ""),
    (
        "writes",
        "for at in / /etc /usr/bin /plugin /proc/sys/kernel /sys; do
             (echo evil > $at/evil) 2> /dev/null && echo \"wrote to $at\" >&2 && exit 1
         done; exit 0",
        "silent",
        "",
    ),
    (
        "looks",
        "[ \"$(ls /sys/class/net)\" = lo ] || { echo 'a network' >&2; exit 1; }
         [ \"$(ls -d /proc/[0-9]* | wc -l)\" -lt 9 ] || { echo 'processes' >&2; exit 1; }
         [ \"$(ls -A /data)\" = '' ] || { echo 'data of others' >&2; exit 1; }
         [ \"$(id -u)\" = 1000 ] && ! grep -q 'CapEff:.*[1-9a-f]' /proc/self/status || exit 1",
        "silent",
        "",
    ),
    ("keeps", "echo mine > /data/mine", "silent", ""),
];

#[test]
fn hostile_plugins_are_contained() {
    let staithe = Staithe::start();
    for (name, program, ..) in HOSTILE {
        let manifest = manifest(name, "pre-deploy", ", timeout_s = 2");
        let folder = Folder::new(&manifest, &[("run", &format!("#!/bin/sh\n{program}\n"))]);
        staithe.cli(&["plugin:install", folder.path()]).succeeds();
    }
    let reports = staithe.json(&["plugin:trigger", "pre-deploy", "shop"]);
    let reports = reports.as_array().unwrap();
    assert_eq!(reports.len(), HOSTILE.len());
    for (name, _, outcome, detail) in HOSTILE {
        let report = reports.iter().find(|report| report["plugin"] == *name).unwrap();
        assert_eq!(report["outcome"], *outcome, "{report}");
        assert!(report["detail"].as_str().unwrap().contains(detail), "{report}");
    }
    eventually(SOON, "nothing of them is left", || {
        let left = staithe.containers();
        (left == 0).then_some(()).ok_or_else(|| format!("{left} containers"))
    });
    let record = staithe.json(&["plugin:report", "hangs"]);
    assert_eq!(record["plugin"]["record"]["failures"], 1, "{record}");

    // All of them together refuse nothing; what went wrong is said.
    let push = Repo::of_fixture(&staithe, "procfile-script", "shop").push().succeeds();
    push.says("plugin `hangs` was not heard: took longer than 2 s");
    staithe.get("shop", "/").is(200, "");
}

#[test]
fn a_plugin_that_must_be_heard_refuses_by_its_silence() {
    let staithe = Staithe::start();
    let manifest = manifest("strict", "pre-create", ", timeout_s = 1, on_failure = \"refuse\"");
    let folder = Folder::new(&manifest, &[("run", "#!/bin/sh\nexec sleep 1000\n")]);
    staithe.cli(&["plugin:install", folder.path()]).succeeds();
    let why = "plugin `strict` refuses: took longer than 1 s";
    staithe.cli(&["apps:create", "shop"]).fails_with(4).says(why);
    staithe.cli(&["plugin:disable", "strict"]).succeeds();
    staithe.cli(&["apps:create", "shop"]).succeeds();
}

#[test]
fn config_of_a_plugin_reaches_the_release_and_not_the_app() {
    let staithe = Staithe::start();
    let answer = "#!/bin/sh\necho '{\"change\": {\"config\": {\"ADDED\": \"by a plugin\"}}}'\n";
    let folder = Folder::new(&manifest("adds", "pre-release", ""), &[("run", answer)]);
    staithe.cli(&["plugin:install", folder.path()]).succeeds();
    Repo::of_fixture(&staithe, "procfile-script", "shop").push().succeeds();
    let shown = ["run", "shop", "printenv", "ADDED"];
    staithe.cli(&shown).succeeds().says("by a plugin");
    staithe.cli(&["config:get", "shop", "ADDED"]).fails_with(1);
    staithe.cli(&["plugin:uninstall", "adds"]).succeeds();
    staithe.cli(&["config:set", "shop", "OTHER=1"]).succeeds();
    staithe.cli(&shown).fails_with(1);
}

fn get_as(staithe: &Staithe, app: &str, credentials: &str) -> Answer {
    let request = format!(
        "GET / HTTP/1.1\r\nHost: {app}.test\r\nAuthorization: Basic {credentials}\r\n\
         Connection: close\r\n\r\n"
    );
    exchange(staithe.http(), &request).unwrap()
}

#[test]
fn http_auth_asks_for_a_password_and_goes_on_doing_so() {
    // `ann:secret` and `ann:wrong`.
    let (right, wrong) = ("YW5uOnNlY3JldA==", "YW5uOndyb25n");
    let staithe = Staithe::start();
    Repo::of_fixture(&staithe, "procfile-script", "shop").push().succeeds();
    staithe.cli(&["http-auth:report"]).fails_with(4).says("staithe plugin:enable http-auth");
    staithe.cli(&["plugin:enable", "http-auth"]).succeeds();
    staithe.get("shop", "/").is(200, "");
    staithe.cli_with_input(&["http-auth:enable", "other", "ann"], "secret\n").fails_with(1);
    staithe.cli_with_input(&["http-auth:enable", "shop", "ann"], "secret\n").succeeds();
    staithe.get("shop", "/").is(401, "");
    get_as(&staithe, "shop", wrong).is(401, "");
    get_as(&staithe, "shop", right).is(200, "");
    staithe.cli(&["http-auth:report", "shop"]).succeeds().says("ann");

    staithe.cli(&["http-auth:add-allowed-ip", "shop", "127.0.0.0/8"]).succeeds();
    staithe.get("shop", "/").is(200, "");
    staithe.cli(&["http-auth:remove-allowed-ip", "shop", "127.0.0.0/8"]).succeeds();
    staithe.get("shop", "/").is(401, "");

    staithe.kill_daemon();
    staithe.launch();
    staithe.get("shop", "/").is(401, "");
    staithe.cli(&["apps:rename", "shop", "store"]).succeeds();
    staithe.get("store", "/").is(401, "");
    eventually(SOON, "the plugin knows the new name", || {
        let report = staithe.cli(&["http-auth:report", "store"]).stdout;
        report.contains("ann").then_some(()).ok_or(report)
    });
    get_as(&staithe, "store", right).is(200, "");
    staithe.cli(&["http-auth:disable", "store"]).succeeds();
    staithe.get("store", "/").is(200, "");
    staithe.cli_with_input(&["http-auth:enable", "store", "ann"], "secret\n").succeeds();
    staithe.get("store", "/").is(401, "");
    staithe.cli(&["plugin:disable", "http-auth"]).succeeds();
    staithe.get("store", "/").is(200, "");
}

#[test]
fn user_auth_is_asked_about_everybody_but_root() {
    let staithe = Staithe::start();
    let judge = "#!/bin/sh\n[ \"$STAITHE_METHOD\" = GET ] || echo '{\"veto\": \"look only\"}'\n";
    let folder = Folder::new(&manifest("guard", "user-auth", ""), &[("run", judge)]);
    staithe.cli(&["plugin:install", folder.path()]).succeeds();
    staithe.ssh(&["apps:list"]).succeeds();
    staithe.ssh(&["apps:create", "shop"]).fails_with(4).says("plugin `guard` refuses: look only");
    staithe.cli(&["apps:create", "shop"]).succeeds();
    let push = Repo::of_fixture(&staithe, "procfile-script", "shop").push();
    assert_ne!(push.code, Some(0), "{push:?}");
    push.says("look only");
}

#[test]
fn an_update_that_fails_keeps_the_old_one() {
    let staithe = Staithe::start_with(false, &["git.submodule_protocols=[\"file\"]"]);
    let text = manifest("mine", "post-deploy", "");
    let folder = Folder::new(&text, &[("run", "#!/bin/sh\n")]);
    let version = || staithe.json(&["plugin:info", "mine"])["version"].clone();
    staithe.cli(&["plugin:update", "mine", folder.path()]).fails_with(20).says("not installed");
    staithe.cli(&["plugin:install", folder.path()]).succeeds();
    staithe.cli(&["plugin:install", folder.path()]).fails_with(4).says("plugin:update mine");

    folder.write(
        "plugin.toml",
        &text.replace("\"1\"", "\"2\"").replace("1\ndesc", "9\ndesc"),
        0o644,
    );
    staithe.cli(&["plugin:update", "mine", folder.path()]).fails_with(4).says("speaks protocol 9");
    assert_eq!(version(), "1");
    let network = format!("{}\n[permissions]\nnetwork = true\n", text.replace("\"1\"", "\"3\""));
    folder.write("plugin.toml", &network, 0o644);
    let update = ["plugin:update", "mine", folder.path()];
    staithe.cli(&update).fails_with(4).says("--grant network");
    assert_eq!(version(), "1");
    staithe.cli(&[update.as_slice(), &["--grant", "network"]].concat()).succeeds();
    assert_eq!(version(), "3");

    folder.write("plugin.toml", &text.replace("\"1\"", "\"4\""), 0o644);
    std::os::unix::fs::symlink("/etc/shadow", folder.0.path().join("shadow")).unwrap();
    staithe.cli(&update).fails_with(4).says("neither a file nor a directory");
    std::fs::remove_file(folder.0.path().join("shadow")).unwrap();
    staithe.cli(&["plugin:install", folder.path(), "--name", "apps"]).fails_with(2);
    staithe.cli(&["plugin:install", folder.path(), "--name", "http-auth"]).fails_with(4);

    // Out of a git repository, and still there after a restart.
    for arguments in [["init", "-q"].as_slice(), &["add", "-A"], &["commit", "-qm", "Four"]] {
        let mut command = std::process::Command::new("git");
        command.args(["-c", "user.name=a", "-c", "user.email=a@b", "-c", "safe.directory=*"]);
        command.args(arguments).current_dir(folder.0.path());
        Finished::of(command, "").succeeds();
    }
    // Git serves what belongs to the user that it runs as.
    let mut command = std::process::Command::new("chown");
    command.args(["-R", "65010:65010"]).arg(folder.0.path());
    Finished::of(command, "").succeeds();
    let url = format!("file://{}", folder.path());
    staithe.cli(&["plugin:update", "mine", &url]).succeeds();
    assert_eq!(version(), "4");
    staithe.kill_daemon();
    staithe.launch();
    assert_eq!(version(), "4");
}

#[test]
fn a_slow_plugin_keeps_nobody_waiting_and_is_stopped_with_the_server() {
    let staithe = Staithe::start();
    let text = manifest("slow", "post-create", ", timeout_s = 120");
    let folder = Folder::new(&text, &[("run", "#!/bin/sh\nexec sleep 1000\n")]);
    staithe.cli(&["plugin:install", folder.path()]).succeeds();
    staithe.cli(&["apps:create", "one"]).succeeds();
    staithe.cli(&["apps:create", "two"]).succeeds();
    eventually(SOON, "the plugin runs", || {
        let count = staithe.containers();
        (count == 1).then_some(()).ok_or_else(|| format!("{count} containers"))
    });
    staithe.kill_daemon();
    staithe.launch();
    assert_eq!(staithe.containers(), 0);
}
