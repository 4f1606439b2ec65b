//! How a real client joins the running demonstration.

use std::io;
use std::path::{Path, PathBuf};

use super::Gateway;
use crate::pki::Files;
use crate::plan::Handset;
use crate::rtp::wave;
use crate::site::Site;

/// Where distributions put baresip's modules.
const MODULES: [&str; 4] = [
    "/usr/lib/baresip/modules",
    "/usr/local/lib/baresip/modules",
    "/usr/lib64/baresip/modules",
    "/opt/homebrew/lib/baresip/modules",
];
/// The tone baresip sends, in hertz.
const TONE: f64 = 1000.0;

/// Lines that tell a person how to attach curl, openssl and baresip with the certificate of `handset`, whose
/// file [`crate::pki::Pki::write_phone`] has written. Makes the folder that baresip is started with.
pub fn attach(gateway: &Gateway, site: &Site, files: &Files, handset: &Handset) -> io::Result<Vec<String>> {
    let certificate = files.phone(handset.mac);
    let (certificate, ca) = (shown(&certificate), shown(&files.outside_ca));
    let (hq_ca, fqdn, mac) = (shown(&files.hq_ca), &gateway.fqdn, handset.mac);
    let (port, door) = (gateway.files.port(), gateway.tunnel.port());
    let addresses = site.addresses();
    let switch = addresses.switches[0];
    let baresip = baresip(gateway, site, files, handset)?;
    Ok(vec![
        format!("attach as phone {mac}, from another terminal:"),
        format!("  key and certificate: {certificate}"),
        format!("  roots: {ca} (outside), {hq_ca} (inside)"),
        String::new(),
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
        "a look at the certificates (end with Q and Enter):".to_owned(),
        format!(
            "  openssl s_client -connect {} -servername {fqdn} -cert {certificate} -key {certificate} -CAfile {ca}",
            gateway.sip
        ),
        "a call (extension 101 answers with a tone; /hangup, /quit):".to_owned(),
        format!("  baresip -f {}", shown(&baresip)),
        format!("  /dial sip:101@{switch}"),
        format!(
            "  it sends a tone and records what it hears in {}/dump-*-dec.wav; for a sound card,",
            shown(&baresip)
        ),
        "  change audio_source and audio_player in its file config".to_owned(),
    ])
}

/// A folder for `baresip -f`: an account at a switch behind the gateway, the certificate, a tone to send.
fn baresip(gateway: &Gateway, site: &Site, files: &Files, handset: &Handset) -> io::Result<PathBuf> {
    let folder = files.folder.join("baresip");
    std::fs::create_dir_all(&folder)?;
    let write = |name: &str, content: &[u8]| std::fs::write(folder.join(name), content);
    let modules = MODULES.into_iter().find(|path| Path::new(path).exists()).unwrap_or(MODULES[0]);
    let here = shown(&folder);
    let (switch, sip, extension) = (site.addresses().switches[0], gateway.sip, &handset.extension);
    write("tone.wav", &wave(TONE))?;
    write("contacts", b"")?;
    // Without a line end: baresip takes the whole file.
    write("uuid", handset.mac.instance().trim_start_matches("urn:uuid:").as_bytes())?;
    let account = format!(
        "<sip:{extension}@{switch};transport=tls>;auth_pass=none;regint=600;outbound=\"sip:{sip};transport=tls\"\n"
    );
    write("accounts", account.as_bytes())?;
    let config = format!(
        "module_path {modules}\nsip_listen {}:0\nsip_certificate {}\nsip_cafile {}\n\
         audio_source aufile,{here}/tone.wav\naudio_player aubridge,a\naudio_alert aubridge,b\n\
         snd_path {here}\nmodule g711.so\nmodule alsa.so\nmodule aubridge.so\nmodule aufile.so\nmodule sndfile.so\n\
         module stdio.so\nmodule_tmp uuid.so\nmodule_tmp account.so\nmodule_app menu.so\n",
        handset.ip,
        shown(&files.phone(handset.mac)),
        shown(&files.outside_ca),
    );
    write("config", config.as_bytes())?;
    Ok(folder)
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
