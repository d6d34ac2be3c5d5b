//! Data in the arena behind a lock: the object, a process's side of it, and the typed guard, the only way to the bytes.
//!
//! ```text
//! 0    the lock's word; how often its holder has taken it; how many items there are
//! 64   the items (128 when they are aligned so)
//! ```

use super::raw_lock::{LockWord, RawLock, Refused, Taken};
use super::recursive::Recursive;
use super::wait::Patience;
use crate::arena::{self, Arena, Dead, Kind, Local, MemberId, Object, ObjectSpec, OwnedBlock};
use crate::arena::{Shared, View, Visitor};
use crate::error::Error;
use crate::os::clock::Deadline;
use crate::primitive::AtomicU64;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use zerocopy::{FromBytes, IntoBytes};

#[repr(C, align(64))]
pub(super) struct LockHeader {
    /// Most locks are not taken more than once.
    lock: Recursive,
    count: AtomicU64,
}

// SAFETY: atomics of any value.
unsafe impl Shared for LockHeader {}

/// A kind of object that is a lock with what it guards.
#[derive(Debug)]
pub(crate) struct LockKind {
    pub(crate) id: u32,
    pub(crate) name: &'static str,
}

impl Kind for LockKind {
    fn id(&self) -> u32 {
        self.id
    }

    fn name(&self) -> &'static str {
        self.name
    }

    fn repair(&self, object: View<'_>, dead: &Dead) {
        let header = object.get::<LockHeader>();
        let is_dead = |owner: MemberId| dead.contains(owner.into());
        if header.lock.raw.repair(is_dead, object.arena.fences()) {
            object.arena.count_repair();
        }
    }

    fn visit(&self, _: View<'_>, _: &mut Visitor<'_>) {}

    fn destroy(&self, _: View<'_>, _: &mut dyn FnMut(OwnedBlock<'_>)) {}

    fn is_in_use(&self, object: View<'_>) -> bool {
        let word = object.get::<LockHeader>().lock.raw.load();
        word.owner() == object.arena.me() && !word.is_forgotten()
    }
}

/// A process's side of a lock.
pub(crate) struct LocalLock {
    object: Object,
    header: *const LockHeader,
    patience: Patience,
}

// SAFETY: the header consists of atomics.
unsafe impl Send for LocalLock {}
// SAFETY: as above.
unsafe impl Sync for LocalLock {}

impl fmt::Debug for LocalLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalLock")
            .field("object", &self.object)
            .finish_non_exhaustive()
    }
}

impl Local for LocalLock {
    fn object(&self) -> &Object {
        &self.object
    }
}

impl LocalLock {
    /// This process's hold on an object of a [`LockKind`].
    pub(crate) fn new(object: Object) -> LocalLock {
        let header = std::ptr::from_ref(object.view().get::<LockHeader>());
        LocalLock {
            object,
            header,
            patience: Patience::default(),
        }
    }

    #[inline]
    pub(crate) fn arena(&self) -> &Arena {
        self.object.arena()
    }

    #[inline]
    fn inner(&self) -> &Recursive {
        // SAFETY: it lies in the object, which `object` keeps.
        let header = unsafe { &*self.header };
        &header.lock
    }

    #[inline]
    fn raw(&self) -> &RawLock {
        &self.inner().raw
    }

    /// Takes the lock. The caller is a member of the family.
    #[inline]
    pub(crate) fn lock(&self, deadline: Deadline) -> Result<Taken, Refused> {
        self.raw().lock(self.arena(), &self.patience, deadline)
    }

    /// Takes the lock, once more if the calling thread has it. The caller is a member of the family.
    pub(crate) fn lock_recursively(&self, deadline: Deadline) -> Result<Taken, Refused> {
        self.inner().lock(self.arena(), &self.patience, deadline)
    }

    /// Gives up one of the times that the calling thread has taken the lock; with the last one it is free.
    pub(crate) fn unlock_once(&self) {
        self.inner().unlock_once(self.arena().fences());
    }

    /// Gives up all the times that the calling thread has taken the lock for as long as `meanwhile` takes, and takes it as often
    /// again: how it was found then.
    pub(crate) fn suspend_whole<R>(&self, meanwhile: impl FnOnce() -> R) -> (Taken, R) {
        let depth = self.inner().unlock_whole(self.arena().fences());
        let result = meanwhile();
        let taken = self.inner().lock_whole(depth, self.arena(), &self.patience);
        (taken, result)
    }

    /// Leaves one of these times to [`release_kept`](Self::release_kept).
    pub(crate) fn keep_once(&self) {
        self.inner().keep_once();
    }

    /// Gives up one that was left; false when there is none, or the lock is another thread's.
    pub(crate) fn release_kept(&self) -> bool {
        self.inner().release_kept(self.arena())
    }

    /// Says that what the lock guards is what it should be. The caller holds it.
    pub(crate) fn mark_consistent(&self) {
        self.raw().mark_consistent();
    }

    /// Releases a lock that its holder left locked; false when it was not, or by one who has died since.
    pub(crate) fn release_forgotten(&self) -> bool {
        self.raw().release_forgotten(self.arena())
    }

