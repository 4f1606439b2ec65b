//! `count_sdp LIBRARY TASK N`: does one task N times and nothing else, for `callgrind.sh` to count.

use std::hint::black_box;
use std::process::ExitCode;

use farend_benches::sdp::{Ours, sdp_rs_rewrite, sdp_types_rewrite};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [library, task, n] = arguments.as_slice() else { return usage() };
    let Ok(n) = n.parse::<u32>() else { return usage() };
    let mut ours = Ours::default();
    for _ in 0..n {
        match (library.as_str(), task.as_str()) {
            ("farend", "rewrite") => drop(black_box(ours.rewrite())),
            ("farend", "limit") => drop(black_box(ours.limit())),
            ("sdp-types", "rewrite") => drop(black_box(sdp_types_rewrite())),
            ("sdp-rs", "rewrite") => drop(black_box(sdp_rs_rewrite())),
            _ => return usage(),
        }
    }
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    eprintln!("count_sdp farend|sdp-types|sdp-rs rewrite|limit N");
    ExitCode::FAILURE
}
