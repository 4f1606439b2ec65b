//! A site and two phones on its own network, without a gateway: `cargo run -p farend-twin --example site`.

use std::time::Duration;

use twin::mac::Mac;
use twin::phone::Phone;
use twin::phone::line::Line;
use twin::pki::Pki;
use twin::plan::Plan;
use twin::site::{Options, Over, Site};
use twin::timeline::Timeline;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let plan = Plan::default();
    let pki = Pki::new(&plan)?;
    // Without a gateway there is nothing to dial: switches use the connections phones registered over.
    let site = Site::start(&plan, &pki, &Options { over: Over::Registration, ..Options::default() }).await?;
    let switch = site.addresses().switches[0];
    let mut timeline = Timeline::new(Box::new(std::io::stdout()));

    for handset in plan.handsets(2) {
        let phone = Phone::new(handset.clone(), &pki, Duration::from_secs(5))?;
        let phone = phone.trusting(&[pki.hq_root().clone()])?;
        let line = Line::connect(&phone, switch, &switch.ip().to_string()).await?;
        line.register(switch, 60).await?;
        let seen = line.wait("NOTIFY burst", |seen| seen.notifies.len() == 4).await?;
        let events: Vec<_> = seen.notifies.iter().map(|notify| notify.event.as_str()).collect();
        timeline.record("register", Some(handset.mac), Ok(format!("then NOTIFY {}", events.join(", "))));
    }
    let macs: Vec<Mac> = site.records().bindings.iter().filter_map(|binding| binding.mac).collect();
    timeline.record("site", None, Ok(format!("bindings of {macs:?}")));
    timeline.summary();
    Ok(())
}
