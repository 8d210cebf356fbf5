//! An allocator for millions of small values that live shortly on few threads: what is freed is what its thread hands out
//! next. Nothing is given back to the system, and no thread waits for another one.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    ptr,
};

/// What a block is aligned to, and a multiple of which it is large.
const UNIT: usize = 16;
/// Blocks up to this size have a list for each multiple of [`UNIT`].
const SMALL: usize = 1 << 10;
/// Larger ones have a list for each power of two, up to this size.
const LARGEST: usize = 1 << 15;
const LISTS: usize = SMALL / UNIT + (LARGEST / SMALL).ilog2() as usize + 1;
/// How much is taken from the system at once.
const CHUNK: usize = 1 << 20;

/// The free blocks of a thread.
struct Free {
    /// The first one of each list. Each block begins with the address of the next one.
    first: [Cell<*mut u8>; LISTS],
    /// What is left of the last chunk.
    rest: Cell<*mut u8>,
    left: Cell<usize>,
}

thread_local! {
    // Without anything to drop, it is there until the thread ends.
    static FREE: Free = const {
        Free {
            first: [const { Cell::new(ptr::null_mut()) }; LISTS],
            rest: Cell::new(ptr::null_mut()),
            left: Cell::new(0),
        }
    };
}

/// Returns the list for a layout, and the size of its blocks; `None` for what the system allocates.
fn list(layout: Layout) -> Option<(usize, usize)> {
    let size = layout.size();
    if layout.align() > UNIT || size > LARGEST {
        None
    } else if size <= SMALL {
        let number = size.div_ceil(UNIT);
        Some((number, number.max(1) * UNIT))
    } else {
        let size = size.next_power_of_two();
        Some((SMALL / UNIT + (size / SMALL).ilog2() as usize, size))
    }
}

impl Free {
    /// Takes a block out of its list, or of the last chunk.
    fn take(&self, number: usize, size: usize) -> *mut u8 {
        let block = self.first[number].get();
        if !block.is_null() {
            // SAFETY: a free block begins with the address of the next one.
            self.first[number].set(unsafe { block.cast::<*mut u8>().read() });
            return block;
        }
        if self.left.get() < size {
            // SAFETY: the layout is a constant that has a size.
            let chunk = unsafe { System.alloc(Layout::from_size_align_unchecked(CHUNK, UNIT)) };
            if chunk.is_null() {
                return chunk;
            }
            self.rest.set(chunk);
            self.left.set(CHUNK);
        }
        let block = self.rest.get();
        self.left.set(self.left.get() - size);
        // SAFETY: `left` bytes follow.
        self.rest.set(unsafe { block.add(size) });
        block
    }
}

pub struct Allocator;

// SAFETY: a block is in no list while it is in use, and is as large and as aligned as its layout, whose list it came from.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match list(layout) {
            Some((number, size)) => FREE.with(|free| free.take(number, size)),
            None => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let Some((number, _)) = list(layout) else { return unsafe { System.dealloc(block, layout) } };
        FREE.with(|free| {
            // SAFETY: the block is as large as an address, and nobody uses it any more.
            unsafe { block.cast::<*mut u8>().write(free.first[number].get()) };
            free.first[number].set(block);
        });
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller says so.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        match (list(layout), list(wanted)) {
            (None, None) => unsafe { System.realloc(block, layout, size) },
            (Some(one), Some(other)) if one == other => block,
            _ => unsafe {
                let new = self.alloc(wanted);
                if !new.is_null() {
                    ptr::copy_nonoverlapping(block, new, layout.size().min(size));
                    self.dealloc(block, layout);
                }
                new
            },
        }
    }
}

#[test]
fn blocks_hold_what_they_are_for() {
    for size in (0..2 * SMALL).chain([LARGEST - 1, LARGEST, LARGEST + 1]) {
        let layout = Layout::from_size_align(size, 8).unwrap();
        match list(layout) {
            Some((number, block)) => {
                assert!(number < LISTS && block >= size.max(size_of::<*mut u8>()) && block % UNIT == 0);
                assert_eq!(list(Layout::from_size_align(block, UNIT).unwrap()), Some((number.max(1), block)));
            }
            None => assert!(size > LARGEST),
        }
    }
    assert_eq!(list(Layout::from_size_align(64, 64).unwrap()), None);
}

#[test]
fn blocks_are_used_by_one_at_a_time() {
    let mut held: Vec<Vec<u8>> = Vec::new();
    for round in 0_usize..2000 {
        let byte = u8::try_from(round % 251).unwrap();
        let mut new = vec![byte; round * 37 % 5000];
        // It grows, and moves.
        new.extend(vec![byte; round % 700]);
        held.push(new);
        if round % 3 == 0 {
            let old = held.swap_remove(round * 7 % held.len());
            assert!(old.windows(2).all(|pair| pair[0] == pair[1]));
        }
    }
    assert!(held.iter().all(|one| one.windows(2).all(|pair| pair[0] == pair[1])));
}
