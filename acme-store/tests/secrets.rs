//! Nothing that can be printed shows a key.

mod pki;

use acme_store::account::Directory;
use acme_store::disk::Disk;
use acme_store::import;
use acme_store::lifecycle::{self, Plan};
use acme_store::pem;
use acme_store::publish::{Certificate, Clients, Listener, Versions};
use acme_store::request::Form;
use acme_store::schedule::Policy;
use acme_store::store::{AccountSecret, Store};
use pki::{Ca, Dir, cn, now};

#[test]
fn debug_and_errors_show_no_key() {
    let (dir, ca) = (Dir::new(), Ca::root("CA"));
    let issued = ca.issue(&cn("gw.example").dns("gw.example"));
    let text = format!("{}{}", issued.pem(), issued.key_pem());
    let imported = import::credential(&[text.as_bytes()], now()).unwrap();
    let certificate = Certificate::new(imported.credential.clone());
    let listener = Listener {
        certificate: certificate.clone(),
        clients: Clients::Known { trust: ca.trust(), required: true },
        versions: Versions::V12AndUp,
        application: Default::default(),
    };
    let disk = Disk::open(&dir.0.join("state")).unwrap();
    disk.save_credential("gw", &imported.credential).unwrap();
    let plan = Plan {
        name: "gw".into(),
        form: Form::for_names(&["gw.example".into()]),
        key: Default::default(),
        renewal: Policy::default(),
    };
    let prepared = lifecycle::prepare(&disk, &plan, now()).unwrap();
    let mut shown = vec![
        format!("{imported:?} {certificate:?} {listener:?} {disk:?} {prepared:?}"),
        format!("{:?}", imported.credential.key()),
        format!("{:?}", pem::blocks(text.as_bytes())),
        format!("{:?}", AccountSecret(issued.key_pem())),
        format!("{:?}", Directory::new("acme.example", "d").unwrap()),
    ];
    // Errors about damaged keys, at every place where the text may be cut.
    let key = issued.key_pem();
    for cut in (30..key.len()).step_by(7) {
        let damaged = format!("{}{}{}", &key[..cut], '?', &key[cut..]);
        for text in [&key[..cut], &damaged] {
            if let Err(error) = import::credential(&[text.as_bytes()], now()) {
                shown.push(format!("{error} {error:?}"));
            }
        }
    }
    assert!(shown.len() > 50);
    let der = issued.key.serialize_der();
    let lines: Vec<&str> = key.lines().filter(|line| !line.starts_with('-')).collect();
    let decimal: Vec<String> = der
        .windows(4)
        .map(|bytes| format!("{}, {}, {}, {}", bytes[0], bytes[1], bytes[2], bytes[3]))
        .collect();
    for text in shown {
        assert!(!lines.iter().any(|line| text.contains(&line[..12])), "{text}");
        assert!(!decimal.iter().any(|bytes| text.contains(bytes)), "{text}");
    }
}
