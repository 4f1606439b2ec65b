"""SRTP by libsrtp (which the softphones bring along), for scripts that speak it: what the gateway seals, others open, and the other way round."""

import base64
import ctypes
import os
import re

import rtp

# Name in descriptions: libsrtp's number of the profile, octets of key and salt, of the tag.
SUITES = {
    "AES_CM_128_HMAC_SHA1_80": (1, 30, 10),
    "AES_CM_128_HMAC_SHA1_32": (2, 30, 4),
    "AEAD_AES_128_GCM": (7, 28, 16),
    "AEAD_AES_256_GCM": (8, 44, 16),
}


class _Crypto(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int) for name in ("cipher", "key", "auth", "auth_key", "tag", "services")]


class _Policy(ctypes.Structure):
    """srtp_policy_t of libsrtp 2."""

    _fields_ = [("kind", ctypes.c_int), ("ssrc", ctypes.c_uint), ("rtp", _Crypto), ("rtcp", _Crypto), ("key", ctypes.c_char_p), ("keys", ctypes.c_void_p),
                ("count", ctypes.c_ulong), ("ekt", ctypes.c_void_p), ("window", ctypes.c_ulong), ("repeat", ctypes.c_int), ("headers", ctypes.c_void_p),
                ("headers_count", ctypes.c_int), ("next", ctypes.c_void_p)]


_library = None


def library():
    global _library
    if _library is None:
        _library = ctypes.CDLL("libsrtp2.so.1")
        assert _library.srtp_init() == 0
    return _library


class Session:
    """One direction under one key."""

    def __init__(self, suite, key, outbound):
        profile, octets, _ = SUITES[suite]
        assert len(key) == octets, f"{len(key)} octets for {suite}"
        # 2: any source that comes; 3: any that is sent. A window as wide as the library's default.
        self.policy = _Policy(kind=3 if outbound else 2, key=key, window=128)
        for part in (self.policy.rtp, self.policy.rtcp):
            assert library().srtp_crypto_policy_set_from_profile_for_rtp(ctypes.byref(part), profile) == 0
        if suite == "AES_CM_128_HMAC_SHA1_32":  # RFC 4568 §6.2.2: SRTCP has 80 bits there too
            assert library().srtp_crypto_policy_set_from_profile_for_rtcp(ctypes.byref(self.policy.rtcp), profile) == 0
        self.handle = ctypes.c_void_p()
        status = library().srtp_create(ctypes.byref(self.handle), ctypes.byref(self.policy))
        assert status == 0, f"srtp_create: {status}"

    def _do(self, function, packet):
        room = ctypes.create_string_buffer(packet, len(packet) + 64)
        length = ctypes.c_int(len(packet))
        status = function(self.handle, room, ctypes.byref(length))
        return room.raw[:length.value] if status == 0 else None

    def protect(self, packet):
        sealed = self._do(library().srtp_protect, packet)
        assert sealed is not None, "srtp_protect"
        return sealed

    def unprotect(self, packet):
        """None: not under this key, or a second time."""
        return self._do(library().srtp_unprotect, packet)


class _Sealed:
    """A socket beneath which is SRTP."""

    def __init__(self, sock, media):
        self._sock, self._media = sock, media

    def __getattr__(self, name):
        return getattr(self._sock, name)

    def sendto(self, packet, to):
        return self._sock.sendto(self._media.ours.protect(packet), to)

    def recvmsg(self, *room):
        while True:
            data, control, flags, source = self._sock.recvmsg(*room)
            clear = self._media.theirs and self._media.theirs.unprotect(data)
            if clear is not None:
                self._media.sizes.add(len(data) - len(clear))
                return clear, control, flags, source
            self._media.unreadable += 1


class Keyed(rtp.Media):
    """A stream of an end that insists on SRTP with this suite. It begins shortly before its numbers roll over."""

    def __init__(self, lab, short, address, suite, tone=440, first=65_400):
        self.suite, self.tag, self.key = suite, 7, os.urandom(SUITES[suite][1])
        self.ours, self.theirs = Session(suite, self.key, True), None
        self.sizes, self.unreadable = set(), 0
        super().__init__(lab, short, address, tone=tone)
        self.sent = first

    def _bind(self):
        plain = self._open
        self._open = lambda: _Sealed(plain(), self)
        super()._bind()
        self._open = plain

    def sdp(self, host=None, direction="a=sendrecv\r\n"):
        inline = base64.b64encode(self.key).decode()
        return super().sdp(host, direction).replace("RTP/AVP", "RTP/SAVP") + f"a=crypto:{self.tag} {self.suite} inline:{inline}\r\n"

    def aim(self, body, start=True):
        """Of the keys that are offered, or the one that is answered, the one of our suite counts; our answer has its number."""
        tag, inline = re.search(rf"^a=crypto:(\d+) {self.suite} inline:([A-Za-z0-9+/=]+)", body.decode(), re.M).groups()
        self.tag, self.theirs = int(tag), Session(self.suite, base64.b64decode(inline), False)
        super().aim(body, start)
