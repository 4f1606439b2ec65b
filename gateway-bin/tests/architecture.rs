//! ARCHITECTURE.md names paths that exist.

use std::path::Path;

#[test]
fn every_path_named_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let text = std::fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
    let paths: Vec<&str> = text.split('`').skip(1).step_by(2).filter(|code| code.ends_with(".rs")).collect();
    assert!(paths.len() > 20, "the five ways are gone");
    let missing: Vec<_> = paths.iter().filter(|path| !root.join(path).is_file()).collect();
    assert!(missing.is_empty(), "ARCHITECTURE.md names what isn't there: {missing:?}");
}
