//! `dl_iterate_phdr`, `getauxval`: the program that this process runs, as it lies in memory.
//!
//! A function is named across processes by its offset in the *main image*, the one that `execve` loads. Each process
//! loads it at an address of its own; the offset is the same in all that run the same build.

#![allow(unsafe_code)]

use std::ffi::{c_char, c_int, c_void};
use std::io;
use std::sync::OnceLock;

use libc::{Elf64_Phdr, dl_phdr_info};

const DT_NULL: i64 = 0;
const DT_INIT_ARRAY: i64 = 25;
const DT_INIT_ARRAYSZ: i64 = 27;
const NT_GNU_BUILD_ID: u32 = 3;

/// A constructor as the C runtime calls it.
pub(crate) type Constructor = extern "C" fn(c_int, *const *const c_char, *const *const c_char);

/// The main image: where it was loaded and its program headers.
struct Image {
    base: usize,
    headers: &'static [Elf64_Phdr],
}

/// One entry of the dynamic section.
#[repr(C)]
#[derive(Clone, Copy)]
struct Dynamic {
    tag: i64,
    value: u64,
}

/// The offset of the function at `address` in the main image.
///
/// # Errors
///
/// `Unsupported` when the address is in no executable segment of the main image: the function is part of a shared
/// library, which a child may load elsewhere or not at all.
pub(crate) fn image_offset(address: usize) -> io::Result<u64> {
    let image = Image::main()?;
    let offset = address.wrapping_sub(image.base) as u64;
    if !image.is_executable(offset) {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "the function is not in the main program but in a shared library: a child cannot find it",
        ));
    }
    Ok(offset)
}

/// The address in this process of what [`image_offset`] has named, possibly in another one.
///
/// # Errors
///
/// `InvalidData` when the offset is in no executable segment of the main image.
pub(crate) fn image_address(offset: u64) -> io::Result<usize> {
    let image = Image::main()?;
    if !image.is_executable(offset) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the offset of a function is outside of the program's code",
        ));
    }
    Ok(image.base.wrapping_add(offset as usize))
}

/// A number that is the same in two processes that run the same build of the same program.
///
/// It is made from the linker's build id. A program linked without one is known by its program headers and the code of
/// this function's neighbourhood, which tells most builds apart but not all.
///
/// # Errors
///
/// When the main image cannot be found.
pub(crate) fn build_identity() -> io::Result<u64> {
    static IDENTITY: OnceLock<u64> = OnceLock::new();
    if let Some(identity) = IDENTITY.get() {
        return Ok(*identity);
    }
    let image = Image::main()?;
    let mut hash = Hash::new();
    match image.build_id() {
        Some(id) => hash.add(id),
        None => image.describe(&mut hash),
    }
    Ok(*IDENTITY.get_or_init(|| hash.finish()))
}

/// Was the program started by the name of its loader (`ld.so ./program`)? Then `/proc/self/exe` is the loader.
pub(crate) fn is_run_by_loader() -> bool {
    // SAFETY: getauxval only reads the vector that the kernel left.
    let loader = unsafe { libc::getauxval(libc::AT_BASE) };
    let wants_loader =
        Image::main().is_ok_and(|image| image.headers.iter().any(|h| h.p_type == libc::PT_INTERP));
    loader == 0 && wants_loader
}

