//! ARCHITECTURE.md names paths that exist; `unsafe` stands where it is allowed.

use std::path::{Path, PathBuf};

#[test]
fn every_path_named_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let text = std::fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
    let paths: Vec<&str> = text.split('`').skip(1).step_by(2).filter(|code| code.ends_with(".rs")).collect();
    assert!(paths.len() > 20, "the five ways are gone");
    let missing: Vec<_> = paths.iter().filter(|path| !root.join(path).is_file()).collect();
    assert!(missing.is_empty(), "ARCHITECTURE.md names what isn't there: {missing:?}");
}

/// Sources below a folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] });
    files.filter(|path| path.extension().is_some_and(|end| end == "rs")).collect()
}

/// The compiler holds what the roots of the crates say; that they say it, and that sdp-core allows it in `net/` alone, is held here.
#[test]
fn unsafe_stands_in_the_sockets_of_the_relay_only() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for crate_root in [
        "sip-core/src/lib.rs",
        "tunnel/src/lib.rs",
        "acme-store/src/lib.rs",
        "twin/src/lib.rs",
        "gateway-bin/src/lib.rs",
        "gateway-bin/src/main.rs",
    ] {
        let text = std::fs::read_to_string(root.join(crate_root)).unwrap();
        assert!(text.contains("#![forbid(unsafe_code)]"), "{crate_root}");
    }
    let media = root.join("sdp-core/src");
    assert!(std::fs::read_to_string(media.join("lib.rs")).unwrap().contains("#![deny(unsafe_code)]"));
    let allows = |path: &PathBuf| std::fs::read_to_string(path).unwrap().contains("allow(unsafe_code");
    let allowed: Vec<_> = sources(&media).into_iter().filter(allows).collect();
    assert!(
        !allowed.is_empty() && allowed.iter().all(|path| path.starts_with(media.join("net"))),
        "{allowed:?}"
    );
}
