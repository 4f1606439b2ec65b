//! Packets to an end of SRTP: nothing panics, nothing opens that was not sealed with its key, what was sealed opens once and
//! is what it was.

use sdp_core::srtp::{Context, Fault, GROWTH, Key, Suite};

/// The first byte chooses the suite; then records: length, what is done with it, packet.
pub fn srtp_packet(data: &[u8]) {
    let Some((choice, mut rest)) = data.split_first() else { return };
    let suite = Suite::ALL[usize::from(choice % 4)];
    let Some(key) = [28, 30, 44].iter().find_map(|length| Key::new(suite, &vec![*choice; *length])) else {
        return;
    };
    let (Some(mut send), Some(mut receive)) = (Context::new(&key), Context::new(&key)) else { return };
    while let Some(([low, high, act], after)) =
        rest.split_first_chunk::<3>().map(|(head, after)| (*head, after))
    {
        let length = usize::from(u16::from_le_bytes([low, high]) % 1500).min(after.len());
        let (packet, next) = after.split_at(length);
        rest = next;
        let mut room = packet.to_vec();
        assert!(receive.unprotect(&mut room).is_err(), "opened without a key");
        room = packet.to_vec();
        if send.protect(&mut room).is_err() {
            continue;
        }
        assert!(room.len() > packet.len() && room.len() <= packet.len() + GROWTH);
        let sealed = room.clone();
        // One octet is another.
        let at = usize::from(act) % sealed.len();
        let mut changed = sealed.clone();
        changed[at] ^= 1 << (act % 8);
        assert!(receive.unprotect(&mut changed).is_err(), "octet {at} of {}", sealed.len());
        // Late ones may be too old, or mean another roll-over.
        if act % 4 == 0 {
            continue;
        }
        let Ok(opened) = receive.unprotect(&mut room) else { continue };
        assert_eq!(room, packet);
        // The planted bug: packets of 40 octets come twice.
        if cfg!(feature = "planted") && packet.len() == 40 {
            assert_eq!(receive.unprotect(&mut sealed.clone()), Err(Fault::Replay));
        }
        receive.accept(opened);
        assert_eq!(receive.unprotect(&mut sealed.clone()), Err(Fault::Replay));
    }
}
