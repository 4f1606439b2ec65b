//! Replays every corpus file on stable: what a fuzzer found once stays found.
#![cfg(not(feature = "planted"))]

use std::fs;
use std::path::Path;

#[test]
fn every_corpus_file_holds() {
    for (name, target) in farend_fuzz::TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
        let mut files = 0;
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.expect("a folder lists").path();
            let data = fs::read(&path).expect("a corpus file reads");
            // The name of the file comes with the panic.
            eprintln!("{}", path.display());
            target(&data);
            files += 1;
        }
        assert!(files > 0, "{name} has no corpus");
    }
}

/// The binaries of `fuzz_targets/` are the targets of the list.
#[test]
fn every_target_has_its_binary() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz_targets");
    let mut found: Vec<_> = fs::read_dir(folder)
        .expect("the folder lists")
        .filter_map(|entry| entry.ok()?.path().file_stem()?.to_str().map(str::to_owned))
        .collect();
    found.sort();
    let mut listed: Vec<_> = farend_fuzz::TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    listed.sort();
    assert_eq!(found, listed);
}