/// Did the kernel raise this process's rights when it started the program (set-user-id, file capabilities)?
pub(crate) fn is_secure_execution() -> bool {
    // SAFETY: getauxval only reads the vector that the kernel left.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// The main image's constructors that come after the one whose table entry is at `entry`; all of them when the entry is
/// not in the main image's table (this crate is part of a shared library then, whose constructors came first).
///
/// Empty in a static program that is not relocatable: it has no dynamic section to look the table up in.
pub(crate) fn constructors_after(entry: usize) -> Vec<Constructor> {
    let Ok(image) = Image::main() else {
        return Vec::new();
    };
    let (Some(start), Some(size)) = (image.dynamic(DT_INIT_ARRAY), image.dynamic(DT_INIT_ARRAYSZ))
    else {
        return Vec::new();
    };
    let start = image.base.wrapping_add(start as usize);
    let end = start + size as usize;
    let first = if (start..end).contains(&entry) {
        entry + size_of::<usize>()
    } else {
        start
    };
    (first..end)
        .step_by(size_of::<usize>())
        .map(|at| {
            // SAFETY: the dynamic section says that the table is here; the loader has relocated it.
            unsafe { std::ptr::with_exposed_provenance::<usize>(at).read() }
        })
        // Both stand for "no function" in such tables.
        .filter(|&address| address != 0 && address != usize::MAX)
        .map(|address| {
            let function = std::ptr::with_exposed_provenance::<()>(address);
            // SAFETY: entries of this table are functions of this type by the ELF specification.
            unsafe { std::mem::transmute::<*const (), Constructor>(function) }
        })
        .collect()
}

impl Image {
    fn main() -> io::Result<&'static Image> {
        static MAIN: OnceLock<Option<Image>> = OnceLock::new();
        MAIN.get_or_init(|| {
            let mut found = None;
            // SAFETY: the callback has the type that is asked for and gets a pointer to `found`.
            unsafe { libc::dl_iterate_phdr(Some(take_first), (&raw mut found).cast()) };
            found
        })
        .as_ref()
        .ok_or_else(|| io::Error::new(io::ErrorKind::Unsupported, "the program has no ELF headers"))
    }

    fn is_executable(&self, offset: u64) -> bool {
        self.headers.iter().any(|h| {
            h.p_type == libc::PT_LOAD && h.p_flags & libc::PF_X != 0 && contains(h, offset, 1)
        })
    }

    /// Bytes of the image that nobody may change.
    fn constant(&self, offset: u64, len: usize) -> Option<&'static [u8]> {
        let readable = |h: &&Elf64_Phdr| {
            let kind = h.p_flags & (libc::PF_R | libc::PF_W);
            h.p_type == libc::PT_LOAD && kind == libc::PF_R && contains(h, offset, len as u64)
        };
        self.headers.iter().find(readable)?;
        let start =
            std::ptr::with_exposed_provenance::<u8>(self.base.wrapping_add(offset as usize));
        // SAFETY: the bytes are in a readable, not writable segment of the main image, which is never unmapped.
        Some(unsafe { std::slice::from_raw_parts(start, len) })
    }

    fn dynamic(&self, tag: i64) -> Option<u64> {
        let header = self.headers.iter().find(|h| h.p_type == libc::PT_DYNAMIC)?;
        let start = self.base.wrapping_add(header.p_vaddr as usize);
        let count = header.p_memsz as usize / size_of::<Dynamic>();
        (0..count)
            .map(|i| {
                let at = start + i * size_of::<Dynamic>();
                // SAFETY: the header says that so many entries are here.
                unsafe { std::ptr::with_exposed_provenance::<Dynamic>(at).read() }
            })
            .take_while(|entry| entry.tag != DT_NULL)
            .find(|entry| entry.tag == tag)
            .map(|entry| entry.value)
    }

    fn build_id(&self) -> Option<&'static [u8]> {
        self.headers
            .iter()
            .filter(|h| h.p_type == libc::PT_NOTE)
            .find_map(|h| {
                let notes = self.constant(h.p_vaddr, h.p_memsz as usize)?;
                find_note(notes, h.p_align.max(4) as usize, b"GNU\0", NT_GNU_BUILD_ID)
            })
    }

    fn describe(&self, hash: &mut Hash) {
        for h in self.headers {
            hash.add(&h.p_type.to_ne_bytes());
            hash.add(&h.p_flags.to_ne_bytes());
            for word in [h.p_offset, h.p_vaddr, h.p_filesz, h.p_memsz] {
                hash.add(&word.to_ne_bytes());
            }
        }
        let here = (build_identity as fn() -> io::Result<u64> as usize).wrapping_sub(self.base);
        if let Some(code) = self.constant(here as u64, 64) {
            hash.add(code);
        }
    }
}

