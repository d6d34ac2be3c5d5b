//! Ends of pipes, which have one owner.

use crate::builder;
use multiprocess::{Error, Pipe, PipeReceiver, PipeSender, RecvError};

pub fn an_end_of_a_pipe_goes_along_or_prevents_the_copy() {
    let (receiver, sender) = Pipe::simplex::<u32>().expect("a pipe");
    // One goes along, the other would be had twice.
    let refused = builder()
        .fork(
            |mut sender: PipeSender<u32>| sender.send(1).unwrap(),
            sender,
        )
        .expect_err("the receiver stays");
    assert_eq!(Error::from_io(refused.error()), Some(Error::Borrowed));
    let ends = (receiver, refused.into_inner());
    let both = |(mut receiver, mut sender): (PipeReceiver<u32>, PipeSender<u32>)| {
        sender.send(7).unwrap();
        let number = receiver.recv().unwrap();
        (number, receiver)
    };
    let process = builder().fork(both, ends).expect("a fork");
    let (number, mut receiver) = process.join().expect("a result");
    assert_eq!(number, 7);
    assert!(matches!(receiver.recv(), Err(RecvError::Closed)));
}
