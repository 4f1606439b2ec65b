//! The tests of `relay`, with packets carried by epoll: what a kernel without io_uring gets.

#[path = "relay/main.rs"]
mod relay;
