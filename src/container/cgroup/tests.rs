//! Detection, names and files of cgroups, without any.

use std::collections::BTreeMap;
use std::fs;

use super::detect::{assign, parse};
use super::*;
use crate::container::spec::IoLimit;

const HYBRID: &str = "\
31 24 0:26 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:27 / /sys/fs/cgroup/cpu,cpuacct rw shared:3 - cgroup cgroup rw,cpu,cpuacct
33 31 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
34 31 0:29 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd
35 31 0:30 / /sys/fs/cgroup/unified rw,nosuid - cgroup2 cgroup2 rw
";

#[test]
fn each_controller_is_found_where_it_is() {
    let places = assign(&parse(HYBRID), |_| "hugetlb pids".into());
    let expected = BTreeMap::from([
        (Controller::Cpu, Place::V1("/sys/fs/cgroup/cpu,cpuacct".into())),
        (Controller::Cpuacct, Place::V1("/sys/fs/cgroup/cpu,cpuacct".into())),
        (Controller::Memory, Place::V1("/sys/fs/cgroup/memory".into())),
        (Controller::Pids, Place::V2("/sys/fs/cgroup/unified".into())),
    ]);
    assert_eq!(places, expected);
}

#[test]
fn v1_hierarchies_are_shown_inside_as_they_are_mounted_outside() {
    let names: Vec<String> = detect::views(&assign(&parse(HYBRID), |_| "hugetlb".into()))
        .into_iter()
        .map(|view| view.name)
        .collect();
    assert_eq!(names, ["cpu,cpuacct", "memory"]);
    let unified = "1 2 0:3 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
    let views = detect::views(&assign(&parse(unified), |_| "cpu memory pids io".into()));
    assert_eq!(views, [View { name: String::new(), controllers: Vec::new() }]);
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    for name in ["web.1", "shop", "a_b-c", "run.7f"] {
        assert!(is_valid_name(name), "{name}");
    }
    for name in ["", "..", ".", "a/b", "../x", "memory.limit_in_bytes", "cgroup.procs", "a b"] {
        assert!(!is_valid_name(name), "{name}");
    }
}

#[test]
fn a_leaf_never_exceeds_its_group() {
    let group = Limits { cpu_millis: Some(500), memory_max: Some(100), ..Limits::default() };
    let own = Limits { cpu_millis: Some(2000), memory_max: None, ..Limits::default() };
    let result = within(&own, &group);
    assert_eq!((result.cpu_millis, result.memory_max), (Some(500), None));
}

#[test]
fn oom_kills_are_read_from_both_versions() {
    assert_eq!(oom_kills("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"), 3);
    assert_eq!(oom_kills("low 0\noom 5\noom_kill 2\noom_group_kill 9\n"), 2);
    assert_eq!(oom_kills(""), 0);
}

#[test]
fn v2_files_are_written_as_documented() {
    let dir = tempfile::tempdir().unwrap();
    let files =
        ["cpu.max", "cpu.weight", "memory.high", "memory.low", "memory.max", "pids.max", "io.max"];
    for file in files {
        fs::File::create(dir.path().join(file)).unwrap();
    }
    let limits = Limits {
        cpu_millis: Some(1500),
        memory_max: Some(1 << 20),
        memory_low: Some(4096),
        io: vec![IoLimit { major: 8, minor: 1, write_bps: Some(7), ..IoLimit::default() }],
        ..Limits::default()
    };
    for controller in Controller::ALL {
        v2::apply(controller, dir.path(), &limits).unwrap();
    }
    let value = |file: &str| fs::read_to_string(dir.path().join(file)).unwrap();
    assert_eq!(value("cpu.max"), "150000 100000");
    assert_eq!(value("cpu.weight"), "100");
    assert_eq!(value("memory.max"), "1048576");
    assert_eq!(value("memory.high"), "max");
    assert_eq!(value("memory.low"), "4096");
    assert_eq!(value("pids.max"), "max");
    assert_eq!(value("io.max"), "8:1 rbps=max wbps=7 riops=max wiops=max");
}
