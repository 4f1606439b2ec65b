#!/bin/bash
# Farend's relay and rtpengine (userspace) under the same load, one after the other, each alone on one core, on loopback:
#   benches/peers/relay.sh [TEST...]
# Tests (default: all but calls): paced100 paced500 paced1000 flood100 flood1000 mem calls
#   paced: G.711 at 50 packets a second and stream, both ways; flood: as fast as the relay delivers; mem: PSS per call,
#   measured after the others ran; calls: how many before the 99th percentile of delay passes 20 ms.
# Prints CPU-seconds per million packets, their ratio to rtpengine's and the bar it must keep, delay, loss; medians of N
# rounds. Lost are the packets that had not come when the time was over, those on the way among them; dropped those that the
# kernel had no room for on any socket here, which is what the bar is about. Exits with 1 when a bar is broken.
#   N=3 SECS=5 CALLS=1000               rounds, seconds a test, calls that are set up
#   SERVERS="rtpengine reset keep"      in the order they run in each round; also epoll (reset on the fallback), workers1, workers2, …
#                                       (reset with so many threads, on the cores WORKERS_AT, by default 0-3: those of the generator too)
#   FILL=200                            streams of a worker before the next one gets any
#   PEERS=../shared/peers/sip           where the generators are: rtpload, ng.py
#   RELAY=path                          a relay_calls binary; default: cargo build --release
#   CORE=0 SEND=2 RECV=3                cores of the relay and of the generator's two threads
#   FIFO=                               a real-time priority for all of them, on a machine that has other work
# Needs Debian's rtpengine-daemon, python3, four cores at rest.
set -u
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
run=${RUN:-$here/run/relay}
N=${N:-3} SECS=${SECS:-5} CALLS=${CALLS:-1000}
CORE=${CORE:-0} SEND=${SEND:-2} RECV=${RECV:-3} FIFO=${FIFO:-}
SERVERS=${SERVERS:-rtpengine reset keep}
[ $# -gt 0 ] || set -- paced100 paced500 paced1000 flood100 flood1000 mem
server=

fail() { echo "relay.sh: $*" >&2; exit 1; }
end() { # ends the process that we started, and waits for it
  [ -n "$server" ] || return 0
  kill -TERM "$server" 2>/dev/null
  for _ in $(seq 50); do kill -0 "$server" 2>/dev/null || break; sleep 0.1; done
  kill -KILL "$server" 2>/dev/null
  wait "$server" 2>/dev/null
  server=
}
trap end EXIT
trap 'exit 130' INT TERM

for at in "$root/../shared/peers/sip" /work/shared/peers/sip; do PEERS=${PEERS:-$([ -d "$at" ] && echo "$at")}; done
[ -f "$PEERS/rtpengine/ng.py" ] || fail "no load generators: set PEERS"
mkdir -p "$run" && : >"$run/results" || fail "no folder $run"
ulimit -n "$(ulimit -Hn)"
first=()
[ -z "$FIFO" ] || first=(chrt -f "$FIFO")
rtpload=${RTPLOAD:-$run/loadgen/target/release/rtpload}
if [ ! -x "$rtpload" ]; then
  # A workspace of its own, wherever the copy lies.
  cp -r "$PEERS/loadgen" "$run/" && printf '\n[workspace]\n' >>"$run/loadgen/Cargo.toml" && (cd "$run/loadgen" && cargo build --release --quiet --bin rtpload) || fail "rtpload was not built"
fi
if [ -z "${RELAY:-}" ]; then
  (cd "$root" && cargo build --release --quiet -p farend-sdp-core --features net --example relay_calls) || fail "relay_calls was not built"
  RELAY=$root/target/release/examples/relay_calls
fi
ng() { python3 "$PEERS/rtpengine/ng.py" "$@"; }
pss() { awk '/^Pss:/{print $2}' "/proc/$server/smaps_rollup"; }
pinned() { exec "${first[@]}" taskset -c "$at" "$@"; }

start() { # server, calls; sets `server` and `before`
  local at=$CORE
  case $1 in
  rtpengine)
    (pinned /usr/bin/rtpengine --config-file=none --table=-1 --foreground --log-stderr --log-level=4 --interface=127.0.0.4 \
      --listen-ng=127.0.0.1:2223 --port-min=21000 --port-max=65000 --num-threads=1 --timeout=3600 --silent-timeout=3600 \
      --delete-delay=0 --tos=184 >"$run/rtpengine.log" 2>&1) &
    server=$!
    for _ in $(seq 50); do ng ping >/dev/null 2>&1 && break; sleep 0.2; done
    before=$(pss)
    ng setup --calls "$2" --map "$run/map" >/dev/null || fail "rtpengine refused a call";;
  reset | keep | epoll | workers[1-9]*)
    local ttl=$1 more=
    case $1 in workers*) ttl=reset at=${WORKERS_AT:-0-3} more="${1#workers} auto ${FILL:-200}";; esac
    [ "$1" = epoll ] && ttl=reset more="1 epoll"
    : >"$run/$1.log"
    # shellcheck disable=SC2086
    (pinned "$RELAY" "$run/map" "$2" $ttl $more >"$run/$1.log" 2>&1) &
    server=$!
    for _ in $(seq 100); do grep -q READY "$run/$1.log" && break; sleep 0.1; done
    grep -q READY "$run/$1.log" || { cat "$run/$1.log" >&2; fail "the relay did not start"; }
    before=$(sed -n 's/^pss_before=//p' "$run/$1.log");;
  *) fail "no server is called $1";;
  esac
}
drops() { awk '/^Udp:/ && $2 ~ /[0-9]/ {print $4 + $7}' /proc/net/snmp; } # no room to receive, none to send
load() { # label arguments...
  local label=$1 had
  shift
  had=$(drops)
  "${first[@]}" "$rtpload" --map "$run/map" --pid "$server" --secs "$SECS" --send-cores "$SEND" --recv-cores "$RECV" --label "$label" "$@" |
    tee -a "$run/results" | sed "s/^/    /"
  echo "  dropped=$(($(drops) - had))" | tee -a "$run/results" | sed "s/^/    /"
}
measure() { # server test
  case $2 in
  paced*) load "$1/$2" --calls "${2#paced}" --sample 4;;
  flood*) load "$1/$2" --calls "${2#flood}" --flood 512 --sample 16;;
  mem) echo "MEM $1 calls=$CALLS bytes_per_call=$((($(pss) - before) * 1024 / CALLS))" | tee -a "$run/results" | sed "s/^/    /";;
  calls) ;;
  *) fail "no test is called $2";;
  esac
}
most() { # server: more and more calls, until the delay passes 20 ms or one in a thousand is lost
  local n
  for n in ${STEPS:-600 800 1000 1200 1400 1600 2000 2400 2800 3200}; do
    start "$1" "$n"
    load "$1/calls" --calls "$n" --sample 4 >"$run/step"
    end
    python3 "$here/relay_table.py" --passes "$run/step" || break
    sed -n 's/.* calls=\([0-9]*\) .*/\1/p' "$run/step" | head -1 >"$run/most"
  done
  echo "MOST $1 calls=$(cat "$run/most" 2>/dev/null || echo 0)" | tee -a "$run/results" | sed "s/^/    /"
}

for round in $(seq "$N"); do
  for name in $SERVERS; do
    echo "round $round: $name"
    case " $* " in *" paced"* | *" flood"* | *" mem "*)
      start "$name" "$CALLS"
      for test in "$@"; do measure "$name" "$test"; done
      end;;
    esac
    case " $* " in *" calls "*) rm -f "$run/most"; most "$name";; esac
  done
done
python3 "$here/relay_table.py" "$run/results"
