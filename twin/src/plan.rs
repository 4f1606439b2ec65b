//! The addresses of the demonstration: each site has a loopback network of its own.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use crate::mac::Mac;

/// Names and addresses of everything; the default is what the demonstration uses.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The gateway's public name: what a user types into the phone, and what its outside certificate says.
    pub fqdn: String,
    /// The HQ server's name in its certificate.
    pub hq_name: String,
    /// Address of the HQ server and of the CAS on it.
    pub hq: Ipv4Addr,
    /// Addresses of the phone switches.
    pub switches: [Ipv4Addr; 3],
    /// The whole site as CIDR: where calls and tunnels of phones may go.
    pub site: String,
    /// The gateway's address at the site.
    pub gateway_inside: Ipv4Addr,
    /// The gateway's address towards the Internet.
    pub gateway_outside: Ipv4Addr,
    /// First three octets of each home network.
    pub homes: Vec<[u8; 3]>,
}

/// One phone: who it is, where it stands and how it is heard.
#[derive(Debug, Clone)]
pub struct Handset {
    /// Its hardware address.
    pub mac: Mac,
    /// Its address at home.
    pub ip: Ipv4Addr,
    /// The extension its user asks the CAS for.
    pub extension: String,
    /// TTL of the RTP packets it sends.
    pub ttl: u8,
    /// Frequency of the tone it sends in a call, in hertz.
    pub tone: f64,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            fqdn: "mivc.example.com".to_owned(),
            hq_name: "hq.example.internal".to_owned(),
            hq: Ipv4Addr::new(127, 10, 1, 10),
            switches: [50, 51, 52].map(|host| Ipv4Addr::new(127, 10, 1, host)),
            site: "127.10.1.0/24".to_owned(),
            gateway_inside: Ipv4Addr::new(127, 10, 1, 2),
            gateway_outside: Ipv4Addr::new(127, 20, 1, 1),
            homes: vec![[127, 40, 1], [127, 40, 2]],
        }
    }
}

impl Plan {
    /// `count` phones, spread over the home networks in turn. The first half calls the second half, so a
    /// caller and the one it calls get the tones of one pair (440 and 880 Hz for the first).
    pub fn handsets(&self, count: usize) -> Vec<Handset> {
        const TONES: [(f64, f64); 4] = [(440.0, 880.0), (520.0, 1040.0), (600.0, 1200.0), (680.0, 1360.0)];
        const TTLS: [u8; 4] = [128, 64, 70, 41];
        let half = count / 2;
        (0..count)
            .map(|i| {
                let home = self.homes.get(i % self.homes.len().max(1)).copied().unwrap_or([127, 40, 1]);
                let pair = if i < half { i } else { i - half };
                let (low, high) = TONES[pair % TONES.len()];
                let [.., hi, lo] = (i + 1).to_be_bytes();
                Handset {
                    mac: Mac([0x08, 0x00, 0x0F, 0xD4, 0xC0_u8.wrapping_add(hi), lo]),
                    // 11 … 250 in each home: 240 phones a home before an address repeats.
                    ip: Ipv4Addr::new(
                        home[0],
                        home[1],
                        home[2],
                        11 + (i / self.homes.len().max(1) % 240) as u8,
                    ),
                    extension: (101 + i).to_string(),
                    ttl: TTLS[i % TTLS.len()],
                    tone: if i < half { low } else { high },
                }
            })
            .collect()
    }
}

/// A TCP port that is free on `ip` now; for configurations that have to name one.
pub fn free_port(ip: Ipv4Addr) -> io::Result<u16> {
    Ok(TcpListener::bind(SocketAddr::from((ip, 0)))?.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn handsets_differ_and_pairs_have_two_tones() {
        let phones = Plan::default().handsets(8);
        assert_eq!(phones.iter().map(|p| p.mac).collect::<HashSet<_>>().len(), 8);
        assert_eq!(phones.iter().map(|p| p.ip).collect::<HashSet<_>>().len(), 8);
        assert_eq!(
            phones.iter().map(|p| [p.ip.octets()[1], p.ip.octets()[2]]).collect::<HashSet<_>>().len(),
            2
        );
        for (caller, callee) in phones.iter().zip(&phones[4..]) {
            assert!((caller.tone * 2.0 - callee.tone).abs() < 1e-9);
        }
    }
}
