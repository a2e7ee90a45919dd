//! Reboots and power cuts, on a machine of its own that has cgroup v2 alone.

#[path = "power/machine.rs"]
mod machine;

use std::time::Duration;

use crate::support::eventually;
use machine::Machine;

macro_rules! needs_qemu {
    () => {
        if let Some(reason) = machine::impossible() {
            return crate::support::skip(&reason);
        }
    };
}

/// The cgroup of web.1 of the one app, whatever they are called.
const LEAF: &str = "/sys/fs/cgroup/staithe/*/web.1-*";

#[test]
fn a_power_cut_after_a_release_brings_back_that_release() {
    needs_qemu!();
    let mut machine = Machine::boot_new();
    machine.serves("nothing set");
    limits_are_applied_on_cgroup_v2(&mut machine);
    machine.run("staithe config:set shop GREETING=two").succeeds();
    machine.cut_power();

    machine.boot();
    machine.serves("two");
    let releases = machine.json("staithe releases:list shop");
    let all = [(3, "succeeded"), (2, "succeeded"), (1, "succeeded")];
    assert_eq!(versions(&releases), all, "{releases}");
    assert_eq!(machine.run("staithe config:get shop GREETING").succeeds().stdout.trim(), "two");
    machine.run("staithe rollback shop v1").succeeds();
    machine.serves("nothing set");
}

fn limits_are_applied_on_cgroup_v2(machine: &mut Machine) {
    let hierarchies = machine.run("cut -d: -f1,2 /proc/self/cgroup").succeeds().stdout;
    assert_eq!(hierarchies.trim(), "0:", "something of cgroup v1 is there");
    let processes = machine.run(&format!("cat {LEAF}/cgroup.procs")).succeeds().stdout;
    assert!(!processes.trim().is_empty(), "nothing runs in the cgroup");
    machine.run("staithe resource:limit shop --memory 200m --cpu 0.5 --pids 99").succeeds();
    for (file, expected) in
        [("memory.max", "209715200"), ("cpu.max", "50000 100000"), ("pids.max", "99")]
    {
        let value = machine.run(&format!("cat {LEAF}/{file}")).succeeds().stdout;
        assert_eq!(value.trim(), expected, "{file}");
    }
    let report = machine.json("staithe ps:report shop");
    assert!(report["instances"][0]["memory_bytes"].as_u64() > Some(0), "{report}");
    let seen = machine.run("staithe run shop cat /sys/fs/cgroup/memory.max").succeeds().stdout;
    assert_eq!(seen.trim(), "209715200", "what a runtime inside sees");
    let eat = r#"staithe run shop perl -e '$_ = "x" x 400_000_000'"#;
    machine.run(eat).fails_with(137);
    eventually(Duration::from_secs(30), "the cgroups of one-offs are removed", || {
        let left = machine.run("ls -d /sys/fs/cgroup/staithe/*/*/").stdout;
        (left.lines().count() == 1).then_some(()).ok_or(left)
    });
}

#[test]
fn a_power_cut_after_a_push_loses_nothing_of_it() {
    needs_qemu!();
    let mut machine = Machine::boot_new();
    machine.serves("nothing set");
    let commit = clone_and_change(&mut machine, "pushed");
    machine.run("git -C /root/shop push -q origin main main:notes/one").succeeds();
    machine.cut_power();

    machine.boot();
    machine.serves("pushed");
    let repository = "git -c 'safe.directory=*' -C /var/lib/staithe/repos/shop.git";
    for branch in ["main", "notes/one"] {
        let found = machine.run(&format!("{repository} rev-parse refs/heads/{branch}"));
        assert_eq!(found.succeeds().stdout, commit, "{branch}");
    }
    machine.run(&format!("{repository} fsck --strict")).succeeds();
    assert_eq!(machine.json("staithe builds:list shop")[0]["status"], "succeeded");
}

