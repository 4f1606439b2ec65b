//! SDP rewriting in place and an RTP relay that keeps or resets TTL and hop limit
#![deny(unsafe_code)]
