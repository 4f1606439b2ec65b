//! `count_sip LIBRARY TASK N`: does one task N times and nothing else, for `callgrind.sh` to count.

use std::hint::black_box;
use std::process::ExitCode;

use farend_benches::sip::{Ours, rsip_access, rsip_parse, rsip_proxy};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [library, task, n] = arguments.as_slice() else { return usage() };
    let Ok(n) = n.parse::<u32>() else { return usage() };
    let mut ours = Ours::default();
    for _ in 0..n {
        black_box(match (library.as_str(), task.as_str()) {
            ("farend", "parse") => ours.parse(),
            ("farend", "access") => ours.access(),
            ("farend", "proxy") => ours.proxy(),
            ("rsip", "parse") => rsip_parse(),
            ("rsip", "access") => rsip_access(),
            ("rsip", "proxy") => rsip_proxy(),
            _ => return usage(),
        });
    }
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    eprintln!("count_sip farend|rsip parse|access|proxy N");
    ExitCode::FAILURE
}
