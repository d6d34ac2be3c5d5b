//! Programs that are not where they were, are run by their loader, or have other rights than who started them.

use super::*;

/// Starts children from a program that is not where it was.
#[test]
#[ignore = "run by others, in a copy of the program"]
fn starting_with_the_file_replaced() {
    let path = own_path();
    let moved = path.with_extension("moved");
    fs::rename(&path, &moved).unwrap();
    assert_eq!(spawn(|x: u8| x + 1, 1).unwrap().join().unwrap(), 2);
    fs::write(&path, "#!/bin/sh\nexit 3\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(spawn(|x: u8| x + 1, 1).unwrap().join().unwrap(), 2);
    fs::remove_file(&moved).unwrap();
    assert_eq!(spawn(|x: u8| x + 1, 1).unwrap().join().unwrap(), 2);
}

#[test]
fn the_program_s_file_may_be_replaced_or_deleted() {
    let _watch = watch();
    let directory = Directory::new("replaced");
    let copy = directory.0.join("program");
    copy_file(own_path(), &copy);
    assert_passed(&in_program(
        Command::new(copy),
        "program_file::starting_with_the_file_replaced",
    ));
}

#[test]
#[ignore = "run by others, through the loader"]
fn starting_is_refused() {
    let error = spawn(|()| (), ()).unwrap_err();
    assert_eq!(
        error.error().kind(),
        std::io::ErrorKind::Unsupported,
        "{error}"
    );
}

#[test]
fn a_program_run_by_its_loader_starts_no_children() {
    let _watch = watch();
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let mut paths = maps
        .lines()
        .filter_map(|line| line.split_once('/'))
        .map(|(_, path)| path);
    let Some(loader) = paths.find(|path| path.contains("/ld-") || path.contains("ld-linux")) else {
        return; // a static program has none
    };
    let mut command = Command::new(format!("/{loader}"));
    command.arg(own_path());
    assert_passed(&in_program(command, "program_file::starting_is_refused"));
}

// Rights

#[test]
fn a_set_user_id_program_starts_no_children_and_ignores_the_variable() {
    let _watch = watch();
    let directory = Directory::new("rights");
    let copy = directory.0.join("program");
    copy_file(own_path(), &copy);
    // SAFETY: asks for a number.
    let user = unsafe { libc::getuid() };
    let owner = if user == 0 { 1 } else { 0 };
    if std::os::unix::fs::chown(&copy, Some(owner), None).is_err() {
        eprintln!("not tried: only root can give files away");
        return;
    }
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o4755)).unwrap();
    fs::set_permissions(&directory.0, fs::Permissions::from_mode(0o755)).unwrap();
    let output = in_program(Command::new(&copy), "program_file::says_who_it_is");
    if !String::from_utf8_lossy(&output.stdout).contains(&format!("user {owner}")) {
        eprintln!("not tried: the file system gives no rights: {output:?}");
        return;
    }
    assert_passed(&in_program(
        Command::new(&copy),
        "program_file::starting_is_refused",
    ));
    let mut command = Command::new(&copy);
    command.env(variable(), "nonsense");
    assert_passed(&in_program(command, "the_harness_runs"));
}

#[test]
#[ignore = "run by others"]
fn says_who_it_is() {
    println!("user {}", fs::metadata("/proc/self").unwrap().uid());
    // SAFETY: asks for a number.
    println!("user {}", unsafe { libc::geteuid() });
}

#[test]
#[ignore = "run by others, in a copy of the program"]
fn starting_is_refused_when_it_would_raise_rights() {
    let path = own_path();
    spawn(|()| (), ()).unwrap().join().unwrap();
    if std::os::unix::fs::chown(&path, Some(1), None).is_ok() {
        fs::set_permissions(&path, fs::Permissions::from_mode(0o4755)).unwrap();
        starting_is_refused();
    }
}

#[test]
fn a_program_that_would_gain_rights_starts_no_children() {
    let _watch = watch();
    let directory = Directory::new("raise");
    let copy = directory.0.join("program");
    copy_file(own_path(), &copy);
    let test = "program_file::starting_is_refused_when_it_would_raise_rights";
    assert_passed(&in_program(Command::new(copy), test));
}

// Functions
