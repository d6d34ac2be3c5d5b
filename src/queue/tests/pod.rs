use super::*;
use crate::Pod;
use crate::arena::Parcel;
use crate::codec;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

#[derive(Clone, Copy, Debug, PartialEq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Sized<const N: usize>([u8; N]);

#[derive(Clone, Copy, Debug, PartialEq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(64))]
struct Line([u64; 8]);

fn pods<T: FromBytes + IntoBytes + Immutable + KnownLayout + Send + 'static>(
    capacity: usize,
) -> (Arena, Queue<T, Pod>) {
    let arena = arena();
    let queue = Queue::bounded_in(&arena, capacity).unwrap();
    (arena, queue)
}

fn pass<const N: usize>() {
    let (arena, queue) = pods::<Sized<N>>(3);
    for round in 0..10_u8 {
        let items: Vec<_> = (0..3).map(|i| Sized([round * 3 + i; N])).collect();
        for item in &items {
            queue.put(*item).unwrap();
        }
        let refused = queue.try_put(items[0]).unwrap_err();
        assert!(refused.is_full());
        assert_eq!(refused.into_inner(), items[0]);
        for item in items {
            assert_eq!(queue.get().unwrap(), item);
        }
        assert!(matches!(queue.try_get(), Err(GetError::Empty)));
    }
    queue.put(Sized([1; N])).unwrap();
    drop(queue);
    assert_eq!(arena.stats().bytes_in_use, 0);
}

#[test]
fn plain_old_data_of_all_sizes_passes() {
    pass::<0>();
    pass::<1>();
    pass::<7>();
    pass::<8>();
    pass::<64>();
    pass::<119>();
    pass::<120>();
    pass::<121>();
    pass::<128>();
    pass::<100_000>();
}

#[test]
fn aligned_data_passes() {
    let (_arena, queue) = pods::<Line>(2);
    queue.put(Line([7; 8])).unwrap();
    assert_eq!(queue.get().unwrap(), Line([7; 8]));
}

/// Bytes that a queue of so many items takes for each more.
fn bytes_an_item<T: FromBytes + IntoBytes + Immutable + KnownLayout + Send + 'static>() -> u64 {
    let bytes = |capacity| {
        let arena = Arena::heap(256, crate::KINDS).unwrap();
        let _queue = Queue::<T, Pod>::bounded_in(&arena, capacity).unwrap();
        arena.stats().bytes_in_use
    };
    // Claim and take words are 16 bytes a slot; blocks of this size are whole chunks.
    (bytes(1 << 15) - bytes(1 << 14)) / (1 << 14) - 16
}

#[test]
fn slots_are_exactly_as_large_as_needed() {
    assert_eq!(bytes_an_item::<u64>(), 16);
    assert_eq!(bytes_an_item::<Sized<0>>(), 16);
    assert_eq!(bytes_an_item::<Sized<9>>(), 32);
    assert_eq!(bytes_an_item::<Sized<56>>(), 64);
    assert_eq!(bytes_an_item::<Sized<120>>(), 128);
    assert_eq!(bytes_an_item::<Sized<121>>(), 16, "in blocks");
}

#[test]
fn a_queue_of_another_codec_is_another_type() {
    let (arena, plain) = pods::<u64>(1);
    let parcel = codec::encode_parcel(&arena, &plain, None).unwrap();
    let error = codec::decode_parcel::<Queue<u64>>(&arena, &parcel, Vec::new()).unwrap_err();
    assert!(error.to_string().contains("another type"), "{error}");
    let error = codec::decode_parcel::<Queue<i64, Pod>>(&arena, &parcel, Vec::new()).unwrap_err();
    assert!(error.to_string().contains("another type"), "{error}");
    let again: Queue<u64, Pod> = codec::decode_parcel(&arena, &parcel, Vec::new()).unwrap();
    again.put(3).unwrap();
    assert_eq!(plain.get().unwrap(), 3);
}

/// A type in the body of a function has no more of a name than that. A number taken for something large would be taken for a block.
#[test]
fn types_of_one_name_are_told_apart() {
    fn encoded<T: FromBytes + IntoBytes + Immutable + KnownLayout + Send + 'static>(
        like: fn() -> T,
        arena: &Arena,
    ) -> (Parcel<'_>, &'static str) {
        let _ = like;
        let queue: Queue<T, Pod> = Queue::bounded_in(arena, 1).unwrap();
        let parcel = codec::encode_parcel(arena, &queue, None).unwrap();
        (parcel, std::any::type_name::<T>())
    }
    fn is_refused<T: FromBytes + IntoBytes + Immutable + KnownLayout + Send + 'static>(
        like: fn() -> T,
        arena: &Arena,
        parcel: &Parcel<'_>,
    ) -> bool {
        let _ = like;
        codec::decode_parcel::<Queue<T, Pod>>(arena, parcel, Vec::new()).is_err()
    }
    macro_rules! twin {
        ($field:ty) => {{
            #[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
            #[repr(C)]
            struct Twin($field);
            || -> Twin { zerocopy::FromZeros::new_zeroed() }
        }};
    }
    let arena = arena();
    let (small, large) = (twin!(u64), twin!([u64; 100]));
    let (a_small, name) = encoded(small, &arena);
    let (a_large, same) = encoded(large, &arena);
    assert_eq!(name, same);
    assert!(is_refused(large, &arena, &a_small));
    assert!(is_refused(small, &arena, &a_large));
    assert!(!is_refused(small, &arena, &a_small));
}

#[test]
fn closing_and_shortage_give_the_item_back() {
    let (_arena, queue) = pods::<Sized<100_000>>(200);
    let item = Sized([1; 100_000]);
    let mut put = 0;
    let error = loop {
        match queue.put(item) {
            Ok(()) => put += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, PutError::NoMemory(_)), "{error:?}");
    assert!(put > 100, "{put}");
    queue.close();
    assert!(matches!(queue.put(item), Err(PutError::Closed(_))));
    assert_eq!(queue.iter().flatten().count(), put);
}

#[test]
fn items_in_place_are_aligned_and_not_copied() {
    let (arena, queue) = pods::<Line>(3);
    let mut loan = queue.loan().unwrap();
    *loan = Line([5; 8]);
    let written = std::ptr::from_ref::<Line>(&loan);
    loan.put().unwrap();
    queue.put(Line([6; 8])).unwrap();
    let first = queue.get_ref().unwrap();
    assert_eq!(std::ptr::from_ref::<Line>(&first), written);
    let second = queue.try_get_ref().unwrap();
    assert_eq!((*first, *second), (Line([5; 8]), Line([6; 8])));

    let mut loan = queue.loan().unwrap();
    loan.0[3] = 1;
    loan.try_put().unwrap();
    assert_eq!(queue.get().unwrap().0[3], 1, "either way out");
    assert!(matches!(queue.try_get_ref(), Err(GetError::Empty)));
    drop((first, second, queue));
    assert_eq!(arena.stats().bytes_in_use, 0);
}

#[test]
fn large_items_pass_in_place() {
    let (_arena, queue) = pods::<Sized<1_000_000>>(1);
    let mut loan = queue.loan().unwrap();
    loan.0.fill(7);
    loan.put().unwrap();
    let mut loan = queue.loan().unwrap();
    loan.0[0] = 8;
    let loan = loan.try_put().unwrap_err().into_inner();
    assert_eq!(queue.get_ref().unwrap().0[999_999], 7);
    loan.put().unwrap();
    assert_eq!(queue.get_ref().unwrap().0[0], 8);
}
