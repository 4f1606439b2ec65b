use proptest::prelude::*;

use super::{CleanPath, MAX_PATH, PathError};

#[test]
fn what_is_a_path() {
    for (raw, plain, encoded) in [
        ("/", "/", "/"),
        ("//", "/", "/"),
        ("/startup.cfg", "/startup.cfg", "/startup.cfg"),
        ("/%73tartup%2Ecfg", "/startup.cfg", "/startup.cfg"),
        ("//a///b//", "/a/b/", "/a/b/"),
        ("/a%20b", "/a b", "/a%20b"),
        ("/a+b", "/a+b", "/a+b"),
        ("/a%3fb%23c", "/a?b#c", "/a%3Fb%23c"),
        ("/%C3%BC", "/\u{fc}", "/%C3%BC"),
        ("/\u{fc}", "/\u{fc}", "/%C3%BC"),
        ("/a;v=1/b", "/a;v=1/b", "/a;v=1/b"),
        ("/a\"<>^`{|}", "/a\"<>^`{|}", "/a%22%3C%3E%5E%60%7B%7C%7D"),
        ("/...", "/...", "/..."),
        ("/.hidden", "/.hidden", "/.hidden"),
        ("/a..b", "/a..b", "/a..b"),
    ] {
        let path = CleanPath::parse(raw).unwrap_or_else(|error| panic!("{raw}: {error}"));
        assert_eq!((path.as_str(), path.encoded().as_str()), (plain, encoded), "{raw}");
    }
    assert_eq!(CleanPath::parse("/dir/fw.bin").expect("a path").basename(), "fw.bin");
}

#[test]
fn what_is_none() {
    use PathError::{Character, Dots, Percent, Relative, TooLong, Utf8};
    let long = format!("/{}", "a".repeat(MAX_PATH));
    for (raw, error) in [
        ("", Relative),
        ("a", Relative),
        ("*", Relative),
        ("http://a/", Relative),
        ("/%", Percent),
        ("/%1", Percent),
        ("/%g0", Percent),
        ("/%+1", Percent),
        ("/% 1", Percent),
        ("/%%41", Percent),
        ("/%2f", Character),
        ("/%2F", Character),
        ("/%5c", Character),
        ("/%00", Character),
        ("/%25", Character),
        ("/a\\b", Character),
        ("/%0a", Character),
        ("/%7f", Character),
        ("/%c2%85", Character),
        ("/a\0", Character),
        ("/..", Dots),
        ("/.", Dots),
        ("/a/../b", Dots),
        ("/%2e%2e", Dots),
        ("/.%2E/a", Dots),
        ("/..;x/a", Dots),
        ("/%2e", Dots),
        ("/a/.;x", Dots),
        ("/%ff", Utf8),
        ("/%c0%ae", Utf8),
        ("/%c3", Utf8),
        ("/%ed%a0%80", Utf8),
        (&long, TooLong),
    ] {
        assert_eq!(CleanPath::parse(raw), Err(error), "{raw:?}");
    }
}

proptest! {
    /// What is handed on reads as what was looked up, and is as clean as before.
    #[test]
    fn encoding_is_read_back(raw in "(/[a-zA-Z0-9%./;=~ ü\"-]{0,8}){1,4}") {
        if let Ok(path) = CleanPath::parse(&raw) {
            let encoded = path.encoded();
            prop_assert!(encoded.bytes().all(|b| b.is_ascii_graphic()) && !encoded.contains("//"));
            prop_assert!(!encoded.split('/').any(|segment| segment == "." || segment == ".."));
            prop_assert_eq!(CleanPath::parse(&encoded), Ok(path));
        }
    }
}
