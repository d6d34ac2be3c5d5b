//! Any mix of calls is a queue.

use super::*;
use proptest::prelude::*;
use std::collections::VecDeque;

#[derive(Clone, Copy, Debug)]
enum Step {
    Send,
    SendBytes(usize),
    Claim(usize),
    Recv,
    RecvBytes,
    RecvInto,
    RecvRef,
    MoveSender,
    MoveReceiver,
    SetSenderAside,
    SetReceiverAside,
}

fn step() -> impl Strategy<Value = Step> {
    let len = || prop_oneof![0_usize..40, 0_usize..2000];
    prop_oneof![
        4 => Just(Step::Send),
        3 => len().prop_map(Step::SendBytes),
        2 => len().prop_map(Step::Claim),
        3 => Just(Step::Recv),
        2 => Just(Step::RecvBytes),
        2 => Just(Step::RecvInto),
        2 => Just(Step::RecvRef),
        1 => Just(Step::MoveSender),
        1 => Just(Step::MoveReceiver),
        1 => Just(Step::SetSenderAside),
        1 => Just(Step::SetReceiverAside),
    ]
}

#[derive(Clone, Debug, PartialEq)]
enum Message {
    Value(u64),
    Bytes(Vec<u8>),
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn any_mix_is_a_queue(steps in prop::collection::vec(step(), 1..150)) {
        let arena = arena();
        let (mut receiver, mut sender) = Pipe::simplex_in::<u64>(&arena, 512).unwrap();
        let (mut take_ends, mut give_ends) = Pipe::simplex_in(&arena, 256).unwrap();
        let (mut take_others, mut give_others) = Pipe::simplex_in(&arena, 256).unwrap();
        let mut model: VecDeque<Message> = VecDeque::new();
        let mut buffer = [0; 2000];
        for (number, step) in steps.into_iter().enumerate() {
            let number = number as u64;
            let got = match step {
                Step::Send => {
                    if sender.try_send(number).is_ok() {
                        model.push_back(Message::Value(number));
                    } else {
                        prop_assert!(!model.is_empty());
                    }
                    continue;
                }
                Step::SendBytes(len) => {
                    let bytes = vec![number as u8; len];
                    if sender.try_send_bytes(&bytes).is_ok() {
                        model.push_back(Message::Bytes(bytes));
                    } else {
                        prop_assert!(!model.is_empty());
                    }
                    continue;
                }
                Step::Claim(len) => {
                    if let Ok(mut claim) = sender.try_claim(len) {
                        claim.fill(number as u8);
                        claim.commit().unwrap();
                        model.push_back(Message::Bytes(vec![number as u8; len]));
                    } else {
                        prop_assert!(!model.is_empty());
                    }
                    continue;
                }
                Step::MoveSender => {
                    give_ends.try_send(sender).unwrap();
                    sender = take_ends.try_recv().unwrap();
                    continue;
                }
                Step::MoveReceiver => {
                    give_others.try_send(receiver).unwrap();
                    receiver = take_others.try_recv().unwrap();
                    continue;
                }
                Step::SetSenderAside => {
                    sender.set_aside();
                    continue;
                }
                Step::SetReceiverAside => {
                    receiver.set_aside();
                    continue;
                }
                Step::Recv => match receiver.try_recv() {
                    Ok(value) => Some(Message::Value(value)),
                    Err(GetError::Decode(_)) => {
                        prop_assert!(matches!(model.pop_front(), Some(Message::Bytes(_))));
                        continue;
                    }
                    Err(_) => None,
                },
                Step::RecvBytes => receiver.try_recv_bytes().ok().map(Message::Bytes),
                Step::RecvInto => receiver
                    .try_recv_bytes_into(&mut buffer)
                    .ok()
                    .map(|len| Message::Bytes(buffer[..len].to_vec())),
                Step::RecvRef => receiver
                    .try_recv_ref()
                    .ok()
                    .map(|bytes| Message::Bytes(bytes.to_vec())),
            };
            let expected = model.pop_front();
            match (&got, &expected) {
                // Its encoding.
                (Some(Message::Bytes(_)), Some(Message::Value(_))) => {}
                _ => prop_assert_eq!(got, expected),
            }
        }
    }
}
