use bytes::Bytes;

use super::{ChecksumStyle, FileGroup, FileGroupError, FileSource, MAX_FILE};
use crate::path::{CleanPath, PathError};

fn source(path: &str, content: &'static [u8]) -> FileSource {
    FileSource { path: path.to_owned(), content: Bytes::from_static(content) }
}

fn text(group: &FileGroup, path: &str) -> Option<String> {
    let path = CleanPath::parse(path).expect("a path");
    group.file(&path).map(|file| String::from_utf8(file.content().to_vec()).expect("text"))
}

#[test]
fn every_file_has_its_checksum() {
    // The digest of "abc" as FIPS 180-2 gives it.
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let files = || [source("/dir/f.bin", b"abc"), source("/g.cfg", b"")];
    let group = FileGroup::new(files(), ChecksumStyle::Sha256sum).expect("a group");
    assert_eq!(text(&group, "/dir/f.bin.sha256"), Some(format!("{abc}  f.bin\n")));
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(text(&group, "/g.cfg.sha256"), Some(format!("{empty}  g.cfg\n")));
    assert_eq!(text(&group, "/f.bin"), None);
    let group = FileGroup::new(files(), ChecksumStyle::HexOnly).expect("a group");
    assert_eq!(text(&group, "/dir/f.bin.sha256"), Some(abc.to_owned()));
}

#[test]
fn bad_groups_are_refused() {
    let refused = |paths: &[&str]| {
        FileGroup::new(paths.iter().map(|path| source(path, b"")), ChecksumStyle::default())
            .expect_err("refused")
    };
    let path = |path: &str, reason| FileGroupError::Path { path: path.to_owned(), reason };
    for (name, reason) in [
        ("startup.cfg", PathError::Relative),
        ("/../a", PathError::Dots),
        ("/a%2e", PathError::Character),
        ("/a\0", PathError::Character),
        ("/a\\b", PathError::Character),
        ("", PathError::Relative),
    ] {
        assert_eq!(refused(&[name]), path(name, reason));
    }
    for name in ["/", "/dir/", "//a"] {
        assert_eq!(refused(&[name]), FileGroupError::NotPlain(name.to_owned()));
    }
    assert_eq!(refused(&["/a", "/a"]), FileGroupError::Duplicate("/a.sha256".to_owned()));
    assert_eq!(refused(&["/a", "/a.sha256"]), FileGroupError::Duplicate("/a.sha256".to_owned()));
    assert_eq!(refused(&["/a.sha256", "/a"]), FileGroupError::Duplicate("/a.sha256".to_owned()));
    let large = FileSource { path: "/a".to_owned(), content: Bytes::from(vec![0; MAX_FILE + 1]) };
    assert_eq!(
        FileGroup::new([large], ChecksumStyle::default()).expect_err("refused"),
        FileGroupError::TooLarge("/a".to_owned())
    );
}
