//! What a worker does: takes a job, runs its tasks one after the other, and leaves their outcomes on the job's card.
#![forbid(unsafe_code)]

use super::error::Fault;
use super::object::PoolHandle;
use super::record::{
    HEAD, ResultKind, WORD, WORD_RECORD, from_word, head, put_word, read_head, skip, to_word,
};
use crate::arena::{self, Arena, Block, Lent, OwnedBlock, Parcel};
use crate::codec::{self, Failure, Fit, Pod};
use crate::error::{DecodeError, EncodeError};
use crate::os::entry::function::Function;
use crate::os::{bell, interrupt};
use crate::process::{Fd, discard, panicked};
use crate::queue::Queue;
use crate::ring::{Cards, Extent, Hand, JobPlace, Jobs, Marker, Serial, Ticket};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::any::Any;
use std::collections::HashMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::{AcqRel, Relaxed};

/// What a worker gets.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Start {
    pub(super) pool: PoolHandle,
    pub(super) tasks: Queue<u64, Pod>,
    pub(super) bell: Fd,
    pub(super) seat: u32,
    pub(super) serial: u64,
    /// The job with the initializer.
    pub(super) first: Option<u64>,
    /// After so many tasks it ends.
    pub(super) most: Option<u64>,
}

/// The exit code of a worker whose initializer has failed.
const FAILED: i32 = 1;

/// A worker's whole life.
pub(super) fn work(start: Start) {
    // Where it is forbidden, Ctrl-C ends this process as any other.
    let _ = interrupt::stand();
    let Ok(arena) = arena::family() else {
        return;
    };
    let cards = start.pool.0.cards_for_good(arena);
    let (jobs, seat) = (Jobs(cards), start.seat as usize);
    let serial = Serial(start.serial);
    cards.begin(seat, serial);
    let mut worker = Worker {
        arena,
        cards,
        bell: start.bell,
        functions: HashMap::new(),
        last: None,
    };
    if let Some(first) = start.first {
        let Some(hand) = jobs.assigned(JobPlace::from_bits(first), serial) else {
            return;
        };
        let (_, ok) = worker.run(hand, u64::MAX);
        if !ok {
            std::process::exit(FAILED);
        }
    }
    let mut left = start.most.unwrap_or(u64::MAX);
    let queue = start.tasks;
    while left > 0 {
        // Only once its word names this worker may the queue forget a job.
        match queue.get_marked(|ticket| jobs.take(Ticket(ticket), seat, serial)) {
            Ok(Some(hand)) => left -= worker.run(hand, left).0,
            Ok(None) => {}
            Err(_) => return,
        }
    }
}

pub(super) type Body = Function<Run, Run>;

struct Worker {
    arena: &'static Arena,
    cards: Cards<'static>,
    bell: Fd,
    functions: HashMap<u64, Body>,
    last: Option<(u64, Body)>,
}

impl Worker {
    /// Runs a job, at most so many tasks of it, and gives it back. How many it ran, and whether none failed.
    fn run(&mut self, hand: Hand, most: u64) -> (u64, bool) {
        let number = self.cards.function_of(&hand);
        let body = self.body(number);
        let run = Run::new(self.arena, self.cards, hand, most);
        let run = body.call(run);
        let ran = (run.task - run.from).into();
        let ok = !run.failed;
        let rest = run.task < self.cards.shape(&run.hand).tasks;
        Jobs(self.cards).give_back(run.end());
        let fences = self.arena.fences();
        // It orders the look at the bell too.
        self.cards.event().notify_one(fences);
        let word = self.cards.bell();
        // What is left of the job is to be queued again, also if nobody waits for it.
        if word.load(Relaxed) != 0 && word.swap(0, AcqRel) != 0 || rest {
            bell::ring(&self.bell);
        }
        (ran, ok)
    }

    #[inline]
    fn body(&mut self, number: u64) -> Body {
        match self.last {
            Some((last, body)) if last == number => body,
            _ => self.find_body(number),
        }
    }

    #[cold]
    fn find_body(&mut self, number: u64) -> Body {
        let cards = self.cards;
        let body = *self.functions.entry(number).or_insert_with(|| {
            let name = cards.function(number);
            Body::from_bytes(&name).expect("the parent has named a function of this very program")
        });
        self.last = Some((number, body));
        body
    }
}

/// Why a task's result is not kept.
enum Trouble {
    Fault(Fault),
    NoMemory,
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NoMemory => Trouble::NoMemory,
            Failure::Encode(EncodeError(text)) => Trouble::Fault(Fault::Encode(text)),
        }
    }
}

