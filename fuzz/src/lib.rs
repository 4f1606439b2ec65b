//! Property functions for the fuzz targets, replayed on stable
#![forbid(unsafe_code)]
