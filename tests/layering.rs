//! The layer rule of DESIGN.md, executed: a module imports only from the layers below it and brothers do not import each
//! other; atomics are named in one place; no unsafe code from `codec` up; no file grows without end.

use std::fs;
use std::path::{Path, PathBuf};

/// Each module of the crate with its level: a module may use those of a lower level, and itself.
const LAYERS: [(&str, u32); 15] = [
    ("error", 0),
    ("os", 1),
    ("primitive", 2),
    ("arena", 3),
    ("sync", 4),
    ("ring", 5),
    ("codec", 6),
    ("queue", 7),
    ("pipe", 7),
    ("lock", 7),
    ("value", 7),
    ("process", 8),
    ("pool", 9),
    ("manager", 9),
    // A face of the arena for users.
    ("family", 10),
];
/// The one thing that a layer takes from the root: the list of the kinds of objects, to which each
/// layer above adds its own.
const WIRED: (&str, &str) = ("arena", "KINDS");
const FIRST_SAFE_LEVEL: u32 = 6;
const MOST_LINES: usize = 600;

#[test]
fn the_sources_keep_the_rule() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut faults = Vec::new();
    let mut seen = 0;
    for folder in ["src", "tests", "benches", "examples"] {
        for file in rust_files(&root.join(folder)) {
            let text = fs::read_to_string(&file).unwrap();
            let name = file
                .strip_prefix(root)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            faults.extend(check_length(&name, &text));
            if folder == "src" {
                seen += 1;
                faults.extend(check_source(&name, &text));
            }
        }
    }
    assert!(
        seen > 10,
        "only {seen} files below src: this test looks in the wrong place"
    );
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

fn check_length(name: &str, text: &str) -> Option<String> {
    let lines = text.lines().count();
    (lines > MOST_LINES).then(|| format!("{name}:{lines}: more than {MOST_LINES} lines"))
}

/// The faults of one file below src, each as `file:line: what`.
fn check_source(name: &str, text: &str) -> Vec<String> {
    let modules: Vec<&str> = name["src/".len()..name.len() - ".rs".len()]
        .split('/')
        .filter(|part| !matches!(*part, "mod" | "lib"))
        .collect();
    let mut faults = Vec::new();
    let mut fault = |line: usize, what: String| faults.push(format!("{name}:{line}: {what}"));

    // A module of tests stands on the whole crate, and inherits what its parent forbids.
    let tests = modules
        .iter()
        .skip(1)
        .any(|module| matches!(*module, "tests" | "models"));
    let level = modules.first().map(|layer| level(layer));
    match level {
        Some(None) => fault(
            1,
            format!("{} is no layer that this test knows", modules[0]),
        ),
        Some(Some(level)) if level >= FIRST_SAFE_LEVEL && !tests && !forbids_unsafe(text) => {
            fault(
                1,
                "#![forbid(unsafe_code)] is missing at the head".to_owned(),
            );
        }
        _ => {}
    }
    for path in paths(&tokens(text), modules.len()) {
        // lib.rs is above all layers: it declares and re-exports.
        if let (Some(Some(own)), Some(used)) = (level, path.layer()) {
            match self::level(used) {
                Some(level) if level < own || used == modules[0] => {}
                Some(_) => fault(path.line, format!("{} -> {used}", modules[0])),
                None if tests || WIRED == (modules[0], used) => {}
                None => fault(
                    path.line,
                    format!("{} -> {used}, which is no layer", modules[0]),
                ),
            }
        }
        // What loom itself provides is only used by models.
        for pair in path
            .names
            .windows(2)
            .skip_while(|_| path.names[0] == "loom")
        {
            if let Some(what) = misplaced(&modules, &pair[0], &pair[1]) {
                fault(path.line, what);
            }
        }
    }
    faults
}

/// Atomics and cells are named in `primitive`; `os`, which lies below it, may name the word that a
/// futex call takes.
fn misplaced(modules: &[&str], parent: &str, name: &str) -> Option<String> {
    let shared =
        parent == "atomic" && name != "Ordering" || (parent, name) == ("cell", "UnsafeCell");
    let at_home = match modules.first() {
        Some(&"primitive") => true,
        Some(&"os") => name == "AtomicU32",
        _ => false,
    };
    (shared && !at_home).then(|| format!("{parent}::{name} belongs in primitive alone"))
}