/// A job at work.
pub(super) struct Run {
    arena: &'static Arena,
    cards: Cards<'static>,
    hand: Hand,
    from: u32,
    /// The task that is next, or under way.
    task: u32,
    /// It stops before this one.
    until: u32,
    marker: Marker<'static>,
    /// The arguments, if they are not on the card, and all handles among them.
    args: Option<&'static [u8]>,
    handles: Vec<Block>,
    /// Those of the task that is under way; the next one's begin at the ends.
    arg: Range<usize>,
    arg_is_word: bool,
    arg_handles: Range<usize>,
    /// The block with the results, if they are not on the card any more.
    results: Option<OwnedBlock<'static>>,
    extent: Extent,
    /// Where those of the tasks before the one that is under way end.
    kept: usize,
    failed: bool,
    /// Something has to be seen by the parent before this goes on.
    stop: Option<Stop>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// After the last task that was begun.
    Behind,
    /// The last task that was begun has no outcome.
    Within,
}

impl Run {
    fn new(arena: &'static Arena, cards: Cards<'static>, hand: Hand, most: u64) -> Run {
        let tasks = cards.shape(&hand).tasks;
        let from = Jobs(cards).progress(&hand).finished as u32;
        let lent = cards.args(&hand).map(|index| Lent::new(arena, index));
        let handles = lent.as_ref().map(|lent| lent.parcel().handles());
        let marker = cards.marker(&hand);
        let results = cards.results(&hand).map(|index| arena.take_over(index));
        let extent = cards.extent(&hand);
        let mut run = Run {
            arena,
            cards,
            hand,
            from,
            task: from,
            until: (u64::from(from).saturating_add(most)).min(tasks.into()) as u32,
            marker,
            args: lent.map(Lent::message),
            handles: handles.unwrap_or_default(),
            arg: 0..0,
            arg_is_word: false,
            arg_handles: 0..0,
            results,
            extent,
            kept: 0,
            failed: false,
            stop: None,
        };
        if from > 0 {
            run.pass_over(from);
        }
        run
    }

    #[cold]
    fn pass_over(&mut self, tasks: u32) {
        for _ in 0..tasks {
            self.next_arg();
        }
    }

    fn arg_bytes(&self) -> &[u8] {
        match self.args {
            Some(bytes) => bytes,
            None => self.cards.inline(&self.hand),
        }
    }

    #[inline]
    fn next_arg(&mut self) {
        let at = self.arg.end;
        let (len, handles) = read_head(self.arg_bytes(), at).unwrap_or_default();
        self.arg = at + HEAD..at + HEAD + len;
        self.arg_is_word = handles == WORD;
        let handles = if self.arg_is_word { 0 } else { handles };
        let at = self.arg_handles.end;
        self.arg_handles = at..at + handles as usize;
    }

    /// Whether there is a task, which counts as started then.
    #[inline]
    fn begin(&mut self) -> bool {
        if self.task >= self.until || self.stop.is_some() {
            return false;
        }
        self.next_arg();
        self.kept = self.extent.end;
        self.marker.begin(self.task.into());
        true
    }

    #[inline]
    fn args<A: DeserializeOwned>(&self) -> Result<A, DecodeError> {
        let bytes = self.arg_bytes().get(self.arg.clone()).unwrap_or_default();
        if self.arg_is_word {
            return from_word(bytes);
        }
        if self.arg_handles.is_empty() {
            return codec::decode(bytes);
        }
        let handles = self.handles.get(self.arg_handles.clone());
        codec::decode_with(self.arena, bytes, handles.unwrap_or_default().to_vec())
    }

    /// Where the next result goes.
    #[inline]
    fn room(&mut self) -> &mut [u8] {
        let Extent { begin, end } = self.extent;
        match &mut self.results {
            Some(block) => &mut block.bytes_mut()[end..],
            None => &mut self.cards.inline_mut(&mut self.hand)[begin + end..],
        }
    }

    #[inline]
    fn keep_value<R: Serialize>(&mut self, value: &R) -> Result<(), Trouble> {
        let Some(word) = to_word(value) else {
            return self.keep(value, ResultKind::Value);
        };
        if !put_word(self.room(), word, ResultKind::Word as u64) {
            self.grow(size_of::<u64>())?;
            put_word(self.room(), word, ResultKind::Word as u64);
        }
        self.extent.end += WORD_RECORD;
        Ok(())
    }

    #[inline]
    fn keep<R: Serialize>(&mut self, value: &R, kind: ResultKind) -> Result<(), Trouble> {
        let room = self.room();
        let fit = match room.get_mut(HEAD..) {
            Some(room) => codec::fit(value, room)?,
            None => Fit::TooLong,
        };
        match fit {
            Fit::Whole(len) => {
                room[..HEAD].copy_from_slice(&head(len, kind as u64));
                self.extent.end += HEAD + len;
                Ok(())
            }
            Fit::TooLong => {
                let (len, has_handles) = codec::size(value)?;
                if has_handles {
                    return self.keep_parcel(value);
                }
                self.grow(len)?;
                self.keep_in_block(value, kind)
            }
            Fit::HasHandles => self.keep_parcel(value),
        }
    }

