//! Whether a spec can be a container at all: everything that would otherwise fail half-way, or
//! worse, succeed.

use super::cgroup::is_valid_name;
use super::error::Error;
use super::io::Stdio;
use super::spec::{ContainerSpec, Limits, Mount, ProcessSpec};
use super::state::resource_name;
use crate::sys::credentials::Capabilities;
use crate::sys::process;

/// Overlayfs allows 500; more than this is a mistake, and each costs time at the start.
const MAX_LAYERS: usize = 120;
/// Of the kernel, for sethostname(2).
const MAX_HOSTNAME: usize = 64;
const MAX_ID: usize = 100;

/// The first problem of `spec`.
pub(super) fn check(spec: &ContainerSpec, stdio: Stdio) -> Result<(), Error> {
    let result = check_names(spec)
        .and_then(|()| check_ids(spec))
        .and_then(|()| check_rootfs(spec))
        .and_then(|()| check_process(spec, stdio))
        .and_then(|()| check_limits(&spec.cgroup.limits))
        .and_then(|()| check_limits(&spec.cgroup.group_limits));
    result.map_err(|problem| Error::InvalidSpec { id: spec.id.clone(), problem })
}

/// Also the guard for every path that is made from an id.
pub(super) fn is_valid_id(id: &str) -> bool {
    id.len() <= MAX_ID && is_valid_name(id) && id.starts_with(|c: char| c.is_ascii_alphanumeric())
}

fn require(condition: bool, problem: impl FnOnce() -> String) -> Result<(), String> {
    if condition { Ok(()) } else { Err(problem()) }
}

fn check_names(spec: &ContainerSpec) -> Result<(), String> {
    require(is_valid_id(&spec.id), || "the id is not 1 to 100 of a-z A-Z 0-9 . _ -".into())?;
    for (what, name) in [("group", &spec.cgroup.group), ("leaf", &spec.cgroup.leaf)] {
        require(is_valid_name(name), || format!("cgroup {what} `{name}` is not a plain name"))?;
    }
    require((1..=MAX_HOSTNAME).contains(&spec.hostname.len()), || {
        format!("the host name has not 1 to {MAX_HOSTNAME} bytes")
    })
}

fn check_ids(spec: &ContainerSpec) -> Result<(), String> {
    let map = spec.id_map;
    require(map.host_base > 0 && map.size > 0, || {
        "the id map would make root inside root outside".into()
    })?;
    require(map.host_base.checked_add(map.size).is_some(), || "the id map ends too high".into())?;
    Capabilities::parse(&spec.capabilities)
        .map(drop)
        .map_err(|name| format!("unknown capability `{name}`"))?;
    require(spec.oom_score_adj <= 1000, || "oom_score_adj is above 1000".into())
}

fn check_rootfs(spec: &ContainerSpec) -> Result<(), String> {
    let count = spec.rootfs.lowers.len();
    require((1..=MAX_LAYERS).contains(&count), || {
        format!("{count} layers; 1 to {MAX_LAYERS} are possible")
    })?;
    require(spec.rootfs.upper.is_absolute(), || "the upper directory is relative".into())?;
    require(spec.shm_size > 0, || "/dev/shm of size 0 would be unlimited".into())?;
    spec.mounts.iter().try_for_each(|mount| match mount {
        Mount::Tmpfs { target, size: 0, .. } => {
            Err(format!("tmpfs at `{}` of size 0 would be unlimited", target.display()))
        }
        _ => Ok(()),
    })
}

fn check_process(spec: &ContainerSpec, stdio: Stdio) -> Result<(), String> {
    let Some(process) = &spec.process else {
        return require(stdio == Stdio::Log, || "streams without a process".into());
    };
    process_problem(process, spec.id_map.size)
}

