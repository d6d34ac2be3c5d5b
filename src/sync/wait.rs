//! The blocking loop, the same for everything that can be waited for.

use super::EventCount;
use super::asked::Asked;
use crate::arena::{Arena, Block};
use crate::os::clock::{self, Deadline};
use crate::primitive::private::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

/// The longest sleep before the state and the owner that stands in the way are looked at again: what a wake-up lost by
/// a kill can cost.
pub(super) const SLICE: Duration = Duration::from_millis(100);
/// How long a `try_` form waits for a living peer that is in the middle of its own operation.
const BRIEFLY: Duration = Duration::from_millis(1);
const MAX_SPINS: u32 = 512;
const MIN_SPINS: u32 = 8;
/// Shorter, and the peer ran on this CPU: a sleep costs nothing there. Longer, and spinning would not have lasted.
const WORTH_SPINNING: std::ops::Range<Duration> =
    Duration::from_micros(6)..Duration::from_micros(60);
const MAX_TURN: u32 = 4;
const YIELDS: u32 = 4;
/// Some dozens of messages' time, few microseconds: shorter ones bring the two together again and again.
const LINGER: u32 = 64;

/// How many waits in a row go without spinning, once it has ceased to pay, before it is tried again.
const ABSTAIN: u32 = 64;

/// What a process knows about waiting for an event: how long spinning has paid lately, and whose end would end the wait.
#[derive(Debug)]
pub(crate) struct Spin {
    budget: AtomicU32,
    abstained: AtomicU32,
    /// The object whose last holder, when it lets go, makes the event come; nobody does so for one that is killed.
    watched: OnceLock<Block>,
    /// When that was last seen to. Also where there is no such object but owners who may be dead.
    pub(super) asked: Asked,
}

impl Default for Spin {
    fn default() -> Self {
        Spin {
            budget: AtomicU32::new(MAX_SPINS / 2),
            abstained: AtomicU32::new(0),
            watched: OnceLock::new(),
            asked: Asked::default(),
        }
    }
}

impl Spin {
    /// From now on who waits sees to it that this object goes when all its holders have died.
    pub(crate) fn watch(&self, object: Block) {
        self.watched.get_or_init(|| object);
    }

    /// What [`watch`](Self::watch) was told of.
    pub(super) fn watched(&self) -> Option<Block> {
        self.watched.get().copied()
    }

    /// For who does not wait, or not for long: asks whether its holders have died, unless that was done a short while ago. True when
    /// it was time to ask.
    #[cold]
    pub(crate) fn ask(&self, arena: &Arena) -> bool {
        let due = self.asked.may_ask(clock::milliseconds());
        if due {
            self.tend(arena);
        }
        due
    }

    fn tend(&self, arena: &Arena) {
        if let Some(watched) = self.watched() {
            arena.tend(watched);
        }
    }

    /// Leaves the other side alone for a moment, before its lines are looked at again; false where that gains nothing.
    pub(crate) fn linger(&self) -> bool {
        if single_cpu() || self.budget.load(Relaxed) == 0 {
            return false;
        }
        for _ in 0..LINGER {
            std::hint::spin_loop();
        }
        true
    }

    fn budget(&self) -> u32 {
        if single_cpu() {
            return 0;
        }
        let budget = self.budget.load(Relaxed);
        if budget > 0 {
            return budget;
        }
        let abstained = self.abstained.load(Relaxed) + 1;
        self.abstained.store(abstained % ABSTAIN, Relaxed);
        if abstained < ABSTAIN {
            0
        } else {
            MIN_SPINS * 4
        }
    }

    /// It came: however quickly this time, the next time may take longer, and a sleep costs more than the longest spin.
    fn won(&self) {
        let old = self.budget.load(Relaxed);
        self.budget
            .store(old + (MAX_SPINS - old).div_ceil(8), Relaxed);
    }

    /// It came as soon as this process gave way: its peer runs on the same CPU, where nothing comes of spinning.
    fn yielded(&self) {
        let old = self.budget.load(Relaxed);
        let half = old / 2;
        self.budget
            .store(if half < MIN_SPINS { 0 } else { half }, Relaxed);
    }

