//! How much memory, address space and file this process may use.
#![allow(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, getrlimit};

/// Where nothing else is known, and as the least: enough for a few queues.
const LEAST: u64 = 1 << 20;

/// `sysconf(_SC_PHYS_PAGES)`, `read(memory.max)`, `read(memory.current)`: how much shared memory
/// to use unless told otherwise.
///
/// Half of the smaller of the machine's memory and what the control groups of this process leave.
/// Never zero, so that a full group means slow, not unusable.
pub(crate) fn default_memory_limit() -> u64 {
    (physical_memory().min(cgroup_headroom()) / 2).max(LEAST)
}

/// `getrlimit(RLIMIT_AS)`, `read("/proc/thread-self/statm")`: how much address space is left;
/// `u64::MAX` when it is unlimited.
pub(crate) fn address_space_headroom() -> u64 {
    let Some(limit) = getrlimit(Resource::As).current else {
        return u64::MAX;
    };
    let statm = fs::read_to_string("/proc/thread-self/statm").unwrap_or_default();
    let pages: u64 = statm
        .split(' ')
        .next()
        .and_then(|size| size.parse().ok())
        .unwrap_or(0);
    limit.saturating_sub(pages.saturating_mul(crate::os::page_size() as u64))
}

/// `getrlimit(RLIMIT_FSIZE)`: how long a file may get before SIGXFSZ; `u64::MAX` when unlimited.
pub(crate) fn file_size_limit() -> u64 {
    getrlimit(Resource::Fsize).current.unwrap_or(u64::MAX)
}

/// `sysconf(_SC_PHYS_PAGES)`
fn physical_memory() -> u64 {
    // SAFETY: the call takes no memory of ours.
    let pages = unsafe { libc::sysconf(libc::_SC_PHYS_PAGES) };
    let pages = u64::try_from(pages).unwrap_or(0);
    pages.saturating_mul(crate::os::page_size() as u64)
}

/// `read("/proc/thread-self/cgroup")`, `read("/proc/thread-self/mountinfo")`: what the groups leave,
/// `u64::MAX` without a limit.
fn cgroup_headroom() -> u64 {
    let groups = fs::read_to_string("/proc/thread-self/cgroup").unwrap_or_default();
    let mounts = fs::read_to_string("/proc/thread-self/mountinfo").unwrap_or_default();
    let mut headroom = u64::MAX;
    for (version, path) in groups.lines().filter_map(memory_group) {
        for mount in mounts
            .lines()
            .filter_map(|line| memory_mount(line, version))
        {
            headroom = headroom.min(walk(&mount, path, version));
        }
    }
    headroom
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    One,
    Two,
}

/// A line "id:controllers:path" of `/proc/PID/cgroup`, if it is about memory.
pub(super) fn memory_group(line: &str) -> Option<(Version, &str)> {
    let mut fields = line.splitn(3, ':');
    let (id, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
    if id == "0" && controllers.is_empty() {
        Some((Version::Two, path))
    } else if controllers.split(',').any(|name| name == "memory") {
        Some((Version::One, path))
    } else {
        None
    }
}

/// Where a hierarchy is mounted, and which of its groups is to be seen there.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mount {
    pub(super) root: PathBuf,
    pub(super) point: PathBuf,
}

/// A line of `/proc/PID/mountinfo`, if it is a hierarchy of this version that is about memory.
pub(super) fn memory_mount(line: &str, version: Version) -> Option<Mount> {
    let (place, kind) = line.split_once(" - ")?;
    let mut kind = kind.split(' ');
    let wanted = match version {
        Version::One => "cgroup",
        Version::Two => "cgroup2",
    };
    if kind.next()? != wanted {
        return None;
    }
    let options = kind.nth(1)?;
    if version == Version::One && !options.split(',').any(|name| name == "memory") {
        return None;
    }
    let mut place = place.split(' ').skip(3);
    Some(Mount {
        root: place.next()?.into(),
        point: place.next()?.into(),
    })
}

/// The least headroom of a group and its ancestors, as far up as they are to be seen.
pub(super) fn walk(mount: &Mount, path: &str, version: Version) -> u64 {
    // A path outside of the mount is that of another cgroup namespace: its top is all there is.
    let below = Path::new(path)
        .strip_prefix(&mount.root)
        .unwrap_or(Path::new(""));
    let group = mount.point.join(below);
    let groups = group
        .ancestors()
        .take_while(|group| group.starts_with(&mount.point));
    groups
        .map(|group| headroom(group, version))
        .min()
        .unwrap_or(u64::MAX)
}

/// What one group leaves.
fn headroom(group: &Path, version: Version) -> u64 {
    let (limits, usage): (&[&str], &str) = match version {
        Version::One => (&["memory.limit_in_bytes"], "memory.usage_in_bytes"),
        // Above `high` the kernel slows the group down to a crawl.
        Version::Two => (&["memory.max", "memory.high"], "memory.current"),
    };
    let limit = limits
        .iter()
        .filter_map(|name| number(&group.join(name)))
        .min();
    let Some(limit) = limit else {
        return u64::MAX;
    };
    let usage = number(&group.join(usage)).unwrap_or(0);
    limit.saturating_sub(usage.saturating_sub(reclaimable(group, version)))
}

/// The part of a group's usage that is nothing but a cache of files. A container that has read a
/// lot would otherwise look full.
fn reclaimable(group: &Path, version: Version) -> u64 {
    let stat = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
    let wanted = match version {
        Version::One => ["total_inactive_file", "total_active_file"],
        Version::Two => ["inactive_file", "active_file"],
    };
    let pairs = stat.lines().filter_map(|line| line.split_once(' '));
    let sizes = pairs.filter(|(name, _)| wanted.contains(name));
    let sizes = sizes.filter_map(|(_, size)| size.trim().parse::<u64>().ok());
    sizes.fold(0, u64::saturating_add)
}

/// A file that holds one number; `None` for "max" and for what is not there.
fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}
