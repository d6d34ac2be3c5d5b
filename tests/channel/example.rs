//! The example, at work on real files.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use super::watch;

#[allow(dead_code, reason = "its `main` is for the command line")]
#[path = "../../examples/channel.rs"]
mod program;

#[test]
fn the_words_of_a_folder_are_counted() {
    let _watch = watch();
    let folder = format!("channel-example-{}", std::process::id());
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(folder);
    let mut expected: HashMap<String, u64> = HashMap::new();
    for n in 0..300_usize {
        let inner = folder.join(format!("{}/{}", n % 7, n % 3));
        fs::create_dir_all(&inner).unwrap();
        let words = ["One", "two", "drei", "naïve"].map(|word| format!("{word} ").repeat(n % 11));
        fs::write(inner.join(n.to_string()), words.concat()).unwrap();
        if n % 11 > 0 {
            for word in ["one", "two", "drei", "naïve"] {
                *expected.entry(word.into()).or_default() += n as u64 % 11;
            }
        }
    }
    let counted = program::count_words(&folder);
    fs::remove_dir_all(&folder).unwrap();
    let (words, files) = counted.unwrap();
    assert_eq!(files, 300);
    assert_eq!(words, expected);
}