    fn lost(&self) {
        let old = self.budget.load(Relaxed);
        self.budget.store((old / 2).max(MIN_SPINS), Relaxed);
    }

    /// The sleep was short, and dear: spinning would have been better.
    fn slept_in_vain(&self) {
        let old = self.budget.load(Relaxed);
        self.budget
            .store((old * 2).clamp(MIN_SPINS, MAX_SPINS), Relaxed);
    }
}

/// How long a process, once it has asked whether an owner lives, does not ask again before it has slept: the question costs
/// some hundred microseconds.
const ASK_EVERY: Duration = Duration::from_millis(10);

/// What a process knows about waiting for something that has an owner.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    pub(crate) spin: Spin,
    asked: Mutex<Option<Instant>>,
}

impl Patience {
    /// Whether it is time to ask about the owner, without having waited for it; who is told so asks.
    pub(super) fn may_ask(&self) -> bool {
        if cfg!(all(test, loom)) {
            return true;
        }
        let Ok(mut asked) = self.asked.try_lock() else {
            return false;
        };
        let due = asked.is_none_or(|last| last.elapsed() >= ASK_EVERY);
        if due {
            *asked = Some(Instant::now());
        }
        due
    }
}

/// How long one waits for what others take again and again until it asks for precedence: as in Go's mutex (`starvationThresholdNs`),
/// and parking_lot hands a lock over every half of it.
const LONG_WAIT: Duration = Duration::from_millis(1);
/// How long those who come later leave to sleepers what was released for them, whatever has happened to these: the time in which
/// who was woken runs.
const STAND_BACK: Duration = Duration::from_millis(10);

/// Where one stands among those who sleep for what is taken again and again. After a long wait it is released for sleepers alone: who
/// has just released it and is still awake would be first every time.
#[derive(Default)]
pub(super) struct Turn {
    first_slept: Option<Instant>,
    is_long: bool,
    is_next: bool,
}

impl Turn {
    /// Before a sleep: how long it may be. The first one ends when the wait has become a long one.
    pub(super) fn sleep(&mut self, now: Instant) -> Duration {
        let waited = now - *self.first_slept.get_or_insert(now);
        match (self.is_long, self.is_next) {
            (false, _) => LONG_WAIT.saturating_sub(waited),
            (true, false) => STAND_BACK.saturating_sub(waited),
            (true, true) => SLICE,
        }
    }

    /// After the sleep, and whether it was woken.
    pub(super) fn awake(&mut self, now: Instant, woken: bool) {
        let waited = self.first_slept.map_or(Duration::ZERO, |first| now - first);
        // In a model every wait is a long one.
        self.is_long = waited >= LONG_WAIT || cfg!(all(test, loom));
        self.is_next |= woken || waited >= STAND_BACK;
    }

    /// Whether it has slept at all.
    pub(super) fn has_slept(&self) -> bool {
        self.first_slept.is_some()
    }

    /// Whether those who come later should stand back.
    pub(super) fn is_long(&self) -> bool {
        self.is_long
    }

    /// Whether it may have what was released for sleepers.
    pub(super) fn is_next(&self) -> bool {
        self.is_next
    }
}

fn single_cpu() -> bool {
    static SINGLE: OnceLock<bool> = OnceLock::new();
    *SINGLE.get_or_init(|| crate::os::online_cpus() == 1)
}

/// What one attempt at an operation came to.
pub(crate) enum Progress<T> {
    Done(T),
    /// Nothing to be done until another process makes it possible.
    Blocked,
    /// A living process is in the middle of the operation before ours: it is a matter of instants.
    Busy,
}

/// A wait for one event.
pub(crate) struct Wait<'a> {
    pub(crate) arena: &'a Arena,
    pub(crate) event: &'a EventCount,
    pub(crate) spin: &'a Spin,
}