fn level(layer: &str) -> Option<u32> {
    LAYERS
        .iter()
        .find(|(name, _)| *name == layer)
        .map(|(_, level)| *level)
}

fn forbids_unsafe(text: &str) -> bool {
    text.lines()
        .map(str::trim)
        .take_while(|line| line.is_empty() || line.starts_with("//") || line.starts_with("#!["))
        .any(|line| line == "#![forbid(unsafe_code)]")
}

#[derive(Debug, PartialEq, Eq)]
struct Token {
    line: usize,
    text: String,
}

/// Names and punctuation; `::` is one token. Comments, strings, characters and numbers are left out.
fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let is_name = |c: char| c == '_' || c.is_alphanumeric();
    let (mut found, mut i, mut line) = (Vec::new(), 0, 1);
    while i < chars.len() {
        let start = i;
        let mut token = None;
        match chars[i] {
            '/' if at(i + 1) == '/' => {
                while i < chars.len() && chars[i] != '\n' {
                    i += 1;
                }
            }
            '/' if at(i + 1) == '*' => {
                let mut depth = 0;
                loop {
                    match (at(i), at(i + 1)) {
                        ('/', '*') => (depth, i) = (depth + 1, i + 2),
                        ('*', '/') => (depth, i) = (depth - 1, i + 2),
                        _ => i += 1,
                    }
                    if depth == 0 || i >= chars.len() {
                        break;
                    }
                }
            }
            '"' => i = after_string(&chars, i),
            'r' | 'b' | 'c' if raw_string(&chars, i).is_some() => {
                i = raw_string(&chars, i).unwrap()
            }
            // A lifetime or label is a name after all, and no path begins with one.
            '\'' if at(i + 1) != '\\' && at(i + 2) != '\'' => i += 1,
            '\'' => {
                i += if at(i + 1) == '\\' { 3 } else { 2 };
                while i < chars.len() && chars[i] != '\'' {
                    i += 1;
                }
                i += 1;
            }
            ':' if at(i + 1) == ':' => {
                i += 2;
                token = Some("::".to_owned());
            }
            c if is_name(c) => {
                while is_name(at(i)) {
                    i += 1;
                }
                token = Some(chars[start..i].iter().collect());
            }
            c => {
                i += 1;
                token = (!c.is_whitespace()).then(|| c.to_string());
            }
        }
        found.extend(token.map(|text| Token { line, text }));
        line += chars[start..i.min(chars.len())]
            .iter()
            .filter(|c| **c == '\n')
            .count();
    }
    found
}

/// The place behind the string that begins at `i`.
fn after_string(chars: &[char], mut i: usize) -> usize {
    i += 1;
    while i < chars.len() && chars[i] != '"' {
        i += if chars[i] == '\\' { 2 } else { 1 };
    }
    i + 1
}

/// The place behind the raw string that begins at `i`, if one does.
fn raw_string(chars: &[char], mut i: usize) -> Option<usize> {
    if matches!(chars[i], 'b' | 'c') {
        i += 1;
    }
    if chars.get(i) != Some(&'r') {
        return None;
    }
    let hashes = chars[i + 1..].iter().take_while(|c| **c == '#').count();
    if chars.get(i + 1 + hashes) != Some(&'"') {
        return None;
    }
    let mut end = i + hashes + 2;
    while end < chars.len() {
        if chars[end] == '"'
            && chars[end + 1..]
                .iter()
                .take(hashes)
                .filter(|c| **c == '#')
                .count()
                == hashes
        {
            return Some(end + 1 + hashes);
        }
        end += 1;
    }
    Some(chars.len())
}

/// A path with its groups resolved: `a::{b, c}` is two of them.
#[derive(Debug, PartialEq, Eq)]
struct Use {
    line: usize,
    /// How many modules deep the file's text stands at this place.
    depth: usize,
    names: Vec<String>,
}

