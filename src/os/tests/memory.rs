use std::fs;
use std::os::fd::AsFd;
use std::ptr;
use std::sync::atomic::Ordering;

use super::Arena;
use super::children::fork;
use crate::os::memfd::{self, FileId};
use crate::os::mmap::{ForkPage, Mapping};
use crate::os::pidfd::Reaped;

const PAGE: usize = 4096;
const NOBODY: FileId = FileId { dev: 0, ino: 0 };

/// How many pages of the file exist.
fn pages(arena: &Arena) -> i64 {
    let page = crate::os::page_size() as i64;
    rustix::fs::fstat(&arena.fd).unwrap().st_blocks * 512 / page
}

#[test]
fn the_file_keeps_its_size_and_has_no_pages() {
    let arena = Arena::new();
    assert_eq!(memfd::len(&arena.fd).unwrap(), 1 << 20);
    assert_eq!(pages(&arena), 0);
    for len in [0, 1 << 10, 1 << 21] {
        let error = rustix::fs::ftruncate(&arena.fd, len).unwrap_err();
        assert_eq!(error, rustix::io::Errno::PERM);
    }
    let more = rustix::fs::fcntl_add_seals(&arena.fd, rustix::fs::SealFlags::WRITE);
    assert_eq!(more, Err(rustix::io::Errno::PERM));
    let flags = rustix::io::fcntl_getfd(&arena.fd).unwrap();
    assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
}

#[test]
fn a_file_is_told_from_others() {
    let (one, two) = (Arena::new(), Arena::new());
    assert_eq!(memfd::file_id(one.fd.try_clone().unwrap()).unwrap(), one.id);
    assert_ne!(one.id, two.id);
    assert!(memfd::is_sealed_memfd(&one.fd));
    let open = rustix::fs::memfd_create("test", rustix::fs::MemfdFlags::ALLOW_SEALING).unwrap();
    assert!(!memfd::is_sealed_memfd(&open));
    assert!(!memfd::is_sealed_memfd(
        fs::File::open("/dev/null").unwrap()
    ));
}

#[test]
fn two_mappings_show_one_memory() {
    let arena = Arena::new();
    let other = Mapping::shared(&arena.fd, arena.map.len()).unwrap();
    assert_ne!(other.base(), arena.map.base());
    arena.word().store(7, Ordering::SeqCst);
    // SAFETY: the page is mapped; nobody writes to it here.
    assert_eq!(unsafe { ptr::read_volatile(other.base().cast::<u32>()) }, 7);
}

/// The flags that the kernel shows for a mapping.
fn vm_flags(map: &Mapping) -> String {
    let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
    let start = format!("{:x}-", map.base() as usize);
    let mut lines = smaps.lines().skip_while(|line| !line.starts_with(&start));
    lines
        .find(|line| line.starts_with("VmFlags"))
        .unwrap()
        .to_owned()
}

#[test]
fn the_mapping_is_neither_dumped_nor_copied() {
    let flags = vm_flags(&Arena::new().map);
    for wanted in ["rd", "wr", "sh", "dc", "dd"] {
        assert!(
            flags.split(' ').any(|flag| flag == wanted),
            "{wanted}: {flags}"
        );
    }
}

#[test]
fn a_forked_child_finds_a_hole_and_can_map_there() {
    let arena = Arena::new();
    let page = crate::os::page_size();
    let child = fork(|| {
        let base = arena.map.base().cast();
        // SAFETY: the flag moves no byte.
        let seen = unsafe { rustix::mm::msync(base, page, rustix::mm::MsyncFlags::ASYNC) };
        if seen != Err(rustix::io::Errno::NOMEM) {
            return 1;
        }
        if !arena.join() {
            return 2;
        }
        // What is there now is not replaced.
        match Mapping::shared_at(&arena.fd, arena.map.base(), arena.map.len()) {
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => 0,
            _ => 3,
        }
    });
    assert_eq!(child.join(), Reaped::Exited(0));
    assert_eq!(arena.word().load(Ordering::SeqCst), 1);
}

#[test]
fn dropped_in_a_forked_child_it_unmaps_nothing() {
    let page = crate::os::page_size();
    // The heap kind is copied into the child, so that it can be seen there.
    let map = Mapping::heap(page).unwrap();
    let base = map.base();
    let mut map = Some(map);
    let child = fork(|| {
        drop(map.take());
        // SAFETY: the flag moves no byte.
        let seen = unsafe { rustix::mm::msync(base.cast(), page, rustix::mm::MsyncFlags::ASYNC) };
        i32::from(seen.is_err())
    });
    assert_eq!(child.join(), Reaped::Exited(0));
}

#[test]
fn memory_that_is_locked_in_advance_stays_sparse() {
    let fd = memfd::create("test", 1 << 30).unwrap();
    let child = fork(|| {
        if rustix::mm::mlockall(rustix::mm::MlockAllFlags::FUTURE).is_err() {
            return 1;
        }
        let Ok(map) = Mapping::shared(&fd, 1 << 30) else {
            return 2;
        };
        if rustix::fs::fstat(&fd).map_or(1, |stat| stat.st_blocks) != 0 {
            return 3;
        }
        if map.populate(None, NOBODY, 0, PAGE).is_err() {
            return 4;
        }
        i32::from(map.discard(0, 1 << 20).is_err()) * 5
    });
    assert_eq!(child.join(), Reaped::Exited(0));
}

