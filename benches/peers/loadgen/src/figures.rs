//! What was measured, and how a load is paced.

use sipload::*;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

#[derive(Default)]
pub(crate) struct Stats {
    pub(crate) ok: AtomicU64,
    pub(crate) fail: AtomicU64,
    pub(crate) retrans: AtomicU64,
    pub(crate) wrong: AtomicU64,
    pub(crate) measuring: AtomicBool,
    pub(crate) stop: AtomicBool,
    pub(crate) lat: Mutex<Vec<u32>>,
    pub(crate) lat2: Mutex<Vec<u32>>,
    pub(crate) errs: Mutex<HashMap<String, u64>>,
}

impl Stats {
    pub(crate) fn good(&self) {
        self.ok.fetch_add(1, Relaxed);
    }
    pub(crate) fn bad(&self, why: String) {
        self.fail.fetch_add(1, Relaxed);
        *self.errs.lock().unwrap().entry(why).or_default() += 1;
    }
    pub(crate) fn is_measuring(&self) -> bool {
        self.measuring.load(Relaxed)
    }
    pub(crate) fn stopped(&self) -> bool {
        self.stop.load(Relaxed)
    }
}

/// Warm up, measure for --secs, stop; prints one line of figures.
pub(crate) async fn measure(a: &Args, name: &str, st: &Arc<Stats>) {
    let p = pids(a);
    tokio::time::sleep(Duration::from_secs_f64(a.num("warmup", 2.0))).await;
    let (c0, me0, t0) = (cpu_of(&p), cpu_of(&[std::process::id()]), Instant::now());
    let (ok0, f0, r0) = (st.ok.load(Relaxed), st.fail.load(Relaxed), st.retrans.load(Relaxed));
    st.measuring.store(true, Relaxed);
    tokio::time::sleep(Duration::from_secs_f64(a.num("secs", 10.0))).await;
    st.measuring.store(false, Relaxed);
    let (c, me) = (cpu_of(&p).since(&c0), cpu_of(&[std::process::id()]).since(&me0));
    let dt = t0.elapsed().as_secs_f64();
    let (ok, f, r) = (st.ok.load(Relaxed) - ok0, st.fail.load(Relaxed) - f0, st.retrans.load(Relaxed) - r0);
    st.stop.store(true, Relaxed);
    println!(
        "RESULT {name} {label} ok={ok} fail={f} retrans={r} secs={dt:.1} per_s={:.0} proxy_cpu={:.2}s (user {:.2} sys {:.2}) cpu_per_1000={:.4}s per_cpu_s={:.0} load_cpu={:.2}s loadavg={}",
        ok as f64 / dt,
        c.total(),
        c.user,
        c.sys,
        c.total() * 1000.0 / ok.max(1) as f64,
        if c.total() > 0.0 { ok as f64 / c.total() } else { 0.0 },
        me.total(),
        loadavg(),
        label = a.get("label", "-")
    );
    println!("  latency {}", percentiles(&mut st.lat.lock().unwrap()));
    let mut l2 = st.lat2.lock().unwrap();
    if !l2.is_empty() {
        println!("  second  {}", percentiles(&mut l2));
    }
    let errs = st.errs.lock().unwrap();
    if !errs.is_empty() {
        println!("  errors {:?}", errs);
    }
    if st.wrong.load(Relaxed) > 0 {
        println!("  WRONG PHONE {}", st.wrong.load(Relaxed));
    }
}

pub(crate) async fn pause_until(start: Instant, step: Duration, k: u64) {
    tokio::time::sleep_until((start + step.mul_f64(k as f64)).into()).await
}