impl Use {
    /// The top module that the path leads into, if it says so.
    fn layer(&self) -> Option<&str> {
        let ups = self
            .names
            .iter()
            .take_while(|name| *name == "super")
            .count();
        let below_root = if self.names[0] == "crate" {
            1
        } else if ups > 0 && ups >= self.depth {
            ups
        } else {
            return None;
        };
        self.names.get(below_root).map(String::as_str)
    }
}

/// All paths of two names or more, for a file that stands `depth` modules deep.
fn paths(tokens: &[Token], depth: usize) -> Vec<Use> {
    let (mut found, mut i, mut braces) = (Vec::new(), 0, 0);
    // The depth of braces at which each inline module began.
    let mut inline: Vec<usize> = Vec::new();
    while i < tokens.len() {
        match tokens[i].text.as_str() {
            "{" => {
                braces += 1;
                if i >= 2 && tokens[i - 2].text == "mod" {
                    inline.push(braces);
                }
                i += 1;
            }
            "}" => {
                if inline.last() == Some(&braces) {
                    inline.pop();
                }
                braces = braces.saturating_sub(1);
                i += 1;
            }
            _ if tokens.get(i + 1).is_some_and(|next| next.text == "::") => {
                let before = found.len();
                path(tokens, &mut i, &[], &mut found);
                found[before..]
                    .iter_mut()
                    .for_each(|path: &mut Use| path.depth = depth + inline.len());
            }
            _ => i += 1,
        }
    }
    found
}

/// Reads one path (of a group: one entry) at `i` and leaves `i` behind it.
fn path(tokens: &[Token], i: &mut usize, prefix: &[String], found: &mut Vec<Use>) {
    let mut names = prefix.to_vec();
    let line = tokens[*i].line;
    loop {
        match tokens.get(*i).map(|token| token.text.as_str()) {
            Some("{") if !names.is_empty() => {
                *i += 1;
                while tokens.get(*i).is_some_and(|token| token.text != "}") {
                    path(tokens, i, &names, found);
                    while tokens
                        .get(*i)
                        .is_some_and(|token| !matches!(token.text.as_str(), "," | "}"))
                    {
                        *i += 1; // `as name`
                    }
                    *i += usize::from(tokens.get(*i).is_some_and(|token| token.text == ","));
                }
                *i += 1;
                return;
            }
            Some(name) => names.push(name.to_owned()),
            None => break,
        }
        *i += 1;
        if tokens.get(*i).is_none_or(|next| next.text != "::") {
            break;
        }
        *i += 1;
    }
    found.push(Use {
        line,
        depth: 0,
        names,
    });
}

#[test]
fn imports_from_below_are_fine() {
    let text = "use crate::arena::Arena;\nuse crate::{os, primitive::{AtomicU64, fence as f}};\nuse crate::ring::x;\n";
    assert_eq!(check_source("src/ring/mpmc.rs", text), Vec::<String>::new());
    assert_eq!(
        check_source("src/lib.rs", "pub use crate::queue::Queue; mod os;"),
        Vec::<String>::new()
    );
}

#[test]
fn an_import_from_above_is_found() {
    assert_eq!(
        check_source("src/os/mod.rs", "//! x\n\nuse crate::ring::Ring;\n"),
        ["src/os/mod.rs:3: os -> ring"]
    );
    let grouped = "use crate::{\n    arena::{self, Arena},\n    queue::{Queue},\n};\nfn f() { crate::process::spawn() }\n";
    assert_eq!(
        check_source("src/sync/event.rs", grouped),
        [
            "src/sync/event.rs:3: sync -> queue",
            "src/sync/event.rs:5: sync -> process"
        ]
    );
}

#[test]
fn brothers_do_not_know_each_other() {
    let text = "#![forbid(unsafe_code)]\nuse crate::queue::Queue;\n";
    assert_eq!(
        check_source("src/lock/rlock.rs", text),
        ["src/lock/rlock.rs:2: lock -> queue"]
    );
    assert_eq!(
        check_source("src/queue/iter.rs", text),
        Vec::<String>::new()
    );
}

