#!/bin/sh
# Runs each fuzz target for some seconds and expects no finding; then each with its planted bug and expects one.
#
#   fuzz/run.sh [SECONDS] [TARGET...]      default: 60 seconds, every target
#
# Needs cargo-fuzz (`cargo install cargo-fuzz --locked`) and a C++ compiler; stable Rust does (RUSTC_BOOTSTRAP).
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-60}
[ $# -gt 0 ] && shift
[ $# -gt 0 ] || set -- $(ls fuzz/fuzz_targets | sed 's/\.rs$//')
export RUSTC_BOOTSTRAP=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=

# run NAME TARGET SECONDS, with $features: 0 when nothing was found. New inputs go to a folder of their own, so that the
# corpus in the repository stays small.
run() {
    mkdir -p "$work/$1/new" "$work/$1/found"
    cargo fuzz run --fuzz-dir fuzz --target-dir target/fuzz --features "$features" "$2" \
        "$work/$1/new" "fuzz/corpus/$2" -- \
        -max_total_time="$3" -max_len=2048 -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 \
        -artifact_prefix="$work/$1/found/" >"$work/$1.log" 2>&1
}

# What is built now is not built on the time of a run.
build() {
    for target in "$@"; do
        cargo fuzz build --fuzz-dir fuzz --target-dir target/fuzz --features "$features" "$target"
    done
}

features=libfuzzer
build "$@"
for target in "$@"; do
    if run "$target" "$target" "$seconds"; then
        count=$(sed -n 's/^stat::number_of_executed_units: *//p' "$work/$target.log")
        echo "$target: no finding in $seconds s, $count runs"
    else
        echo "$target: FINDING or no run"
        tail -n 40 "$work/$target.log"
        mkdir -p fuzz/artifacts/"$target" && cp "$work/$target/found/"* fuzz/artifacts/"$target"/ 2>/dev/null || true
        failed=yes
    fi
done
features=libfuzzer,planted
build "$@"
for target in "$@"; do
    start=$(date +%s)
    # A build that fails must not pass for a finding: libFuzzer leaves the input it crashed on.
    if ! run "planted-$target" "$target" 120 && ls "$work/planted-$target/found/"crash-* >/dev/null 2>&1; then
        echo "$target: the planted bug was found after $(($(date +%s) - start)) s"
    else
        echo "$target: the planted bug was NOT found"
        tail -n 40 "$work/planted-$target.log"
        failed=yes
    fi
done
[ -z "$failed" ]
