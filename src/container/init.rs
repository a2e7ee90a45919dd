//! PID 1 of a container, from its birth to the program: single-threaded, top to bottom.
//!
//! It is born in new namespaces, as nobody there, with the monitor's memory and a shared table of
//! open files. The order of the steps is their security; each says what would go wrong elsewhere.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::launch::{self, Streams};
use super::protocol::{self, CreateJob, Failure, Furniture, Sign, Step, Word};
use super::restrict::Restrictions;
use super::{mounts, reaper};
use crate::sys::mount;
use crate::sys::mount::Attributes;
use crate::sys::namespace::{self, Namespaces};
use crate::sys::{credentials, path, process};

/// The child of the monitor's clone3(2).
pub(super) fn main(job: &CreateJob, monitor: &OwnedFd, mut streams: Streams) -> ! {
    let result = set_up(job, monitor.as_fd(), &mut streams)
        .and_then(|()| await_start(monitor.as_fd()))
        .and_then(|()| run(job, monitor, &streams));
    match result {
        Ok(()) => process::exit(0),
        Err(failure) => {
            // If even this fails, the monitor sees that we have gone.
            let _ = protocol::send(monitor.as_fd(), &Sign::Failed(failure.message()), &[]);
            process::exit(launch::exit_code(&failure))
        }
    }
}

fn set_up(job: &CreateJob, monitor: BorrowedFd<'_>, streams: &mut Streams) -> Result<(), Failure> {
    let spec = &job.spec;
    // Until the monitor has mapped ids, every one of ours is the overflow id, and nothing works.
    let word: Word = protocol::receive(monitor).step("wait for the monitor")?.0;
    let Word::Go(furniture) = word else {
        return Err(Failure::new("wait for the monitor", std::io::ErrorKind::InvalidData.into()));
    };
    // Before the first descriptor is opened or closed here: the table is the monitor's too.
    namespace::unshare_files().step("get an own table of files")?;
    protocol::send(monitor, &Sign::Apart, &[]).step("answer the monitor")?;
    let (root, devices, own_mounts) = claim(furniture).step("take over the mounts")?;
    // A monitor that was killed must not leave a container without log or owner. Once more below.
    process::die_with_parent().step("bind to the monitor's life")?;
    // While the host's files are in sight, and readable: the next step makes us a stranger there.
    let restrictions =
        Restrictions::prepare(spec.process.as_ref(), &spec.capabilities, &job.restraints.filter)?;
    become_root()?;
    // Only now, in the container's cgroups: the namespace's root is where its maker is.
    namespace::unshare(Namespaces::CGROUP).step("make a cgroup namespace")?;
    // Before any mount, else they could spread to the monitor's namespace, and from it to ours.
    mount::make_private(std::path::Path::new("/")).step("make mounts private")?;
    // Over `/`, the one directory that even a stranger may enter; pivot_root wants a mount here.
    let host_root = path::root().step("open /")?;
    mount::attach(root.as_fd(), host_root.as_fd()).step("attach the root file system")?;
    let standard = mounts::attach_standard(root.as_fd(), spec, devices, &job.views)?;
    // Masks before the spec's own mounts, which could otherwise stand in their way.
    mounts::mask(&standard)?;
    mounts::attach_own(root.as_fd(), &spec.mounts, own_mounts, &standard)?;
    // After the last look at anything of the host's; from here on its files are gone for good.
    pivot(root.as_fd())?;
    if spec.read_only_root {
        // Late, because missing mount points have been made in it.
        mount::add_attributes(root.as_fd(), Attributes::READ_ONLY).step("protect the root")?;
    }
    drop((root, host_root, standard));
    namespace::set_hostname(&spec.hostname).step("set the host name")?;
    namespace::bring_loopback_up().step("bring the loopback device up")?;
    // In the container's own devpts, as its root, before that is given up.
    let master = streams.open_terminal(spec.process.as_ref())?;
    // Last with capabilities. Whatever follows is bound by the filter.
    restrictions.apply()?;
    // A change of user resets both: that the monitor's end is ours, and that nobody inside may
    // look into this process, which still holds the monitor's memory and later is the reaper.
    process::forbid_inspection().step("forbid inspection")?;
    process::die_with_parent().step("bind to the monitor's life")?;
    let master: Vec<_> = master.iter().map(AsFd::as_fd).collect();
    protocol::send(monitor, &Sign::Ready, &master).step("report to the monitor")
}

/// The end of the monitor between the two calls of `die_with_parent` shows here.
fn await_start(monitor: BorrowedFd<'_>) -> Result<(), Failure> {
    match protocol::receive::<Word>(monitor).step("wait for start")?.0 {
        Word::Start => Ok(()),
        Word::Go(_) => Err(Failure::new("wait for start", std::io::ErrorKind::InvalidData.into())),
    }
}

fn run(job: &CreateJob, monitor: &OwnedFd, streams: &Streams) -> Result<(), Failure> {
    // Mounts, the terminal's master, files of the monitor: nothing of it is for the program.
    let mut kept = streams.descriptors();
    kept.push(monitor.as_fd());
    process::close_all_but(&kept).step("close inherited descriptors")?;
    match &job.spec.process {
        Some(process) if !job.spec.init => Err(launch::execute(process, streams, monitor.as_fd())),
        process => reaper::run(process.as_ref(), streams, monitor.as_fd()),
    }
}

type Claimed = (OwnedFd, Vec<OwnedFd>, Vec<Option<OwnedFd>>);

fn claim(furniture: Furniture) -> std::io::Result<Claimed> {
    let root = process::inherited(furniture.root)?;
    let devices =
        furniture.devices.into_iter().map(process::inherited).collect::<Result<_, _>>()?;
    let own = furniture
        .mounts
        .into_iter()
        .map(|number| number.map(process::inherited).transpose())
        .collect::<Result<_, _>>()?;
    Ok((root, devices, own))
}

/// User and group 0 of the user namespace, so that what is made from here on has an owner.
pub(super) fn become_root() -> Result<(), Failure> {
    credentials::set_groups(&[]).step("give up the host's groups")?;
    credentials::set_group(0).step("become group 0")?;
    credentials::set_user(0).step("become user 0")
}

fn pivot(root: BorrowedFd<'_>) -> Result<(), Failure> {
    path::change_directory(root).step("enter the root file system")?;
    mount::pivot_to_current_directory().step("pivot_root")?;
    mount::detach(std::path::Path::new(".")).step("detach the host's root")?;
    std::env::set_current_dir("/").step("enter /")
}