#[test]
fn super_is_followed() {
    assert_eq!(
        check_source("src/os.rs", "use super::arena::Arena;"),
        ["src/os.rs:1: os -> arena"]
    );
    assert_eq!(
        check_source("src/os/futex.rs", "use super::super::{arena};"),
        ["src/os/futex.rs:1: os -> arena"]
    );
    assert_eq!(
        check_source(
            "src/os/futex.rs",
            "use super::arena;\nmod tests { use super::*; }"
        ),
        Vec::<String>::new()
    );
    let inline =
        "mod a { mod b { use super::super::super::super::ring::X; } }\nuse super::super::ring::X;";
    assert_eq!(
        check_source("src/os/futex.rs", inline),
        [
            "src/os/futex.rs:1: os -> ring",
            "src/os/futex.rs:2: os -> ring"
        ]
    );
}

#[test]
fn comments_and_strings_do_not_count() {
    let text = "// crate::ring::X\n/* crate::ring /* nested */ crate::ring::X */ const A: &str = \"crate::ring::X \\\" crate::ring::X\";\n\
                const B: &str = r#\"crate::ring::X\"#; const C: char = '\"'; const D: &[u8] = b\"crate::ring::X\";\n\
                fn f<'a>(x: &'a str) { crate::queue::y() }\n";
    assert_eq!(
        check_source("src/os/mod.rs", text),
        ["src/os/mod.rs:4: os -> queue"]
    );
}

#[test]
fn atomics_outside_primitive_are_found() {
    let text = "use std::sync::{Arc, atomic::{AtomicU32, Ordering}};\nuse core::sync::atomic::Ordering;\nuse core::cell::{Cell, UnsafeCell};\n";
    let found = [
        "src/arena/cell.rs:1: atomic::AtomicU32 belongs in primitive alone",
        "src/arena/cell.rs:3: cell::UnsafeCell belongs in primitive alone",
    ];
    assert_eq!(check_source("src/arena/cell.rs", text), found);
    assert_eq!(check_source("src/primitive.rs", text), Vec::<String>::new());
    assert_eq!(
        check_source("src/primitive/futex.rs", text),
        Vec::<String>::new()
    );
    assert_eq!(
        check_source("src/ring/models.rs", "use loom::sync::atomic::AtomicU64;"),
        [""; 0]
    );
    let os = "use core::sync::atomic::{AtomicU32, Ordering};\nuse core::sync::atomic::AtomicU64;";
    let found = ["src/os/futex.rs:2: atomic::AtomicU64 belongs in primitive alone"];
    assert_eq!(check_source("src/os/futex.rs", os), found);
}

#[test]
fn unsafe_must_be_forbidden_above_the_ring() {
    let missing = ["src/queue/mod.rs:1: #![forbid(unsafe_code)] is missing at the head"];
    assert_eq!(
        check_source(
            "src/queue/mod.rs",
            "//! Queue.\nuse std::io;\n#![forbid(unsafe_code)]\n"
        ),
        missing
    );
    assert_eq!(
        check_source(
            "src/queue/mod.rs",
            "//! Queue.\n#![allow(x)]\n#![forbid(unsafe_code)]\n"
        ),
        Vec::<String>::new()
    );
    assert_eq!(
        check_source("src/queue/tests.rs", "use crate::{Queue, KINDS};\n"),
        Vec::<String>::new()
    );
    assert_eq!(
        check_source("src/ring/mod.rs", "//! Ring.\n"),
        Vec::<String>::new()
    );
}

#[test]
fn an_unknown_layer_is_found() {
    assert_eq!(
        check_source("src/util.rs", ""),
        ["src/util.rs:1: util is no layer that this test knows"]
    );
    assert_eq!(
        check_source("src/os/mod.rs", "use crate::util::x;"),
        ["src/os/mod.rs:1: os -> util, which is no layer"]
    );
}

#[test]
fn a_long_file_is_found() {
    assert_eq!(check_length("src/x.rs", &"\n".repeat(MOST_LINES)), None);
    assert_eq!(
        check_length("src/x.rs", &"\n".repeat(MOST_LINES + 1)),
        Some("src/x.rs:601: more than 600 lines".to_owned())
    );
}
