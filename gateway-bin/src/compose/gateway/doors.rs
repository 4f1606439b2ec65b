//! The gateway's listeners: opened, changed and closed so that they are what the settings say, and who is let in at each.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use acme_store::net::http01::Responder;
use sip_core::flow::ListenerId;
use socket2::SockRef;
use tokio::net::UdpSocket;
use tracing::debug;
use tunnel::net::Endpoint;

use super::{Gateway, Plan, StartError};
use crate::compose::carry::Carried;
use crate::compose::crowd::Seated;
use crate::compose::http;
use crate::compose::listen::{Bound, Row, Welcome, mark, turn_away};
use crate::compose::places::{Holder, Placed};
use crate::compose::rows::{CHALLENGES, datagram_rows, http_name, sip_name};
use crate::compose::signalling;
use crate::config::{LocalEndpoint, SipPort, Transport};

impl Gateway {
    /// Opens, changes and closes listeners so that they are what `self.settings` says.
    pub(super) async fn open(
        &mut self,
        plan: Plan,
        bound: Bound,
        udp: Vec<(SocketAddr, std::net::UdpSocket)>,
    ) -> Result<(), StartError> {
        self.acceptors = plan.acceptors;
        self.endpoints.retain(|name, _| plan.services.contains_key(name));
        for (name, config) in plan.services {
            match self.endpoints.get(&name) {
                Some(endpoint) => endpoint.reconfigure(config),
                None => drop(self.endpoints.insert(name, Endpoint::new(config))),
            }
        }
        let mut rows = BTreeMap::new();
        for port in self.settings.sip.ports.clone() {
            let id = self.listener_id(&port.name);
            if port.transports.iter().any(|transport| *transport != Transport::Udp) {
                let row = Row {
                    name: sip_name(&port).into(),
                    allow_from: port.allow_from.clone().into(),
                    welcome: self.sip(&port, id),
                };
                rows.extend(port.addresses.iter().map(|address| (*address, row.clone())));
            }
        }
        for (name, endpoint) in &self.settings.endpoints {
            let Some(welcome) = self.http(name, endpoint) else { continue };
            let allow_from = endpoint.allow_from.clone().into();
            let row = Row { name: http_name(name).into(), allow_from, welcome };
            rows.extend(endpoint.addresses.iter().map(|address| (*address, row.clone())));
        }
        let everywhere: Arc<[ipnet::IpNet]> =
            Arc::from([ipnet::Ipv4Net::default().into(), ipnet::Ipv6Net::default().into()]);
        let port_80 = Row { name: CHALLENGES.into(), allow_from: everywhere, welcome: self.challenges() };
        rows.extend(self.settings.challenges.iter().map(|address| (*address, port_80.clone())));
        self.doors.change(rows, bound).await?;
        self.open_datagrams(udp).await?;
        Ok(())
    }

    async fn open_datagrams(
        &mut self,
        sockets: Vec<(SocketAddr, std::net::UdpSocket)>,
    ) -> Result<(), StartError> {
        let wanted: BTreeMap<SocketAddr, SipPort> =
            datagram_rows(&self.settings).into_iter().map(|(address, row)| (address, row.clone())).collect();
        let shards = self.signalling.shards();
        let gone: Vec<SocketAddr> =
            self.datagrams.keys().filter(|address| !wanted.contains_key(*address)).copied().collect();
        for address in gone {
            if let Some(id) = self.datagrams.remove(&address) {
                shards.remove_socket(id).await;
            }
        }
        for (address, socket) in sockets {
            let Some(row) = wanted.get(&address) else { continue };
            mark(SockRef::from(&socket), address, self.settings.sip.dscp);
            let id = self.listener_id(&format!("udp {address}"));
            let socket = UdpSocket::from_std(socket)?;
            let stun = self.settings.sip.stun_keepalive;
            signalling::datagrams(&shards, row, stun, id, socket, &self.signalling.blocklist()).await;
            self.datagrams.insert(address, id);
        }
        Ok(())
    }

    /// The same row keeps its id over reloads.
    fn listener_id(&mut self, name: &str) -> ListenerId {
        let next = ListenerId(u32::try_from(self.listener_ids.len()).unwrap_or(u32::MAX));
        *self.listener_ids.entry(name.to_owned()).or_insert(next)
    }

