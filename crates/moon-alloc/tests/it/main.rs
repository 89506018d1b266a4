//! The counts of a program that declares the allocator, as the server does. The test harness
//! allocates on its own threads, so exact comparisons are those of one thread's counter.

use moon_alloc::{OwnCounter, allocated, allocated_here, good_size};

#[global_allocator]
static ALLOCATOR: moon_alloc::Allocator = moon_alloc::Allocator;

const SIZES: [usize; 8] = [1, 19, 24, 100, 1000, 70_000, 600_000, 3 << 20];

fn blocks() -> Vec<Vec<u8>> {
    SIZES.iter().map(|n| vec![1; *n]).collect()
}

fn expected() -> i64 {
    let sizes: usize = SIZES.iter().map(|n| good_size(*n)).sum();
    let list = good_size(size_of::<Vec<u8>>() * SIZES.len());
    (sizes + list).cast_signed() as i64
}

fn counted<R>(what: impl FnOnce() -> R) -> (i64, R) {
    let before = allocated_here().expect("the thread has a counter of its own");
    let result = what();
    let after = allocated_here().expect("it still has it");
    (after - before, result)
}

#[test]
fn what_is_set_aside_is_counted_and_what_comes_back_is_not() {
    let _own = OwnCounter::take();
    let (bytes, blocks) = counted(blocks);
    assert_eq!(bytes, expected());
    assert_eq!(counted(|| drop(blocks)).0, -bytes);
}

#[test]
fn growing_and_shrinking_in_place_are_counted() {
    let _own = OwnCounter::take();
    let (bytes, mut block) = counted(|| {
        let mut block: Vec<u8> = Vec::with_capacity(10);
        block.reserve_exact(100_000);
        block
    });
    assert_eq!(bytes, good_size(100_000).cast_signed() as i64);
    assert_eq!(counted(|| block.shrink_to(0)).0, -bytes);
    let (bytes, zeros) = counted(|| vec![0u8; 5000]);
    assert_eq!(bytes, good_size(5000).cast_signed() as i64);
    drop(zeros);
}

#[test]
fn memory_that_another_thread_frees_comes_back() {
    const BYTES: usize = 256 << 20;
    let block: Vec<u8> = Vec::with_capacity(BYTES);
    let with = allocated();
    let freed = std::thread::spawn(move || {
        drop(block);
        allocated()
    });
    let without = freed.join().unwrap();
    // The other threads of the tests use far less.
    assert!(with - without > BYTES as u64 / 2, "{with} {without}");
}

#[test]
fn the_allocator_tells_about_itself() {
    moon_alloc::collect();
    let (now, most) = moon_alloc::statistics::committed();
    assert!(now > 0 && most >= now);
    let text = moon_alloc::text();
    assert!(text.contains("committed"), "{text}");
}