    /// Whether somebody holds it.
    pub(crate) fn is_locked(&self) -> bool {
        self.raw().load().owner() != 0
    }

    /// Writes who holds it and in what state it is.
    pub(crate) fn describe(&self, f: &mut fmt::DebugStruct<'_, '_>) {
        if self.arena().check().is_err() {
            return;
        }
        let word: LockWord = self.raw().load();
        let holder = match word.owner() {
            0 => None,
            owner => Some(self.arena().pid_of(owner)),
        };
        f.field("locked", &holder.is_some());
        match holder {
            Some(Some(pid)) => _ = f.field("holder", &pid),
            Some(None) => _ = f.field("holder", &"dead"),
            None => {}
        }
        f.field("owner_died", &word.has_died());
    }

    /// Writes whether its holder left it locked, where that is possible.
    pub(crate) fn describe_left(&self, f: &mut fmt::DebugStruct<'_, '_>) {
        if self.arena().check().is_ok() {
            f.field("left_locked", &self.raw().load().is_forgotten());
        }
    }
}

/// Where the items of a lock lie in its object.
const fn data_at<T>() -> usize {
    assert!(
        align_of::<T>() <= 128,
        "shared memory aligns to 128 bytes at most"
    );
    if align_of::<T>() > size_of::<LockHeader>() {
        align_of::<T>()
    } else {
        size_of::<LockHeader>()
    }
}

/// A lock and the items that it guards. Clones are the same lock.
pub(crate) struct Locked<T> {
    local: Arc<LocalLock>,
    data: *mut [T],
}

// SAFETY: the items are reached through the lock alone, by one thread at a time, which may be any (`T: Send`).
unsafe impl<T: Send> Send for Locked<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Locked<T> {}

impl<T> Clone for Locked<T> {
    fn clone(&self) -> Self {
        Locked {
            local: self.local.clone(),
            data: self.data,
        }
    }
}

impl<T> fmt::Debug for Locked<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.local.fmt(f)
    }
}

/// What tells locks of other data apart.
pub(crate) fn type_hash<T>() -> u64 {
    type_hash_by::<T, T>()
}

/// The same where another type's name, of which this one is a part, stands for it. Two types can have one name: in two functions' bodies, or of
/// two versions of a crate.
pub(crate) fn type_hash_by<T, Name>() -> u64 {
    let name = arena::fnv(std::any::type_name::<Name>().as_bytes());
    name ^ arena::fnv(&(size_of::<T>() as u64 * 1024 + align_of::<T>() as u64).to_le_bytes())
}

impl<T: FromBytes + IntoBytes + Send + 'static> Locked<T> {
    /// A lock with so many items, all their bytes zero.
    pub(crate) fn zeroed(
        arena: &Arena,
        kind: &'static LockKind,
        count: usize,
    ) -> Result<Locked<T>, Error> {
        Locked::create(arena, kind, count, |_| {})
    }

    /// A lock with one item.
    pub(crate) fn one(arena: &Arena, kind: &'static LockKind, item: T) -> Result<Locked<T>, Error> {
        // SAFETY: there is one item, in an object that nobody else knows yet.
        Locked::create(arena, kind, 1, |data: *mut T| unsafe { data.write(item) })
    }

    /// A lock with these items.
    pub(crate) fn copied(
        arena: &Arena,
        kind: &'static LockKind,
        items: &[T],
    ) -> Result<Locked<T>, Error>
    where
        T: Copy,
    {
        Locked::create(arena, kind, items.len(), |data: *mut T| {
            // SAFETY: there is room for so many, in an object that nobody else knows yet.
            unsafe { data.copy_from_nonoverlapping(items.as_ptr(), items.len()) }
        })
    }

    fn create(
        arena: &Arena,
        kind: &'static LockKind,
        count: usize,
        fill: impl FnOnce(*mut T),
    ) -> Result<Locked<T>, Error> {
        let len = count
            .checked_mul(size_of::<T>())
            .and_then(|bytes| bytes.checked_add(const { data_at::<T>() }))
            .filter(|&len| len <= isize::MAX as usize / 2);
        let spec = ObjectSpec {
            kind,
            type_hash: type_hash::<T>(),
            len: len.ok_or(Error::NoMemory)? as u64,
        };
        let object = Object::create(arena, spec, |view| {
            view.get::<LockHeader>().count.store(count as u64, Relaxed);
            fill(data_of(view));
        })?;
        let local = Arc::new(LocalLock::new(object));
        arena.register(&local);
        Ok(Locked::of(local))
    }

    /// The same for a lock that somebody else made.
    ///
    /// # Panics
    /// When it was made with items of another type.
    pub(crate) fn of(local: Arc<LocalLock>) -> Locked<T> {
        let view = local.object.view();
        let count = view.get::<LockHeader>().count.load(Relaxed);
        let whole = count
            .checked_mul(size_of::<T>() as u64)
            .and_then(|bytes| bytes.checked_add(const { data_at::<T>() as u64 }));
        assert!(view.type_hash() == type_hash::<T>() && whole.is_some_and(|len| len <= view.len()));
        let data = std::ptr::slice_from_raw_parts_mut(data_of(view), count as usize);
        Locked { local, data }
    }
}

