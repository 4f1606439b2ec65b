#!/bin/bash
# Farend and Kamailio under the same load, one after the other, each pinned to one core, all on loopback:
#   benches/peers/run.sh [TEST...]
# Tests (default: all): reg-tls reg-udp signal-tls signal-in conn12 conn13 rate-reg rate-signal rate-call rate-in mem reuse
#   reg-udp: phones without certificates, let in by a row of their own that trusts their networks (trust_source).
#   reuse: no figure. Phone B takes the address and port that phone A had, and the inside calls A: is it B who answers?
#   rate-call and rate-in carry SDP: Farend anchors the audio as it always does, Kamailio here has no relay. They keep to a
#   rate, because a port that a call has left rests: at thousands of calls a second they would run out.
#   signal-tls, signal-in and rate-signal are calls with a body that no relay looks at: signalling alone.
# Prints CPU-seconds (user + system of the server process) per 1,000 units, their ratio and the bar it must keep; medians
# of N rounds. Exits with 1 when a bar is broken, a unit failed at Farend, or a call came to the wrong phone of it.
#   N=5 SECS=5 PHONES=500 INFLIGHT=16   rounds, seconds a test, phones, units in flight
#   MEM_PHONES=10000                    phones of the memory test
#   SERVERS="kamailio farend"           the servers, in the order they run in each round
#   FAREND=path                         a binary; default: cargo build --release -p farend
#   CORE=0 UAS_CORE=1 LOAD_CORES=2,3    cores of the server, the registrar, the phones
# Needs Debian's kamailio, kamailio-tls-modules, kamailio-outbound-modules, kamailio-extra-modules, openssl, python3.
set -u
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
run=${RUN:-$here/run}
N=${N:-5} SECS=${SECS:-5} PHONES=${PHONES:-500} INFLIGHT=${INFLIGHT:-16}
CORE=${CORE:-0} UAS_CORE=${UAS_CORE:-1} LOAD_CORES=${LOAD_CORES:-2,3}
SERVERS=${SERVERS:-kamailio farend}
[ $# -gt 0 ] || set -- reg-tls reg-udp signal-tls signal-in conn12 conn13 rate-reg rate-signal rate-call rate-in mem reuse
TLS=tls:127.0.0.10:5061 UDP=udp:127.0.0.10:5060 INSIDE=127.0.0.20:5060 REGISTRAR=127.0.0.30:5080
server= uas=

fail() { echo "run.sh: $*" >&2; exit 1; }
end() { # ends one process that we started, and waits for it
  [ -n "$1" ] || return 0
  kill -INT "$1" 2>/dev/null
  for _ in $(seq 50); do kill -0 "$1" 2>/dev/null || break; sleep 0.1; done
  kill -KILL "$1" 2>/dev/null
  wait "$1" 2>/dev/null
}
trap 'end "$uas"; end "$server"' EXIT
trap 'exit 130' INT TERM

mkdir -p "$run" && : >"$run/results" && : >"$run/load.log" || fail "no folder $run"
ulimit -n "$(ulimit -Hn)"
(cd "$here/loadgen" && cargo build --release --quiet) || fail "the load generator was not built"
sipload=$here/loadgen/target/release/sipload
if [ -z "${FAREND:-}" ]; then
  (cd "$root" && cargo build --release --quiet -p farend) || fail "farend was not built"
  FAREND=$root/target/release/farend
fi
[ -s "$run/certs/server.pem" ] || "$here/certs.sh" "$run/certs" || fail "no certificates"
mkdir -p "$run/certs/phones"

answers() { # waits for a TCP listener: host port
  for _ in $(seq 100); do (exec 3<>"/dev/tcp/$1/$2") 2>/dev/null && return 0; sleep 0.1; done
  return 1
}
start() { # kamailio | farend
  rm -rf "${run:?}/$1" && mkdir -p "$run/$1"
  case $1 in
  kamailio)
    sed "s#@CERTS@#$run/certs#" "$here/kamailio/tls.cfg.in" >"$run/kamailio/tls.cfg"
    sed "s#RUNDIR#$run/kamailio#g; s#MODDIR#${MODDIR:-/usr/lib/x86_64-linux-gnu/kamailio/modules}#g" \
      "$here/kamailio/edge.cfg" >"$run/kamailio/edge.cfg"
    taskset -c "$CORE" "${KAMAILIO:-/usr/sbin/kamailio}" -f "$run/kamailio/edge.cfg" -A WORKERS=1 -A TCPWORKERS=1 \
      -x tlsf -DD -E -m "${SHM:-2048}" -M 16 -Y "$run/kamailio" -P "$run/kamailio/pid" >"$run/kamailio/log" 2>&1 &;;
  farend)
    sed "s#@CERTS@#$run/certs#; s#@RUN@#$run/farend#" "$here/farend/edge.toml.in" >"$run/farend/edge.toml"
    taskset -c "$CORE" "$FAREND" run -c "$run/farend/edge.toml" >"$run/farend/log" 2>&1 &;;
  *) fail "no server is called $1";;
  esac
  server=$!
  answers 127.0.0.10 5061 && sleep 0.5 && kill -0 "$server" 2>/dev/null || { tail -5 "$run/$1/log" >&2; fail "$1 does not answer"; }
}
uas() {
  taskset -c "$UAS_CORE" "$sipload" uas --listen "udp:$REGISTRAR" >/dev/null 2>&1 &
  uas=$!
  sleep 0.3
}
load() { # mode label arguments...
  local mode=$1 label=$2
  shift 2
  taskset -c "$LOAD_CORES" "$sipload" "$mode" --label "$label" --pid "$server" --secs "$SECS" --phones "$PHONES" \
    --inflight "$INFLIGHT" --ca "$run/certs/ca.pem" --ca-key "$run/certs/ca.key" --keep "$run/certs/phones" --src 127.1.0.1 --srcs 64 "$@" \
    2>>"$run/load.log" | tee -a "$run/results" | sed "s/^/    /"
}
pss() { # kB of the server's processes
  local p sum=0 one
  for p in $(pgrep -P "$server") "$server"; do
    one=$(awk '/^Pss:/{print $2}' "/proc/$p/smaps_rollup" 2>/dev/null)
    sum=$((sum + ${one:-0}))
  done
  echo "$sum"
}
mem() {
  local label=$1 before now phones=${MEM_PHONES:-10000} idle
  before=$(pss)
  taskset -c "$LOAD_CORES" "$sipload" idle --target $TLS --phones "$phones" --hold 60 --ca "$run/certs/ca.pem" \
    --ca-key "$run/certs/ca.key" --keep "$run/certs/phones" --src 127.1.0.1 --srcs 64 >"$run/idle" 2>>"$run/load.log" &
  idle=$!
  for _ in $(seq 900); do grep -q READY "$run/idle" && break; sleep 0.2; done
  sleep "${SETTLE:-8}" # the transactions of the last REGISTERs end
  now=$(pss)
  echo "MEM $label phones=$phones $(cat "$run/idle") before=${before}kB now=${now}kB bytes_per_phone=$(((now - before) * 1024 / phones))" |
    tee -a "$run/results" | sed "s/^/    /"
  end "$idle"
}
reuse() { # server arguments...
  local server=$1
  shift
  taskset -c "$LOAD_CORES" "$sipload" reuse --target $TLS "$@" --ca "$run/certs/ca.pem" --ca-key "$run/certs/ca.key" \
    --keep "$run/certs/phones" --src 127.1.0.1 --srcs 64 2>>"$run/load.log" | sed "s#^#REUSE $server #" | tee -a "$run/results" |
    sed "s/^/    /"
}
measure() { # server test
  local inbound="--inside-listen $REGISTRAR --proxy-inside $INSIDE" text="--body-type text/plain"
  case $2 in rate-in | signal-in | reuse) ;; *) uas ;; esac
  case $2 in
  reg-tls) load reg "$1/$2" --target $TLS;;
  reg-udp) load reg "$1/$2" --target $UDP;;
  signal-tls) load call "$1/$2" --target $TLS $text;;
  rate-in) load inbound "$1/$2" --target $TLS $inbound --rate "${CALL_RATE:-150}";;
  signal-in) load inbound "$1/$2" --target $TLS $inbound $text;;
  conn12) load conn "$1/$2" --target $TLS --tls 1.2 --then register;;
  conn13) load conn "$1/$2" --target $TLS --tls 1.3 --then register;;
  rate-reg) load reg "$1/$2" --target $TLS --rate "${REG_RATE:-500}";;
  rate-signal) load call "$1/$2" --target $TLS $text --rate "${CALL_RATE:-150}";;
  rate-call) load call "$1/$2" --target $TLS --rate "${CALL_RATE:-150}";;
  mem) mem "$1/$2";;
  reuse) reuse "$1" $inbound;;
  *) fail "no test is called $2";;
  esac
  end "$uas"
  uas=
}

for round in $(seq "$N"); do
  for name in $SERVERS; do
    echo "round $round: $name"
    for test in "$@"; do
      # Each on a server of its own: transactions of the test before last 32 s, and what it freed would be used again.
      start "$name"
      measure "$name" "$test"
      end "$server"
      server=
    done
  done
done
python3 "$here/table.py" "$run/results"