#[test]
fn pages_come_and_go() {
    let page = crate::os::page_size();
    let arena = Arena::new();
    let fd = Some(arena.fd.as_fd());
    arena
        .map
        .populate(fd, arena.id, 3 * page, 5 * page)
        .unwrap();
    assert_eq!(pages(&arena), 5);
    // A range that begins and ends within pages takes all that it touches.
    arena
        .map
        .populate(None, NOBODY, 10 * page + 1, page)
        .unwrap();
    assert_eq!(pages(&arena), 7);
    arena.word().store(9, Ordering::SeqCst);
    arena.map.populate(fd, arena.id, 0, page).unwrap();
    assert_eq!(arena.word().load(Ordering::SeqCst), 9);
    assert_eq!(pages(&arena), 8);

    // Given back are only whole pages.
    arena.map.discard(10 * page + 1, 2 * page - 2).unwrap();
    assert_eq!(pages(&arena), 8);
    arena.map.discard(3 * page - 1, 4 * page).unwrap();
    assert_eq!(pages(&arena), 5);
    arena.map.discard(0, page).unwrap();
    assert_eq!(arena.word().load(Ordering::SeqCst), 0);

    arena.map.populate(fd, arena.id, 5, 0).unwrap();
    arena.map.discard(5, 0).unwrap();
}

#[test]
fn a_range_outside_of_the_mapping_is_refused() {
    let arena = Arena::new();
    let len = arena.map.len();
    for (offset, more) in [(0, len + 1), (len, 1), (usize::MAX, 2), (len + 1, 0)] {
        let refused = [
            arena.map.populate(None, NOBODY, offset, more),
            arena.map.discard(offset, more),
        ];
        for result in refused {
            assert_eq!(result.unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
        }
    }
    assert_eq!(pages(&arena), 0);
}

#[test]
fn shortage_is_an_error_and_no_signal() {
    let page = crate::os::page_size();
    // Beyond the end of its file a mapping can have no pages.
    let fd = memfd::create("test", page as u64).unwrap();
    let map = Mapping::shared(&fd, 2 * page).unwrap();
    let results = [
        map.populate(Some(fd.as_fd()), NOBODY, page, page),
        map.touch(page..2 * page),
    ];
    for result in results {
        assert_eq!(result.unwrap_err().kind(), std::io::ErrorKind::OutOfMemory);
    }
    map.populate(None, NOBODY, 0, page).unwrap();
}

/// Runs the body where the kernel knows no `MADV_POPULATE_WRITE`.
fn before_5_14(body: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            super::refuse(libc::SYS_madvise, libc::EINVAL);
            body();
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

#[test]
fn old_kernels_ask_the_file_only_if_it_is_the_right_one() {
    let page = crate::os::page_size();
    let (arena, other) = (Arena::new(), Arena::new());
    before_5_14(|| {
        arena
            .map
            .populate(Some(arena.fd.as_fd()), arena.id, 0, 1 << 20)
            .unwrap();
        assert_eq!(pages(&arena), (1 << 20) / page as i64);
    });
    let arena = Arena::new();
    before_5_14(|| {
        // The number means another file by now.
        arena
            .map
            .populate(Some(other.fd.as_fd()), arena.id, page, 2 * page)
            .unwrap();
        assert_eq!((pages(&arena), pages(&other)), (2, 0));
        arena.map.populate(None, arena.id, 0, page).unwrap();
        assert_eq!((pages(&arena), pages(&other)), (3, 0));
    });
}

#[test]
fn touching_changes_nothing() {
    let arena = Arena::new();
    for value in [0, 5, u32::MAX, i32::MIN as u32] {
        arena.word().store(value, Ordering::SeqCst);
        arena.map.touch(0..arena.map.len()).unwrap();
        assert_eq!(arena.word().load(Ordering::SeqCst), value);
    }
    assert_eq!(pages(&arena), (1 << 20) / crate::os::page_size() as i64);
}

#[test]
fn the_heap_needs_no_pages_secured() {
    let page = crate::os::page_size();
    let map = Mapping::heap(4 * page).unwrap();
    map.populate(None, NOBODY, 0, 4 * page).unwrap();
    // SAFETY: the page is mapped and nobody else knows it.
    unsafe { map.base().write_bytes(0xff, 4 * page) };
    map.discard(page, 2 * page).unwrap();
    // SAFETY: the bytes are mapped and written, nobody writes meanwhile.
    let bytes = unsafe { std::slice::from_raw_parts(map.base(), 4 * page) };
    assert!(bytes[page..3 * page].iter().all(|byte| *byte == 0));
    assert!(bytes[..page].iter().all(|byte| *byte == 0xff));
    assert!(bytes[3 * page..].iter().all(|byte| *byte == 0xff));
}

#[test]
fn a_forked_child_is_told_from_its_parent() {
    let page = ForkPage::new().unwrap();
    assert!(page.intact());
    let child = fork(|| {
        if page.intact() {
            return 1;
        }
        page.rearm();
        if !page.intact() {
            return 2;
        }
        match fork(|| i32::from(page.intact())).join() {
            Reaped::Exited(0) => i32::from(!page.intact()) * 3,
            _ => 4,
        }
    });
    assert_eq!(child.join(), Reaped::Exited(0));
    assert!(page.intact());
}
