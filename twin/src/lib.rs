//! A virtual desk phone and a virtual PBX site that drive a teleworker gateway end to end
#![forbid(unsafe_code)]
