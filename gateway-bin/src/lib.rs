//! Farend, a teleworker gateway: desk phones at home on the company PBX
#![forbid(unsafe_code)]
