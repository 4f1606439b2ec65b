#!/usr/bin/env bash
# Runs every test of Farend on a Debian machine with Rust: installs the Debian packages the tests need (as root), builds,
# checks, tests, plays the demo and its breaks, and runs the interoperability laboratory in network namespaces (as root).
#
# What can't run here is left out by name; with LEFT_OUT=fails (CI) that is a failure.
# A part can be run alone: ./test.sh [PART…], PART one of the names below.
set -u
cd "$(dirname "$0")"

PARTS="packages format lint docs features deny unit examples instructions demo fuzz-replay lab"
PACKAGES="kamailio kamailio-tls-modules kamailio-outbound-modules baresip linphone-cli sip-tester tshark nginx-light nftables iproute2 pebble dnsmasq-base procps
          python3 curl openssl sox valgrind gcc"
LIBRARIES="farend-sip-core farend-sdp-core farend-tunnel farend-acme-store"
CARGO_DENY=0.20.2

export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-never}
[ "${LEFT_OUT:-}" = fails ] && export FAREND_REQUIRE_PEERS=1

passed=() failed=() left_out=()
leave_out() { left_out+=("$1: $2"); return 77; }

part_packages() {
  local missing=()
  for package in $PACKAGES; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q "install ok installed" || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return 0
  command -v apt-get >/dev/null || { leave_out packages "this is no Debian machine; missing: ${missing[*]}"; return; }
  [ "$(id -u)" = 0 ] || { leave_out packages "not root; missing: ${missing[*]}"; return; }
  export DEBIAN_FRONTEND=noninteractive
  # The peers are started by the tests, never by the machine.
  mkdir -p /usr/sbin
  apt-get update -q && RUNLEVEL=1 apt-get install -q -y --no-install-recommends "${missing[@]}"
}
part_format() { cargo fmt --all --check; }
part_lint() { cargo clippy --workspace --all-targets --all-features --locked -- -D warnings; }
part_docs() { RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --all-features --locked; }
part_features() {
  # Each library stands alone, without a runtime; none depends on another.
  local library tree
  for library in $LIBRARIES; do
    cargo test -q --locked -p "$library" --no-default-features || return 1
    tree=$(cargo tree -p "$library" --all-features -e normal --prefix none) || return 1
    if grep -v "^$library " <<< "$tree" | grep -q '^farend'; then echo "$library depends on another crate of ours"; return 1; fi
  done
  tree=$(cargo tree -p farend-sip-core --no-default-features -e normal --prefix none)
  if grep -E '^(tokio|futures|async|mio|hyper)' <<< "$tree"; then echo "sip-core has something async without features"; return 1; fi
}
part_deny() {
  if ! command -v cargo-deny >/dev/null; then
    cargo install -q --locked "cargo-deny@$CARGO_DENY" || { leave_out deny "cargo-deny can't be installed"; return; }
  fi
  cargo deny --all-features check bans licenses sources
}
part_unit() {
  local log=${CARGO_TARGET_DIR:-target}/tests-ran.log
  mkdir -p "${log%/*}"
  cargo test --workspace --all-features --locked 2>&1 | tee "$log"
  [ "${PIPESTATUS[0]}" = 0 ] || return 1
  # The edge's world once more, as several machines.
  WORLD_SHARDS=3 cargo test -q -p farend-sip-core --locked --test edge || return 1
  # What docs/coverage.md names must have run and passed.
  local name missing=0
  for name in $(grep -o '`[^`]*\.rs::[^`]*`' docs/coverage.md | sed 's/.*:://; s/`//' | sort -u); do
    grep -qE "^test (.*::)?$name \.\.\. ok" "$log" || { echo "docs/coverage.md: $name did not run"; missing=1; }
  done
  return $missing
}
part_examples() {
  # As somebody else's programs: they run, and the user agent talks to a peer that is none of ours.
  local example
  for example in tag_routing own_proxy; do cargo run -q --locked -p farend-sip-core --example "$example" || return 1; done
  cargo run -q --locked -p farend-sdp-core --features net --example two_phones || return 1
  cargo build -q --locked -p farend-sip-core --features tokio --example user_agent || return 1
  "${CARGO_TARGET_DIR:-target}/debug/examples/user_agent" || return 1
  command -v sipp >/dev/null || { leave_out examples "sipp is missing"; return; }
  python3 lab/ua.py "${CARGO_TARGET_DIR:-target}/debug/examples/user_agent"
}
part_instructions() {
  command -v valgrind >/dev/null || { leave_out instructions "valgrind is missing"; return; }
  benches/callgrind.sh
}
part_demo() {
  cargo build -q --release --locked -p farend || return 1
  target/release/farend demo || return 1
  local step
  for step in "tag routing" relay tunnel certificate file re-homing; do
    if out=$(target/release/farend demo --break "$step" 2>&1); then echo "--break \"$step\" went unnoticed"; return 1; fi
    grep -q "broken: $step" <<< "$out" || { echo "$out" | tail -20; echo "--break \"$step\" is not named"; return 1; }
    echo "demo --break \"$step\" fails at that step, as it must"
  done
}
part_fuzz-replay() { cargo test -q --locked -p farend-fuzz; }
part_lab() {
  [ "$(id -u)" = 0 ] || { leave_out lab "network namespaces need root"; return; }
  ip netns add farend-probe 2>/dev/null && ip netns del farend-probe || { leave_out lab "this machine makes no network namespaces"; return; }
  cargo build -q --release --locked -p farend || return 1
  python3 lab/run.py --farend target/release/farend --lanes 2
}

command -v cargo >/dev/null || { echo "cargo is not in PATH: install Rust (the rustup way or your distribution's)" >&2; exit 2; }
for part in ${*:-$PARTS}; do
  case " $PARTS " in *" $part "*) ;; *) echo "there is no part \"$part\": $PARTS" >&2; exit 2 ;; esac
  echo "=== $part"
  start=$SECONDS
  "part_$part"
  case $? in
    0) passed+=("$part"); echo "=== $part: passed in $((SECONDS - start)) s" ;;
    77) echo "=== ${left_out[-1]/:/: left out:}" ;;
    *) failed+=("$part"); echo "=== $part: FAILED after $((SECONDS - start)) s" ;;
  esac
done

echo
for reason in "${left_out[@]}"; do echo "left out: $reason"; done
for part in "${failed[@]}"; do echo "failed: $part"; done
echo "${#passed[@]} passed, ${#failed[@]} failed, ${#left_out[@]} skipped"
[ ${#failed[@]} -eq 0 ] || exit 1
if [ "${LEFT_OUT:-}" = fails ] && [ ${#left_out[@]} -gt 0 ]; then exit 1; fi