    /// Where there is room for it by its size.
    fn keep_in_block<R: Serialize>(&mut self, value: &R, kind: ResultKind) -> Result<(), Trouble> {
        let room = self.room();
        match codec::fit(value, &mut room[HEAD..])? {
            Fit::Whole(len) => {
                room[..HEAD].copy_from_slice(&head(len, kind as u64));
                self.extent.end += HEAD + len;
                Ok(())
            }
            Fit::HasHandles => self.keep_parcel(value),
            Fit::TooLong => {
                let text = "it encodes differently each time".to_string();
                Err(Trouble::Fault(Fault::Encode(text)))
            }
        }
    }

    /// A result with handles is a message of its own. The parent takes it off the card before there is another one.
    fn keep_parcel<R: Serialize>(&mut self, value: &R) -> Result<(), Trouble> {
        if self.room().len() < HEAD {
            self.grow(0)?;
        }
        let parcel = codec::encode_parcel(self.arena, value, None)?;
        let head = head(0, ResultKind::Parcel as u64);
        self.room()[..HEAD].copy_from_slice(&head);
        self.extent.end += HEAD;
        let index = parcel.into_index();
        self.cards.list_parcel(&mut self.hand, self.task, index);
        self.stop = Some(Stop::Behind);
        Ok(())
    }

    /// Makes room for a result of so many bytes, and for some more like it.
    #[cold]
    fn grow(&mut self, len: usize) -> Result<(), Trouble> {
        const USUALLY: usize = 1 << 20;
        let need = self.extent.end + HEAD + len;
        let remaining = (self.until - self.task) as usize;
        let like_it = (HEAD + len).saturating_mul(remaining).min(USUALLY);
        // The last one needs no room behind it.
        let wish = match remaining {
            0 | 1 => need,
            _ => (self.extent.end + like_it).max(need + self.extent.end),
        };
        let made = self.arena.alloc(wish as u64);
        let made = made.or_else(|_| self.arena.alloc(need as u64));
        let mut block = made.map_err(|_| Trouble::NoMemory)?;
        let Extent { begin, end } = self.extent;
        let old = match &self.results {
            Some(block) => &block.bytes()[..end],
            None => &self.cards.inline(&self.hand)[begin..begin + end],
        };
        block.bytes_mut()[..end].copy_from_slice(old);
        // It is listed before the old one is freed.
        let index = block.block().index;
        self.cards.list_results(&mut self.hand, index);
        self.results = Some(block);
        Ok(())
    }

    /// What became of the task that is under way.
    #[inline]
    fn settle(&mut self, kept: Result<(), Trouble>) {
        if let Err(trouble) = kept {
            self.fail(trouble);
        }
        self.task += 1;
    }

    /// The same when it panicked.
    #[cold]
    fn settle_panicked(&mut self, payload: Box<dyn Any + Send>) {
        // Its result may be there, if it was in being dropped that it panicked: one outcome a task.
        self.extent.end = self.kept;
        let (message, location) = panicked(&*payload);
        discard(payload);
        self.settle(Err(Trouble::Fault(Fault::Panicked { message, location })));
    }

    #[cold]
    fn fail(&mut self, trouble: Trouble) {
        self.failed = true;
        let kept = match trouble {
            Trouble::Fault(fault) => self.keep(&fault, ResultKind::Fault),
            other => Err(other),
        };
        if kept.is_err() {
            self.stop = Some(Stop::Within);
        }
    }

    /// Leaves everything on the card.
    fn end(mut self) -> Hand {
        if let Some(block) = self.results.take() {
            block.into_block();
        }
        if self.stop != Some(Stop::Within) {
            self.marker.pause(self.task.into());
            let all = self.task == self.cards.shape(&self.hand).tasks;
            if all && self.args.take().is_some() {
                // The ends of channels among them are gone with the last task, and not when somebody looks at its result.
                let args = self.cards.take_args(&mut self.hand);
                drop(args.map(Parcel::from));
            }
        }
        self.hand
    }
}

/// Runs the tasks of a job.
///
/// Inlined into the caller's crate, so that it is in the program's own image even when this crate is a shared library.
#[inline]
pub(super) fn body<A: DeserializeOwned, R: Serialize>(target: fn(A) -> R, mut run: Run) -> Run {
    // One net for many tasks: the next one is needed when there was a panic.
    loop {
        let tasks = catch_unwind(AssertUnwindSafe(|| {
            while run.begin() {
                let kept = match run.args::<A>() {
                    Ok(args) => {
                        let result = target(args);
                        run.keep_value(&result)
                    }
                    Err(DecodeError(text)) => Err(Trouble::Fault(Fault::Decode(text))),
                };
                run.settle(kept);
            }
        }));
        match tasks {
            Ok(()) => return run,
            Err(payload) => run.settle_panicked(payload),
        }
    }
}

/// The length of so many results.
pub(super) fn results_len(bytes: &[u8], count: usize) -> usize {
    skip(bytes, count).unwrap_or(0)
}
