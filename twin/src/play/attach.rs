//! How a real client joins the running demonstration.

use std::path::Path;

use super::Gateway;
use crate::pki::Files;
use crate::plan::Handset;
use crate::site::Site;

/// Lines that tell a person how to attach curl, openssl and baresip with the certificate of `handset`, whose
/// file [`crate::pki::Pki::write_phone`] has written.
pub fn attach(gateway: &Gateway, site: &Site, files: &Files, handset: &Handset) -> Vec<String> {
    let certificate = files.phone(handset.mac);
    let (certificate, ca) = (shown(&certificate), shown(&files.outside_ca));
    let (hq_ca, fqdn, mac) = (shown(&files.hq_ca), &gateway.fqdn, handset.mac);
    let (port, door) = (gateway.files.port(), gateway.tunnel.port());
    let addresses = site.addresses();
    let switch = addresses.switches[0];
    let extension = &handset.extension;
    vec![
        format!(
            "client certificate of phone {mac}: {certificate} (key and certificate), roots: {ca}, {hq_ca}"
        ),
        "startup.cfg:".to_owned(),
        format!(
            "  curl --resolve {fqdn}:{port}:{} --cert {certificate} --cacert {ca} https://{fqdn}:{port}/startup.cfg",
            gateway.files.ip()
        ),
        "the HQ server through the tunnel:".to_owned(),
        format!(
            "  curl --resolve {fqdn}:{door}:{} --proxy https://{fqdn}:{door} --proxy-cert {certificate} \
             --proxy-cacert {ca} --cert {certificate} --cacert {hq_ca} https://{}/version.txt",
            gateway.tunnel.ip(),
            addresses.hq_https,
        ),
        "a look at the certificates:".to_owned(),
        format!(
            "  openssl s_client -connect {} -servername {fqdn} -cert {certificate} -key {certificate} -CAfile {ca}",
            gateway.sip
        ),
        "baresip, in ~/.baresip/accounts:".to_owned(),
        format!(
            "  <sip:{extension}@{host}:{port};transport=tls>;auth_pass=none;regint=600;\
             outbound=\"sip:{sip};transport=tls\"",
            host = switch.ip(),
            port = switch.port(),
            sip = gateway.sip,
        ),
        "  and in ~/.baresip/config:".to_owned(),
        format!("  sip_certificate {certificate}"),
        format!("  sip_cafile {ca}"),
        format!("  sip_listen {}:0", handset.ip),
        "  and in ~/.baresip/uuid, without a line end:".to_owned(),
        format!("  {}", handset.mac.instance().trim_start_matches("urn:uuid:")),
        format!("  then dial sip:101@{switch}: a virtual phone answers with a tone"),
    ]
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
