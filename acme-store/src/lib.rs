//! Certificates, trust bundles, mutual TLS and ACME renewal with hot activation
#![forbid(unsafe_code)]