/// Where the items lie in the object.
fn data_of<T>(view: View<'_>) -> *mut T {
    view.base().wrapping_add(const { data_at::<T>() }).cast()
}

impl<T> Locked<T> {
    #[inline]
    pub(crate) fn local(&self) -> &Arc<LocalLock> {
        &self.local
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.data.len()
    }

    /// The guard of what the caller has just locked, by [`LocalLock::lock`] and not otherwise.
    #[inline]
    fn guard<D: ?Sized>(&self, data: *mut D) -> DataGuard<'_, D> {
        DataGuard {
            local: &self.local,
            data,
            made: PhantomData,
        }
    }

    /// Takes the lock of all items.
    #[inline]
    pub(crate) fn lock(&self, deadline: Deadline) -> Result<(Taken, DataGuard<'_, [T]>), Refused> {
        let taken = self.local.lock(deadline)?;
        Ok((taken, self.guard(self.data)))
    }

    /// Takes the lock of the only item.
    #[inline]
    pub(crate) fn lock_one(
        &self,
        deadline: Deadline,
    ) -> Result<(Taken, DataGuard<'_, T>), Refused> {
        debug_assert_eq!(self.len(), 1);
        let taken = self.local.lock(deadline)?;
        Ok((taken, self.guard(self.data.cast::<T>())))
    }
}

/// The standard library's atomic integers: what several processes may use at the same time without a lock. Not to be implemented
/// outside this crate.
///
/// # Safety
/// Shared by any number of threads it may be changed by any of them.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no atomic integer: it can be reached under the lock only"
)]
#[allow(private_bounds, reason = "sealed")]
pub unsafe trait Atomic: FromBytes + IntoBytes + Send + Sync + Sealed + 'static {}

pub(crate) trait Sealed {}

macro_rules! atomics {
    ($($atomic:ident)*) => {
        $(
            impl Sealed for crate::primitive::plain::$atomic {}
            // SAFETY: an atomic.
            unsafe impl Atomic for crate::primitive::plain::$atomic {}
        )*
    };
}

atomics! {
    AtomicI8 AtomicI16 AtomicI32 AtomicI64 AtomicIsize AtomicU8 AtomicU16 AtomicU32 AtomicU64 AtomicUsize
}

impl<T: Atomic> Locked<T> {
    /// The items without the lock. Whoever makes locks of atomics gives nobody exclusive access to them.
    ///
    /// # Panics
    /// In a process that a foreign `fork` made.
    #[inline]
    pub(crate) fn shared(&self) -> &[T] {
        check(&self.local);
        // SAFETY: the object is there as long as `self`, and only shared references to its atomics are made.
        unsafe { &*self.data }
    }
}

/// In a process that a foreign `fork` made the data is not there.
#[inline]
fn check(local: &LocalLock) {
    assert!(
        local.arena().check().is_ok(),
        "this process was forked by other code and does not have the family's memory"
    );
}

/// The right to the data of a lock; drops release it. Of the thread that took it.
pub(crate) struct DataGuard<'a, D: ?Sized> {
    local: &'a LocalLock,
    data: *mut D,
    made: PhantomData<&'a mut D>,
}

// SAFETY: shared, it only lends the data to be read.
unsafe impl<D: ?Sized + Sync> Sync for DataGuard<'_, D> {}

impl<D: ?Sized> DataGuard<'_, D> {
    /// Says that the data is what it should be.
    pub(crate) fn mark_consistent(&self) {
        check(self.local);
        self.local.mark_consistent();
    }

    /// Releases the lock for as long as `meanwhile` takes, and takes it again: how it was found then.
    pub(crate) fn suspend<R>(&mut self, meanwhile: impl FnOnce() -> R) -> (Taken, R) {
        let local = self.local;
        local.raw().unlock(local.arena().fences());
        let result = meanwhile();
        let taken = local.raw().lock_again(local.arena(), &local.patience);
        (taken, result)
    }

    /// Leaves it locked, for anybody to release.
    pub(crate) fn forget(self) {
        if self.local.arena().check().is_ok() {
            self.local.raw().forget();
        }
        std::mem::forget(self);
    }
}

impl<D: ?Sized> Drop for DataGuard<'_, D> {
    #[inline]
    fn drop(&mut self) {
        let arena = self.local.arena();
        if arena.check().is_ok() {
            self.local.raw().unlock(arena.fences());
        }
    }
}

impl<D: ?Sized> Deref for DataGuard<'_, D> {
    type Target = D;

    #[inline]
    fn deref(&self) -> &D {
        check(self.local);
        // SAFETY: the object is there as long as `local`, all bytes are a `D` (`FromBytes`), and who holds the lock is alone
        // with them.
        unsafe { &*self.data }
    }
}

impl<D: ?Sized> DerefMut for DataGuard<'_, D> {
    #[inline]
    fn deref_mut(&mut self) -> &mut D {
        check(self.local);
        // SAFETY: as in `deref`, and `self` is borrowed exclusively.
        unsafe { &mut *self.data }
    }
}