impl Wait<'_> {
    /// Tries until the attempt is done or the time is over. `hint` says cheaply whether an attempt is worth while.
    /// `attempt(slow)` may ask the kernel about the owner in its way when `slow` is set.
    pub(crate) fn until<T>(
        &self,
        deadline: Deadline,
        hint: impl Fn() -> bool,
        mut attempt: impl FnMut(bool) -> Progress<T>,
    ) -> Option<T> {
        let soon = self.soon(hint, &mut attempt);
        let look = |slow: bool, _| match attempt(slow) {
            Progress::Done(value) => Ok(value),
            Progress::Blocked | Progress::Busy => Err(SLICE),
        };
        soon.or_else(|| self.sleep_until(deadline, look))
    }

    /// The first half of `until`: tries for a while without sleeping.
    pub(super) fn soon<T>(
        &self,
        hint: impl Fn() -> bool,
        mut attempt: impl FnMut(bool) -> Progress<T>,
    ) -> Option<T> {
        let budget = self.spin.budget();
        let (mut spins, mut turn) = (0, 1);
        while spins < budget {
            // Longer and longer pauses: the peer gets on meanwhile with lines that nobody polls.
            for _ in 0..turn {
                std::hint::spin_loop();
            }
            spins += turn;
            turn = (turn * 2).min(MAX_TURN);
            if hint() {
                if let Progress::Done(value) = attempt(false) {
                    self.spin.won();
                    return Some(value);
                }
            }
        }
        for turn in 0..YIELDS {
            std::thread::yield_now();
            if hint() {
                if let Progress::Done(value) = attempt(false) {
                    if turn == 0 {
                        self.spin.yielded();
                    }
                    return Some(value);
                }
            }
        }
        self.spin.lost();
        None
    }

    /// The other half: sleeps between the attempts, of which the first comes before the first sleep. Each is told whether it may ask
    /// about owners and whether the sleep before it was ended by a wake-up, and says how long the next one may be.
    pub(super) fn sleep_until<T>(
        &self,
        deadline: Deadline,
        mut attempt: impl FnMut(bool, bool) -> Result<T, Duration>,
    ) -> Option<T> {
        let fences = self.arena.fences();
        let (mut slow, mut woken) = (false, false);
        // Since it first slept after the last question: a slice however often it is woken in between, for others' sake or by
        // a signal, and a sleep after every question, however long that took.
        let mut asleep_since = None;
        loop {
            let key = self.event.prepare(fences);
            let at_most = match attempt(slow, woken) {
                Ok(value) => return Some(value),
                Err(time) => time,
            };
            if deadline.expired() {
                // The last look came after the time was over, with the owner in the way asked about.
                return attempt(true, woken).ok();
            }
            let since = Instant::now();
            let asleep = *asleep_since.get_or_insert(since);
            let rest = SLICE.saturating_sub(since - asleep);
            woken = self.event.sleep(key, deadline.slice(rest.min(at_most)));
            let now = Instant::now();
            if WORTH_SPINNING.contains(&(now - since)) {
                self.spin.slept_in_vain();
            }
            // A whole slice without success: look whether somebody died.
            let whole = now - asleep >= SLICE;
            slow = whole || deadline.expired();
            if slow {
                asleep_since = None;
                self.arena.idle();
            }
            if whole {
                self.spin.asked.note(clock::milliseconds());
                self.spin.tend(self.arena);
            } else if slow {
                // Of many short waits not each asks.
                self.spin.ask(self.arena);
            }
        }
    }

    /// One attempt, and no wait but for a living peer in the middle of its own operation.
    pub(crate) fn once<T>(&self, mut attempt: impl FnMut(bool) -> Progress<T>) -> Option<T> {
        let deadline = Deadline::from(BRIEFLY);
        let mut spins = 0_u32;
        loop {
            let late = deadline.expired();
            // Whether the one in the way is dead is asked once at least: nobody else may come by for long.
            match attempt(late || spins > 100) {
                Progress::Done(value) => return Some(value),
                Progress::Blocked => return None,
                Progress::Busy if late => return None,
                Progress::Busy => {}
            }
            spins += 1;
            if spins > 50 {
                std::thread::yield_now();
            } else {
                std::hint::spin_loop();
            }
        }
    }
}
