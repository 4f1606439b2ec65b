//! `count_edge refresh|refused|answered N`: N registrations of a phone, or calls of the PBX to it, through the signalling
//! gateway, for `callgrind.sh` to count; prints the time one takes.

use std::process::ExitCode;
use std::time::Instant;

use farend_benches::edge::Gateway;

#[allow(clippy::disallowed_methods, reason = "a bench measures time")]
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (Some(task), Some(Ok(n))) = (arguments.first(), arguments.get(1).map(|n| n.parse::<u32>())) else {
        return usage();
    };
    let call = match task.as_str() {
        "refresh" => Gateway::refresh,
        "refused" => Gateway::refused_call,
        "answered" => Gateway::answered_call,
        _ => return usage(),
    };
    let mut gateway = Gateway::new();
    let start = Instant::now();
    for _ in 0..n {
        call(&mut gateway);
    }
    println!("{:?} each", start.elapsed() / n.max(1));
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    eprintln!("count_edge refresh|refused|answered N");
    ExitCode::FAILURE
}
