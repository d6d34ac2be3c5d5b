//! Pipes, and the other side killed.

use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use multiprocess::cpu_count;
use rustix::net::sockopt::set_socket_linger;
use rustix::process::{Signal, kill_process};

use crate::program::{Folder, Program, run};

#[test]
fn a_division_by_zero_costs_one_answer() {
    let requests = ["6 * 7", "1 / 0", "2 + 2", "1 / 0", "seven"].map(OsStr::new);
    let end = run("requests", &requests);
    assert_eq!(end.code, Some(0), "{end:?}");
    let lines: Vec<&str> = end.out.lines().collect();
    let died = "1 / 0: no answer, the calculator has died (";
    assert_eq!((lines[0], lines[2]), ("6 * 7 = 42", "2 + 2 = 4"));
    assert!(lines[1].starts_with(died) && lines[3].starts_with(died));
    assert_eq!((lines.len(), &lines[4][..7]), (5, "seven: "));
}

/// Starts it with many requests and kills the calculator at one; false when it was done before.
fn is_killed_at_work() -> bool {
    // On a busy machine each takes milliseconds.
    const REQUESTS: usize = 3000;
    let mut program = Program::start("requests", &[OsStr::new("1 + 1"); REQUESTS]);
    while program.said().0.lines().count() < REQUESTS {
        if let Some(&calculator) = program.children().first() {
            let _ = kill_process(calculator, Signal::KILL);
            break;
        }
    }
    let (end, left) = program.end();
    assert_eq!((end.code, left), (Some(0), 0), "{}", end.err);
    assert_eq!(end.out.lines().count(), REQUESTS);
    let mut others = end.out.lines().filter(|line| *line != "1 + 1 = 2");
    let said = "1 + 1: no answer, the calculator has died (signal 9)";
    let is_killed = others.next().is_some_and(|line| line == said);
    assert_eq!(others.next(), None);
    is_killed
}

#[test]
fn a_calculator_is_replaced() {
    assert!((0..1000).any(|_| is_killed_at_work()));
}

fn talk(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"hello")?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer)?;
    assert_eq!(&answer, b"hello");
    Ok(())
}

#[test]
fn an_echo_survives_clients_and_processes() {
    let program = Program::start("echo", &[OsStr::new("127.0.0.1:0")]);
    let says = |what: &str| loop {
        let (out, err) = program.said();
        if let Some(line) = out.lines().chain(err.lines()).find(|l| l.contains(what)) {
            break line.to_string();
        }
        thread::sleep(Duration::from_millis(1));
    };
    let line = says("listening at ");
    let address = line.rsplit(' ').next().unwrap();
    let connect = || TcpStream::connect(address).unwrap();

    // Reset before it was accepted.
    program.signal(Signal::STOP);
    let reset = connect();
    set_socket_linger(&reset, Some(Duration::ZERO)).unwrap();
    drop(reset);
    program.signal(Signal::CONT);
    says("a connection was lost");

    // Reset later.
    let mut reset = connect();
    talk(&mut reset).unwrap();
    set_socket_linger(&reset, Some(Duration::ZERO)).unwrap();
    let peer = reset.local_addr().unwrap().to_string();
    drop(reset);
    says(&peer);
    program.wait_for_processes(1);

    let mut clients = [connect(), connect()];
    for client in &mut clients {
        talk(client).unwrap();
    }
    kill_process(program.children()[0], Signal::KILL).unwrap();
    program.wait_for_processes(2);
    let answers = clients.map(|mut client| talk(&mut client).is_ok());
    assert!(answers[0] != answers[1], "{answers:?}");
    talk(&mut connect()).unwrap();
}

#[test]
fn what_others_find_is_gathered() {
    const LINES: usize = 100_000;
    const FILES: usize = 12;
    let folder = Folder::new("gather");
    for file in 0..FILES {
        let text = "here it is\n".repeat(LINES);
        fs::write(folder.path.join(file.to_string()), text).unwrap();
    }
    let most = FILES.div_ceil(cpu_count());
    let arguments = [OsStr::new("here"), folder.path.as_os_str()];
    let mut program = Program::start("gather", &arguments);
    program.wait_for_processes(1 + FILES.div_ceil(most));
    // It has not found everything: its pipe is full.
    program.signal(Signal::STOP);
    kill_process(program.children()[0], Signal::KILL).unwrap();
    program.signal(Signal::CONT);
    let (end, left) = program.end();
    assert_eq!((end.code, left), (Some(1), 0), "{}", end.err);
    let said = "a search was cut short: the process was ended by signal 9\n";
    assert!(end.err.starts_with(said), "{}", end.err);
    let last = end.out.lines().last().unwrap();
    let count: usize = last.strip_suffix(" lines").unwrap().parse().unwrap();
    assert_eq!(count + 1, end.out.lines().count());
    // The others' files are whole, and what the dead one had sent is there as well.
    assert!(count >= (FILES - most) * LINES && count < FILES * LINES);
}