#[test]
fn a_power_cut_during_a_push_leaves_nothing_of_it() {
    needs_qemu!();
    let mut machine = Machine::boot_new();
    machine.serves("nothing set");
    clone_and_change(&mut machine, "pushed");
    machine.run("(git -C /root/shop push origin main >/tmp/push 2>&1 &)").succeeds();
    eventually(Duration::from_secs(60), "the build runs", || {
        let containers = machine.run("ls -d /sys/fs/cgroup/staithe/*/build.*");
        (containers.code == Some(0)).then_some(()).ok_or(containers.stdout)
    });
    machine.cut_power();

    machine.boot();
    machine.serves("nothing set");
    let builds = machine.json("staithe builds:list shop");
    assert_eq!(builds[0]["status"], "failed", "{builds}");
    assert_eq!(machine.run("ls /var/lib/staithe/builds").succeeds().stdout, "");
    // The clone's files were not synced by anybody.
    machine.run("rm -rf /root/shop /root/key* /root/.ssh /root/.gitconfig").succeeds();
    clone_and_change(&mut machine, "again");
    machine.run("git -C /root/shop push -q origin main").succeeds();
    machine.serves("again");
}

/// A user with a clone of `shop`, at which the app's answer is changed. The new commit.
fn clone_and_change(machine: &mut Machine, answer: &str) -> String {
    let change = format!("sed -i 's/nothing set/{answer}/' /root/shop/server.pl");
    let key = format!("staithe ssh-keys:add {answer} </root/key.pub");
    let prepare = [
        "ssh-keygen -q -t ed25519 -N '' -f /root/key",
        &key,
        "git config --global user.name Machine",
        "git config --global user.email machine@example.com",
        "git config --global core.sshCommand \
         'ssh -i /root/key -o StrictHostKeyChecking=accept-new -o BatchMode=yes'",
        "git clone -q -b main ssh://staithe@127.0.0.1:2222/shop /root/shop",
        &change,
        "git -C /root/shop commit -q -a -m 'Say something else'",
    ];
    for command in prepare {
        machine.run(command).succeeds();
    }
    machine.run("git -C /root/shop rev-parse HEAD").succeeds().stdout
}

#[test]
fn a_power_cut_during_a_deploy_brings_back_the_release_before() {
    needs_qemu!();
    let mut machine = Machine::boot_new();
    machine.serves("nothing set");
    machine.run("staithe config:set shop GREETING=two").succeeds();
    machine.run("(staithe config:set shop GREETING=three SLOW=1 >/tmp/deploy 2>&1 &)").succeeds();
    eventually(Duration::from_secs(60), "the new instance starts", || {
        let logs = machine.run("staithe logs shop");
        logs.stdout.contains("taking my time").then_some(()).ok_or(logs.stdout)
    });
    machine.serves("two");
    machine.cut_power();

    machine.boot();
    machine.serves("two");
    let releases = machine.json("staithe releases:list shop");
    assert_eq!(
        versions(&releases),
        [(3, "failed"), (2, "succeeded"), (1, "succeeded")],
        "{releases}"
    );
    machine.run("staithe events").succeeds().says("v3 failed").says("recovered");
    machine.run("staithe config:get shop SLOW").fails_with(1);
    assert_eq!(machine.run("ls /var/lib/staithe/instances | wc -l").stdout.trim(), "1");
    // And it goes on from there.
    machine.run("staithe config:set shop GREETING=four").succeeds();
    machine.serves("four");
}

#[test]
fn a_reboot_brings_everything_back() {
    needs_qemu!();
    let mut machine = Machine::boot_new();
    machine.serves("nothing set");
    machine.run("staithe config:set shop GREETING=two").succeeds();
    machine.run("staithe apps:create idle").succeeds();
    machine.power_off();

    machine.boot();
    machine.serves("two");
    machine.run("staithe apps:list").succeeds().says("shop").says("idle");
    let report = machine.json("staithe ps:report shop");
    assert_eq!(report["instances"].as_array().map(Vec::len), Some(1), "{report}");
    machine.run("staithe logs shop").succeeds().says("listening");
}

/// Version and status, newest first.
fn versions(releases: &serde_json::Value) -> Vec<(u64, &str)> {
    let mut found = Vec::new();
    for release in releases.as_array().into_iter().flatten() {
        let version = release["version"].as_u64().unwrap_or(0);
        found.push((version, release["status"].as_str().unwrap_or("")));
    }
    found
}
