use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::*;

const A: Holder = Holder::Certificate([1; 32]);
const B: Holder = Holder::Certificate([2; 32]);
const C: Holder = Holder::Certificate([3; 32]);

fn is_lost(place: &mut Place) -> bool {
    let mut cx = Context::from_waker(std::task::Waker::noop());
    place.poll_lost(&mut cx).is_ready()
}

#[test]
fn when_full_the_oldest_of_whoever_holds_the_most_makes_way() {
    let places = Places::new(5, usize::MAX);
    let mut crowd: Vec<Place> = (0..4).map(|_| places.take(A)).collect();
    let mut early = places.take(B);
    let mut late = places.take(C);
    let lost: Vec<bool> = crowd.iter_mut().map(is_lost).collect();
    assert_eq!(lost, [true, false, false, false]);
    assert!(!is_lost(&mut early) && !is_lost(&mut late));
    // The crowd displaces itself, not the others.
    let mut more: Vec<Place> = (0..10).map(|_| places.take(A)).collect();
    assert!(!is_lost(&mut early) && !is_lost(&mut late));
    assert_eq!(more.iter_mut().map(is_lost).filter(|lost| !lost).count(), 3);
}

#[test]
fn of_equals_the_oldest_makes_way() {
    let places = Places::new(2, usize::MAX);
    let (mut first, mut second) = (places.take(A), places.take(B));
    let mut third = places.take(C);
    assert_eq!([is_lost(&mut first), is_lost(&mut second), is_lost(&mut third)], [true, false, false]);
}

#[test]
fn one_holder_has_its_own_bound_and_a_place_left_is_free() {
    let places = Places::new(usize::MAX, 2);
    let (mut first, second) = (places.take(A), places.take(A));
    let mut other = places.take(B);
    drop(second);
    let mut third = places.take(A);
    assert!(!is_lost(&mut first));
    let fourth = places.take(A);
    assert!(is_lost(&mut first), "and it stays lost: {}", is_lost(&mut first));
    assert!(!is_lost(&mut third) && !is_lost(&mut other));
    drop((first, third, fourth, other));
    let taken = lock(&places.taken);
    assert_eq!((taken.count, taken.holders.len()), (0, 0));
}

#[test]
fn an_ipv6_network_is_one_holder() {
    let of = |text: &str| Holder::address(text.parse().unwrap());
    assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:2"));
    assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
    assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
}

#[tokio::test]
async fn work_and_streams_end_with_their_place() {
    let places = Places::new(1, 1);
    let work = tokio::spawn(places.take(A).hold(std::future::pending::<()>()));
    tokio::task::yield_now().await;
    let (near, mut far) = tokio::io::duplex(64);
    let mut stream = Placed::new(near, places.take(B));
    assert!(timeout(Duration::from_secs(5), work).await.unwrap().unwrap().is_none());
    far.write_all(b"x").await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'x');
    let reading = tokio::spawn(async move { stream.read_u8().await });
    tokio::task::yield_now().await;
    let _newer = places.take(C);
    assert!(timeout(Duration::from_secs(5), reading).await.unwrap().unwrap().is_err());
}
