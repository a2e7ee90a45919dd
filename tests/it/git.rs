//! Git and SSH, driven by the system's `git` and `ssh`: the real server, the real repositories and
//! the real hook, with a control plane that answers as each test says.

#[path = "git/world.rs"]
mod world;

use std::time::Duration;

use staithe::git::ExportOptions;
use tokio::time::sleep;

use world::{Answer, World, eventually, text};

/// The owner of exported files in these tests.
const APP: ExportOptions = ExportOptions { uid: 70_000, gid: 70_001 };

macro_rules! needs_root {
    () => {
        if !world::is_root() {
            return crate::support::skip(
                "git and ssh tests need root to give repositories to their owner",
            );
        }
    };
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_shows_what_the_control_plane_says_and_can_be_cloned_back() {
    needs_root!();
    let world = World::start(Answer::accept(&["-----> Building", "       ok"])).await;
    world.commit("app.txt", "one").await;
    let push = world.git(&["push", "staithe", "main"]).await;
    assert!(push.status.success(), "{}", text(&push));
    assert!(text(&push).contains("-----> Building\n       ok\n"), "{}", text(&push));
    assert!(!text(&push).contains("remote: ----->"), "{}", text(&push));

    let pushes = world.pushes();
    assert_eq!(pushes.len(), 1);
    assert_eq!(pushes[0].actor, "alice");
    assert_eq!(pushes[0].deploys.as_deref(), Some("main"));
    assert_eq!(pushes[0].subject.as_deref(), Some("app.txt"));
    assert_eq!(pushes[0].exported, ["app.txt"]);

    let clone =
        world.git_in("/", &["clone", "-q", &world.remote("shop"), &world.path("back")]).await;
    assert!(clone.status.success(), "{}", text(&clone));
    assert_eq!(std::fs::read_to_string(world.path("back/app.txt")).unwrap(), "one");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_push_leaves_the_ref_and_no_objects() {
    needs_root!();
    let world = World::start(Answer::accept(&[])).await;
    world.commit("app.txt", "one").await;
    assert!(world.git(&["push", "staithe", "main"]).await.status.success());
    let before = world.head("main");

    world.answer(Answer::reject(&[" !     the build failed"]));
    world.commit("app.txt", "two").await;
    let push = world.git(&["push", "staithe", "main"]).await;
    assert!(!push.status.success());
    assert!(text(&push).contains(" !     the build failed\n"), "{}", text(&push));
    assert!(text(&push).contains("pre-receive hook declined"), "{}", text(&push));
    assert_eq!(world.head("main"), before);
    assert_eq!(world.quarantines(), 0);

    world.answer(Answer::problem("app `shop` is locked", "run `staithe unlock shop`"));
    let push = world.git(&["push", "staithe", "main"]).await;
    assert!(text(&push).contains(" !     app `shop` is locked\n"), "{}", text(&push));
    assert!(text(&push).contains(" !     run `staithe unlock shop`\n"), "{}", text(&push));
}

#[tokio::test(flavor = "multi_thread")]
async fn force_pushes_tags_other_branches_and_deletions_behave() {
    needs_root!();
    let world = World::start(Answer::accept(&[])).await;
    world.commit("app.txt", "one").await;
    assert!(world.git(&["push", "staithe", "main"]).await.status.success());

    world.run("git commit -q --amend -m other").await;
    assert!(!world.git(&["push", "staithe", "main"]).await.status.success());
    assert!(world.git(&["push", "-f", "staithe", "main"]).await.status.success());
    assert_eq!(world.last().deploys.as_deref(), Some("main"));

    world.run("git tag -a -m first v1 && git branch dev && git branch feature/x").await;
    let push = world.git(&["push", "staithe", "v1", "dev", "feature/x"]).await;
    assert!(push.status.success(), "{}", text(&push));
    assert_eq!(world.last().deploys, None);
    assert_eq!(world.last().notes.len(), 3);

    let push = world.git(&["push", "staithe", ":dev", ":v1"]).await;
    assert!(push.status.success(), "{}", text(&push));
    let push = world.git(&["push", "staithe", ":main"]).await;
    assert!(!push.status.success());
    assert!(text(&push).contains("`main` is the deploy branch and cannot be deleted"));
    assert!(world.head("main").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shallow_clone_can_push_and_the_verdict_holds() {
    needs_root!();
    let world = World::start(Answer::accept(&[])).await;
    for text in ["one", "two", "three"] {
        world.commit("app.txt", text).await;
    }
    world.run("git clone -q --depth=1 file://$PWD ../shallow").await;
    world
        .run("cd ../shallow && git remote add staithe $(cd ../work && git remote get-url staithe)")
        .await;
    let push = world.git_in(&world.path("shallow"), &["push", "staithe", "main"]).await;
    assert!(push.status.success(), "{}", text(&push));
    assert_eq!(world.last().exported, ["app.txt"]);
    // And the full history afterwards, from where it is whole.
    world.commit("app.txt", "four").await;
    let push = world.git(&["push", "staithe", "main"]).await;
    assert!(push.status.success(), "{}", text(&push));
    let clone =
        world.git_in("/", &["clone", "-q", &world.remote("shop"), &world.path("back")]).await;
    assert!(clone.status.success(), "{}", text(&clone));
    assert_eq!(std::fs::read_to_string(world.path("back/app.txt")).unwrap(), "four");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_push_works_and_one_beyond_the_limit_is_refused() {
    needs_root!();
    let world = World::start(Answer::accept(&[])).await;
    world.run("head -c 100M /dev/urandom >blob && git add blob && git commit -q -m blob").await;
    let started = std::time::Instant::now();
    let push = world.git(&["push", "staithe", "main"]).await;
    assert!(push.status.success(), "{}", text(&push));
    assert_eq!(world.last().exported, ["blob"]);
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());

    world.run("head -c 130M /dev/urandom >blob && git commit -q -a -m larger").await;
    let push = world.git(&["push", "staithe", "main"]).await;
    assert!(!push.status.success());
    assert!(text(&push).contains("pack exceeds maximum allowed size"), "{}", text(&push));
    assert_eq!(world.pushes().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_push_closes_the_request_and_leaves_nothing() {
    needs_root!();
    let world = World::start(Answer::Hang).await;
    world.commit("app.txt", "one").await;
    let mut push = world.git_command(&world.path("work"), &["push", "staithe", "main"]);
    let mut push = push.kill_on_drop(true).process_group(0).spawn().unwrap();
    eventually("the push is asked about", || world.pushes().len() == 1).await;
    world.kill_group(push.id().unwrap(), "INT").await;
    push.wait().await.unwrap();
    eventually("the request is closed", || world.closed_requests() == 1).await;
    eventually("the quarantine is gone", || world.quarantines() == 0).await;
    eventually("git's processes are gone", || world.children() == 0).await;
    assert_eq!(world.head("main"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_outcome_is_asked_for_when_the_control_plane_restarts() {
    needs_root!();
    let world = World::start(Answer::Vanish { outcome: Some(true) }).await;
    world.commit("app.txt", "one").await;
    let push = world.git(&["push", "staithe", "main"]).await;
    assert!(push.status.success(), "{}", text(&push));
    assert!(text(&push).contains("Lost the control plane"), "{}", text(&push));

    world.answer(Answer::Vanish { outcome: None });
    world.commit("app.txt", "two").await;
    let push = world.git(&["push", "staithe", "main"]).await;
    assert!(!push.status.success());
    assert!(text(&push).contains("push again"), "{}", text(&push));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_pushes_at_once_do_not_disturb_each_other() {
    needs_root!();
    let world = World::start(Answer::accept(&["-----> Building"])).await;
    world.commit("app.txt", "one").await;
    let (shop, blog) = (world.remote("shop"), world.remote("blog"));
    let (one, two) = tokio::join!(world.push_to(&shop), world.push_to(&blog));
    assert!(one.status.success() && two.status.success(), "{}{}", text(&one), text(&two));
    assert_eq!(world.pushes().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_get_their_streams_and_give_their_exit_code() {
    needs_root!();
    let world = World::start(Answer::accept(&[])).await;
    let echo = world.ssh(&["echo", "'a  b'", "c"]).await;
    assert_eq!(String::from_utf8_lossy(&echo.stdout), "a  b c\n");
    assert_eq!(world.ssh(&["exit", "7"]).await.status.code(), Some(7));
    let errors = world.ssh(&["complain"]).await;
    assert_eq!(String::from_utf8_lossy(&errors.stderr), "complaint\n");
    // OpenSSH's client has one code for all signals.
    assert_eq!(world.ssh(&["die"]).await.status.code(), Some(255));
    let refused = world.ssh(&["forbidden"]).await;
    assert_eq!(refused.status.code(), Some(4));
    let expected = " !     not for you\n !     try another\n";
    assert_eq!(String::from_utf8_lossy(&refused.stderr), expected);
    let greeting = world.ssh(&[]).await;
    assert_eq!(String::from_utf8_lossy(&greeting.stdout), "Hello alice\n");
    assert_eq!(greeting.status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn much_data_goes_through_a_command_that_writes_while_it_reads() {
    needs_root!();
    let world = World::start(Answer::accept(&[])).await;
    let script = format!("head -c 64M /dev/zero | {} cat | wc -c", world.ssh_line());
    assert_eq!(world.run(&script).await.trim(), "67108864");
    // The reader of the output waits, as a pager does, while the client sends on.
    let script = format!("head -c 64M /dev/zero | {} cat | (sleep 3; wc -c)", world.ssh_line());
    assert_eq!(world.run(&script).await.trim(), "67108864");
    // A command that never reads ends all the same, and does not take the memory of the server.
    let script = format!("head -c 64M /dev/zero | {} exit 3; echo $?", world.ssh_line());
    assert_eq!(world.run(&script).await.trim(), "3");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_has_a_size_a_name_and_control_c() {
    needs_root!();
    let world = World::start(Answer::accept(&[])).await;
    let script =
        format!("stty cols 99 rows 33 2>/dev/null; TERM=vt220 {} -tt tty", world.ssh_line());
    let seen = world.run(&format!("script -qec {} /dev/null </dev/null", quoted(&script))).await;
    assert!(seen.contains("33 99 vt220"), "{seen}");
    // Control-C reaches the command through the terminal's line discipline.
    let line = world.ssh_line();
    let seen =
        world.run(&format!("(sleep 1; printf '\\003') | {line} -tt sleep 100; echo $?")).await;
    assert!(seen.trim().ends_with("255"), "{seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_hung_up_on_and_killed_when_its_client_goes() {
    needs_root!();
    let world = World::start(Answer::accept(&[])).await;
    for command in ["sleep", "stubborn"] {
        let mut client = world.ssh_command(&[command, "100"]);
        let mut client = client.kill_on_drop(true).spawn().unwrap();
        eventually("the command runs", || world.children() > 0).await;
        client.kill().await.unwrap();
        eventually("the command has ended", || world.children() == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_wrong_users_and_everything_but_sessions_are_refused() {
    needs_root!();
    let world = World::start(Answer::accept(&[])).await;
    let stranger = world.ssh_as("stranger", "staithe", &["echo", "x"]).await;
    assert_eq!(stranger.status.code(), Some(255));
    assert!(text(&stranger).contains("Permission denied (publickey)"), "{}", text(&stranger));
    let wrong = world.ssh_as("alice", "root", &["echo", "x"]).await;
    assert!(text(&wrong).contains("Permission denied (publickey)"), "{}", text(&wrong));
    for kind in ["rsa", "ecdsa"] {
        let known = world.ssh_as(kind, "staithe", &["echo", "x"]).await;
        assert!(known.status.success(), "{kind}: {}", text(&known));
    }
    let forward =
        world.ssh(&["-o", "ExitOnForwardFailure=yes", "-R", "0:localhost:1", "echo"]).await;
    assert!(!forward.status.success(), "{}", text(&forward));
    let sftp = world.ssh(&["-s", "sftp"]).await;
    assert!(!sftp.status.success(), "{}", text(&sftp));
    let path = world.ssh(&["git-receive-pack", "'../shop'"]).await;
    assert!(text(&path).contains("names no app"), "{}", text(&path));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_without_login_is_closed() {
    needs_root!();
    let world = World::start(Answer::accept(&[])).await;
    let mut streams = Vec::new();
    for _ in 0..2 {
        streams.push(tokio::net::TcpStream::connect(world.address()).await.unwrap());
    }
    for stream in &mut streams {
        let mut seen = Vec::new();
        let read = tokio::io::AsyncReadExt::read_to_end(stream, &mut seen);
        tokio::time::timeout(Duration::from_secs(10), read).await.unwrap().unwrap();
        assert!(seen.starts_with(b"SSH-2.0-Staithe\r\n"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_systems_sshd_serves_the_same_commands() {
    needs_root!();
    let world = World::start(Answer::accept(&["-----> Building"])).await;
    let Some(sshd) = world.start_sshd().await else {
        return crate::support::skip("openssh-server is not installed");
    };
    world.commit("app.txt", "one").await;
    let push = world.git(&["push", &sshd.remote("shop"), "main"]).await;
    assert!(push.status.success(), "{}{}", text(&push), sshd.log());
    assert!(text(&push).contains("-----> Building\n"), "{}", text(&push));
    assert_eq!(world.last().actor, "alice");

    let line = sshd.ssh_line();
    assert_eq!(world.run(&format!("{line} echo a b")).await, "a b\n");
    assert_eq!(world.run(&format!("{line} exit 7; echo $?")).await, "7\n");
    assert_eq!(world.run(&format!("head -c 8M /dev/zero | {line} cat | wc -c")).await, "8388608\n");
    let script = format!("stty cols 99 rows 33 2>/dev/null; TERM=vt220 {line} -tt tty");
    let seen = world.run(&format!("script -qec {} /dev/null </dev/null", quoted(&script))).await;
    assert!(seen.contains("33 99 vt220"), "{seen}");
    let stranger =
        world.run(&format!("{} echo x 2>&1; echo $?", sshd.ssh_line_as("stranger"))).await;
    assert!(stranger.contains("Permission denied"), "{stranger}");

    // A client that goes away takes its command along.
    let kill = format!("{line} sleep 100 & sleep 1; kill -9 $!; wait $! 2>/dev/null; true");
    world.run(&kill).await;
    eventually("the command has ended", || world.children() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn submodules_are_fetched_or_named_in_a_clear_error() {
    needs_root!();
    let world = World::start(Answer::accept(&[])).await;
    world.run("git init -q -b main ../lib && cd ../lib && echo lib >lib.txt && git add . && git commit -qm lib").await;
    world.run("git -c protocol.file.allow=always submodule add -q file://$PWD/../lib vendor/lib && git commit -qm module && chown -R 65010 ../lib").await;
    let push = world.git(&["push", "staithe", "main"]).await;
    assert!(push.status.success(), "{}", text(&push));
    assert_eq!(world.last().exported, [".gitmodules", "vendor/lib/lib.txt"]);
    let bad = "https://127.0.0.1:9/lib.git";
    world
        .run(&format!(
            "git config -f .gitmodules submodule.vendor/lib.url {bad} && git commit -qam bad"
        ))
        .await;
    let push = world.git(&["push", "staithe", "main"]).await;
    assert!(!push.status.success());
    let expected = "submodule `vendor/lib` (https://127.0.0.1:9/lib.git): ";
    assert!(text(&push).contains(expected), "{}", text(&push));
}

fn quoted(script: &str) -> String {
    format!("'{}'", script.replace('\'', "'\\''"))
}

/// The only use of a pause: to see that something does not happen.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_build_does_not_end_the_push() {
    needs_root!();
    let world = World::start(Answer::Hang).await;
    world.commit("app.txt", "one").await;
    let mut push = world.git_command(&world.path("work"), &["push", "staithe", "main"]);
    let mut push = push.kill_on_drop(true).process_group(0).spawn().unwrap();
    eventually("the push is asked about", || world.pushes().len() == 1).await;
    sleep(Duration::from_secs(7)).await;
    assert!(push.try_wait().unwrap().is_none());
    world.finish_hanging();
    assert!(push.wait().await.unwrap().success());
}