/// Also for exec.
pub(super) fn process_problem(process: &ProcessSpec, ids: u32) -> Result<(), String> {
    require(process.args.first().is_some_and(|program| !program.is_empty()), || {
        "no program".into()
    })?;
    require(process.cwd.starts_with('/'), || {
        format!("working directory `{}` is not absolute", process.cwd)
    })?;
    let mut all = vec![process.uid, process.gid];
    all.extend(&process.groups);
    require(all.iter().all(|id| *id < ids), || "an id of the process is not mapped".into())?;
    let nul = process.args.iter().chain(process.env.iter().flat_map(|(key, value)| [key, value]));
    require(nul.into_iter().all(|text| !text.contains('\0')), || {
        "a NUL byte in an argument or the environment".into()
    })?;
    require(process.env.iter().all(|(key, _)| !key.is_empty() && !key.contains('=')), || {
        "an environment variable has no name, or one with `=`".into()
    })?;
    process.rlimits.iter().try_for_each(|limit| {
        let known = process::resource(&resource_name(&limit.resource)).is_some();
        require(known, || format!("unknown resource `{}`", limit.resource))?;
        require(limit.soft <= limit.hard, || format!("{}: soft above hard", limit.resource))
    })
}

/// Also for live changes.
pub(super) fn limits_problem(limits: &Limits) -> Result<(), String> {
    check_limits(limits)
}

fn check_limits(limits: &Limits) -> Result<(), String> {
    require(limits.cpu_millis != Some(0), || "a CPU limit of 0 would stop everything".into())?;
    require(limits.memory_max != Some(0), || "a memory limit of 0 would stop everything".into())?;
    require(limits.pids_max != Some(0), || "a process limit of 0 would stop everything".into())?;
    let weight = limits.cpu_weight.unwrap_or(100);
    require((1..=10_000).contains(&weight), || "the CPU weight is not 1 to 10000".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::spec::{CgroupSpec, IdMap, Rlimit, Rootfs};

    fn spec() -> ContainerSpec {
        let rootfs = Rootfs { lowers: vec!["/layer".into()], upper: "/upper".into() };
        let cgroup =
            CgroupSpec { group: "shop".into(), leaf: "web.1".into(), ..CgroupSpec::default() };
        let map = IdMap { host_base: 100_000, size: 65_536 };
        let mut spec = ContainerSpec::new("shop.web.1", rootfs, map, cgroup);
        spec.process = Some(ProcessSpec {
            args: vec!["true".into()],
            cwd: "/".into(),
            ..ProcessSpec::default()
        });
        spec
    }

    fn refused(change: impl FnOnce(&mut ContainerSpec)) -> String {
        let mut spec = spec();
        change(&mut spec);
        check(&spec, Stdio::Log).unwrap_err().to_string()
    }

    #[test]
    fn a_plain_spec_is_accepted() {
        check(&spec(), Stdio::Log).unwrap();
    }

    #[test]
    fn what_would_harm_the_host_is_refused() {
        for (part, message) in [
            ("not a plain name", refused(|spec| spec.cgroup.group = "../../x".into())),
            ("the id is not", refused(|spec| spec.id = "../x".into())),
            ("root outside", refused(|spec| spec.id_map.host_base = 0)),
            ("not mapped", refused(|spec| spec.process.as_mut().unwrap().uid = 65_536)),
            ("ends too high", refused(|spec| spec.id_map.host_base = u32::MAX - 9)),
            ("unlimited", refused(|spec| spec.shm_size = 0)),
            ("unknown capability", refused(|spec| spec.capabilities = vec!["ALL".into()])),
            ("NUL byte", refused(|spec| spec.process.as_mut().unwrap().args = vec!["a\0".into()])),
            ("soft above hard", {
                let limit = Rlimit { resource: "RLIMIT_NOFILE".into(), soft: 2, hard: 1 };
                refused(|spec| spec.process.as_mut().unwrap().rlimits = vec![limit])
            }),
        ] {
            assert!(message.contains(part), "{message}");
        }
    }
}
