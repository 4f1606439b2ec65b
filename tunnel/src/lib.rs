//! HTTP CONNECT tunnels and phone file repositories for teleworker gateways
#![forbid(unsafe_code)]