    /// What happens to a connection at a SIP row: the handshake, then the signalling thread.
    fn sip(&self, port: &SipPort, id: ListenerId) -> Welcome {
        let acceptor = self.acceptors.get(&sip_name(port)).cloned();
        let shards = self.signalling.shards();
        let port = Arc::new(port.clone());
        let dscp = self.settings.sip.dscp;
        let (crowd, strangers) = (self.crowd.clone(), self.strangers.clone());
        let certified = port.tls.as_ref().is_some_and(|tls| tls.require_client_cert);
        Arc::new(move |stream, remote| {
            mark(SockRef::from(&stream), remote, dscp);
            let seat = match crowd.enter(remote.ip(), certified) {
                Ok(seat) => seat,
                Err(error) => return turn_away(&stream, &port.name, remote, &error),
            };
            let (acceptor, shards, port) = (acceptor.clone(), shards.clone(), port.clone());
            let (crowd, strangers) = (crowd.clone(), strangers.clone());
            tokio::spawn(async move {
                let Ok(local) = stream.local_addr() else { return };
                let mut peer = signalling::peer(&port, id, remote, local);
                let mut stream = Carried::new(stream);
                let taken = match acceptor {
                    None => match stream.leave() {
                        Ok(()) => shards.stream(Seated::new(stream, seat), peer),
                        Err(_) => return,
                    },
                    Some(acceptor) => match crowd.shake(remote, acceptor.accept(stream)).await {
                        Some(Ok(mut accepted)) => {
                            if accepted.stream.get_mut().0.leave().is_err() {
                                return;
                            }
                            peer.identity = accepted.identity.map(|one| Arc::new(signalling::identity(&one)));
                            peer.verified = peer.identity.is_some();
                            shards.stream(Seated::new(accepted.stream, seat), peer)
                        }
                        Some(Err(error)) => {
                            return strangers.handshake_failed(&port.name, remote, &error);
                        }
                        None => {
                            return strangers.made_way(&port.name, remote);
                        }
                    },
                };
                if let Err(error) = taken {
                    debug!(listener = port.name, %remote, %error, "the connection is closed");
                }
            });
        })
    }

    fn http(&self, name: &str, endpoint: &LocalEndpoint) -> Option<Welcome> {
        let acceptor = self.acceptors.get(&http_name(name))?.clone();
        let service = self.endpoints.get(name)?.clone();
        debug_assert!(endpoint.tls.is_some(), "clear HTTP is refused by the check");
        let name: Arc<str> = Arc::from(name);
        let (crowd, strangers) = (self.crowd.clone(), self.strangers.clone());
        let certified = endpoint.tls.as_ref().is_some_and(|tls| tls.require_client_cert);
        Some(Arc::new(move |stream, remote| {
            let seat = match crowd.enter(remote.ip(), certified) {
                Ok(seat) => seat,
                Err(error) => return turn_away(&stream, &name, remote, &error),
            };
            let (acceptor, service, name) = (acceptor.clone(), service.clone(), name.clone());
            let (crowd, strangers) = (crowd.clone(), strangers.clone());
            tokio::spawn(async move {
                let Ok(local) = stream.local_addr() else { return };
                match crowd.shake(remote, acceptor.accept(stream)).await {
                    Some(Ok(accepted)) => {
                        let holder = match &accepted.identity {
                            Some(identity) => Holder::Certificate(identity.key_hash),
                            None => Holder::address(remote.ip()),
                        };
                        let stream = Placed::new(accepted.stream, crowd.clients.take(holder));
                        let peer = http::peer(remote, local, accepted.identity.as_deref());
                        service.serve(Seated::new(stream, seat), peer).await;
                    }
                    Some(Err(error)) => strangers.handshake_failed(&name, remote, &error),
                    None => strangers.made_way(&name, remote),
                }
            });
        }))
    }

    fn challenges(&self) -> Welcome {
        let responder = Arc::new(Responder::new(self.credentials.tokens()));
        let (crowd, strangers) = (self.crowd.clone(), self.strangers.clone());
        Arc::new(move |stream, remote| {
            let strangers = strangers.clone();
            let (responder, place) =
                (responder.clone(), crowd.challengers.take(Holder::address(remote.ip())));
            tokio::spawn(async move {
                match place.hold(responder.serve(stream)).await {
                    Some(Ok(answered)) => strangers.asked(remote, answered.status),
                    Some(Err(error)) => debug!(%remote, %error, "port 80"),
                    None => debug!(%remote, "a stalled connection to port 80 made way"),
                }
            });
        })
    }
}