/// Takes the first image that `dl_iterate_phdr` shows, which is the main one.
unsafe extern "C" fn take_first(
    info: *mut dl_phdr_info,
    _size: usize,
    found: *mut c_void,
) -> c_int {
    // SAFETY: dl_iterate_phdr passes a valid record.
    let info = unsafe { &*info };
    let headers =
        // SAFETY: the record says that so many headers are there; they are part of the image and stay.
        unsafe { std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
    let image = Image {
        base: info.dlpi_addr as usize,
        headers,
    };
    // SAFETY: `main` passes a pointer to such a variable, and nobody else looks at it meanwhile.
    unsafe { found.cast::<Option<Image>>().write(Some(image)) };
    1
}

fn contains(header: &Elf64_Phdr, offset: u64, len: u64) -> bool {
    offset
        .checked_sub(header.p_vaddr)
        .and_then(|within| within.checked_add(len))
        .is_some_and(|end| end <= header.p_memsz)
}

/// Looks through a note segment: records of three words {name length, content length, type}, name, content.
fn find_note<'a>(
    mut notes: &'a [u8],
    align: usize,
    wanted: &[u8],
    wanted_kind: u32,
) -> Option<&'a [u8]> {
    loop {
        let (head, rest) = notes.split_at_checked(12)?;
        let word = |i: usize| u32::from_ne_bytes([head[i], head[i + 1], head[i + 2], head[i + 3]]);
        let (name_len, content_len, kind) = (word(0) as usize, word(4) as usize, word(8));
        let content_at = name_len.checked_next_multiple_of(4)?;
        let name = rest.get(..name_len)?;
        let content = rest.get(content_at..content_at.checked_add(content_len)?)?;
        if name == wanted && kind == wanted_kind {
            return Some(content);
        }
        let next = content_at
            .checked_add(content_len)?
            .checked_next_multiple_of(align)?;
        notes = rest.get(next..)?;
    }
}

/// FNV-1a: no secret is kept by it, it only tells mistakes apart.
#[derive(Debug)]
pub(crate) struct Hash(u64);

impl Hash {
    /// A hash of nothing yet.
    pub(crate) const fn new() -> Hash {
        Hash(0xcbf2_9ce4_8422_2325)
    }

    /// Adds bytes. Two calls count as one with the bytes of both.
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// The number.
    pub(crate) const fn finish(&self) -> u64 {
        // FNV leaves the high bits of short inputs poor.
        let mixed = (self.0 ^ (self.0 >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^ (mixed >> 29)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &[u8], kind: u32, content: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for word in [name.len() as u32, content.len() as u32, kind] {
            bytes.extend_from_slice(&word.to_ne_bytes());
        }
        for part in [name, content] {
            bytes.extend_from_slice(part);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        bytes
    }

    #[test]
    fn a_function_of_the_program_has_an_offset_that_leads_back() {
        let address = image_offset as fn(usize) -> io::Result<u64> as usize;
        let offset = image_offset(address).unwrap();
        assert_eq!(image_address(offset).unwrap(), address);
    }

    #[test]
    fn data_and_libraries_have_no_offset() {
        static DATA: u8 = 1;
        assert!(image_offset(&raw const DATA as usize).is_err());
        let library = libc::getpid as unsafe extern "C" fn() -> i32 as usize;
        // In a static program the library is part of the image.
        if Image::main()
            .unwrap()
            .headers
            .iter()
            .any(|h| h.p_type == libc::PT_INTERP)
        {
            assert!(image_offset(library).is_err());
        }
        assert!(image_offset(0).is_err());
        assert!(image_address(u64::MAX).is_err());
        assert!(image_address(u64::MAX / 2).is_err());
    }

    #[test]
    fn the_identity_is_stable() {
        assert_eq!(build_identity().unwrap(), build_identity().unwrap());
    }

    #[test]
    fn notes_are_found_and_broken_ones_are_refused() {
        let mut notes = record(b"GNU\0", 1, &[9; 5]);
        notes.extend(record(b"GNU\0", NT_GNU_BUILD_ID, &[7; 20]));
        let found = |bytes| find_note(bytes, 4, b"GNU\0", NT_GNU_BUILD_ID);
        assert_eq!(found(&notes), Some(&[7; 20][..]));
        let other = record(b"GNU\0", 1, &[9; 5]);
        assert_eq!(found(&other), None);
        for len in 0..notes.len() - 20 {
            assert_eq!(found(&notes[..len]), None);
        }
        let mut wild = record(b"GNU\0", 1, &[9; 5]);
        wild[4..8].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert_eq!(found(&wild), None);
    }

    #[test]
    fn the_constructors_are_those_behind_the_entry() {
        let all = constructors_after(0);
        // The test program has at least the hook of `entry`.
        assert!(!all.is_empty());
    }
}
