use std::fs;
use std::path::Path;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::children::fork;
use super::{CHECKED, assert_checked, play, role};
use crate::os::limits::{self, Mount, Version};
use crate::os::mmap::Mapping;
use crate::os::pidfd::Reaped;
use crate::os::{memfd, mmap};

const MIB: u64 = 1 << 20;

#[test]
fn a_share_of_memory_is_left_to_others() {
    let limit = limits::default_memory_limit();
    let total = fs::read_to_string("/proc/meminfo").unwrap();
    let total = total
        .lines()
        .next()
        .unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap();
    let total = total.parse::<u64>().unwrap() * 1024;
    assert!(limit >= MIB);
    assert!(limit <= total / 2, "{limit} of {total}");
}

#[test]
fn lines_of_proc_are_understood() {
    assert_eq!(
        limits::memory_group("0::/a/b"),
        Some((Version::Two, "/a/b"))
    );
    assert_eq!(
        limits::memory_group("4:memory:/a:b"),
        Some((Version::One, "/a:b"))
    );
    assert_eq!(
        limits::memory_group("4:cpu,memory:/"),
        Some((Version::One, "/"))
    );
    assert_eq!(limits::memory_group("3:cpuset:/"), None);

    let two = "33 24 0:28 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate";
    let mount = limits::memory_mount(two, Version::Two).unwrap();
    assert_eq!(mount.root, Path::new("/"));
    assert_eq!(mount.point, Path::new("/sys/fs/cgroup"));
    assert_eq!(limits::memory_mount(two, Version::One), None);

    let one = "36 30 0:31 /box /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory";
    let mount = limits::memory_mount(one, Version::One).unwrap();
    assert_eq!(mount.root, Path::new("/box"));
    assert_eq!(limits::memory_mount(one, Version::Two), None);
    let cpu = "37 30 0:32 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu";
    assert_eq!(limits::memory_mount(cpu, Version::One), None);
}

/// A hierarchy of files as the kernel shows it.
struct Tree(std::path::PathBuf);

impl Tree {
    fn new(name: &str, files: &[(&str, &str)]) -> Tree {
        let name = format!("multiprocess-{}-{name}", std::process::id());
        let top = std::env::temp_dir().join(name);
        for (path, content) in files {
            let path = top.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        Tree(top)
    }

    fn walk(&self, root: &str, path: &str, version: Version) -> u64 {
        let (root, point) = (root.into(), self.0.clone());
        limits::walk(&Mount { root, point }, path, version)
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn the_tightest_group_decides() {
    let tree = Tree::new(
        "two",
        &[
            ("memory.stat", "anon 5\n"),
            ("a/memory.max", "1000\n"),
            ("a/memory.current", "400\n"),
            (
                "a/memory.stat",
                "anon 300\ninactive_file 60\nactive_file 40\nfile 5000\n",
            ),
            ("a/b/memory.max", "max\n"),
            ("a/b/memory.high", "max\n"),
            ("a/b/memory.current", "400\n"),
            ("a/c/memory.max", "max\n"),
            ("a/c/memory.high", "250\n"),
            ("a/c/memory.current", "200\n"),
            ("full/memory.max", "100\n"),
            ("full/memory.current", "130\n"),
        ],
    );
    let two = |root, path| tree.walk(root, path, Version::Two);
    assert_eq!(two("/", "/a/b"), 700, "a cache is not in the way");
    assert_eq!(two("/", "/a/c"), 50);
    assert_eq!(two("/", "/full"), 0);
    assert_eq!(two("/", "/"), u64::MAX);
    assert_eq!(two("/", "/missing"), u64::MAX);
    assert_eq!(two("/outer", "/outer/a/b"), 700, "only a part is mounted");
    assert_eq!(two("/outer", "/../elsewhere"), u64::MAX);
}

#[test]
fn the_old_hierarchy_is_understood() {
    let tree = Tree::new(
        "one",
        &[
            ("memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory.usage_in_bytes", "5000\n"),
            ("a/memory.limit_in_bytes", "1000\n"),
            ("a/memory.usage_in_bytes", "900\n"),
            (
                "a/memory.stat",
                "inactive_file 1\ntotal_inactive_file 10\ntotal_active_file 5\n",
            ),
        ],
    );
    assert_eq!(tree.walk("/", "/a", Version::One), 115);
}

#[test]
fn address_space_headroom_can_be_mapped() {
    const TEST: &str = "os::tests::limits::address_space_headroom_can_be_mapped";
    if role().is_none() {
        if getrlimit(Resource::As).current.is_none() {
            assert_eq!(limits::address_space_headroom(), u64::MAX);
        }
        return assert_checked(&play(&[], TEST, "limited"));
    }
    let limit = Rlimit {
        current: Some(8 << 30),
        maximum: getrlimit(Resource::As).maximum,
    };
    setrlimit(Resource::As, limit).unwrap();
    let headroom = limits::address_space_headroom();
    assert!(headroom > 1 << 30 && headroom < 8 << 30, "{headroom}");
    // The allocator may take some meanwhile.
    let (fits, much) = (headroom - 256 * MIB, headroom + 256 * MIB);
    let fd = memfd::create("test", much).unwrap();
    drop(Mapping::shared(&fd, fits as usize).unwrap());
    let error = Mapping::shared(&fd, much as usize).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOMEM));
    println!("{CHECKED}");
}

#[test]
fn a_file_beyond_the_limit_is_an_error_and_no_signal() {
    let child = fork(|| {
        let limit = Rlimit {
            current: Some(MIB),
            maximum: None,
        };
        if setrlimit(Resource::Fsize, limit).is_err() || limits::file_size_limit() != MIB {
            return 1;
        }
        match memfd::create("test", MIB + 1) {
            Err(error) if error.raw_os_error() == Some(libc::EFBIG) => {}
            _ => return 2,
        }
        let Ok(fd) = memfd::create("test", MIB) else {
            return 3;
        };
        let Ok(map) = mmap::Mapping::shared(&fd, MIB as usize) else {
            return 4;
        };
        let Ok(id) = memfd::file_id(&fd) else {
            return 5;
        };
        i32::from(map.populate(None, id, 0, MIB as usize).is_err())
    });
    assert_eq!(child.join(), Reaped::Exited(0));
}
