//! `count_worst`: reads each input of `farend_benches::worst` as a datagram and as a stream, twice, and prints its octets and
//! name; `callgrind.sh` counts the second time.

use std::path::Path;
use std::process::ExitCode;

use farend_benches::worst::{Reader, adversarial, corpus};

fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut inputs = adversarial();
    match corpus(&root) {
        Ok(seeds) => inputs.extend(seeds),
        Err(error) => {
            eprintln!("fuzz/corpus: {error}");
            return ExitCode::FAILURE;
        }
    }
    let mut reader = Reader::default();
    for (name, bytes) in inputs {
        for _ in 0..2 {
            reader.datagram(bytes.clone());
            reader.stream(&bytes);
        }
        println!("{}\t{name}", bytes.len());
    }
    ExitCode::SUCCESS
}
