//! The composition: the four libraries joined by their seams.

pub(crate) mod names;
