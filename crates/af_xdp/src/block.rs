//! Arrays that do not change any more, together in one block of memory behind huge pages.
//!
//! The kernel puts a huge page only where all of its 2 MiB are of one mapping, so that of several arrays of a megabyte
//! each, asked for one by one, hardly any is behind one.

use crate::huge_vec;
use std::fmt;
use std::mem::MaybeUninit;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::Arc;

/// A huge page, and as large an alignment.
#[repr(C, align(2097152))]
struct Huge(#[allow(dead_code)] MaybeUninit<[u8; Block::PAGE]>);

/// An array that does not change: in memory of its own, or with others in a [`Block`]. A copy is the same memory.
pub struct Array<T> {
    start: NonNull<T>,
    len: usize,
    home: Home<T>,
}

/// What holds the memory, and frees it.
enum Home<T> {
    Own(Arc<Vec<T>>),
    Block(Arc<Vec<Huge>>),
}

impl<T> From<Vec<T>> for Array<T> {
    fn from(own: Vec<T>) -> Array<T> {
        Array {
            // A vector has a place, though none to read from, where it is empty.
            start: NonNull::new(own.as_ptr().cast_mut()).unwrap_or(NonNull::dangling()),
            len: own.len(),
            home: Home::Own(Arc::new(own)),
        }
    }
}

impl<T> Deref for Array<T> {
    type Target = [T];

    #[inline(always)]
    fn deref(&self) -> &[T] {
        // SAFETY: so many values were written there, and nobody writes to them or frees them as long as `home` is held.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

// SAFETY: nothing but shared references are given out, and the memory is freed by whoever drops the last copy.
unsafe impl<T: Send + Sync> Send for Array<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Array<T> {}

impl<T> Clone for Array<T> {
    fn clone(&self) -> Array<T> {
        Array {
            start: self.start,
            len: self.len,
            home: match &self.home {
                Home::Own(own) => Home::Own(Arc::clone(own)),
                Home::Block(block) => Home::Block(Arc::clone(block)),
            },
        }
    }
}

impl<T> Default for Array<T> {
    fn default() -> Array<T> {
        Vec::new().into()
    }
}

impl<T> FromIterator<T> for Array<T> {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Array<T> {
        values.into_iter().collect::<Vec<T>>().into()
    }
}

impl<T: fmt::Debug> fmt::Debug for Array<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// Memory for several arrays.
pub struct Block {
    memory: Arc<Vec<Huge>>,
    /// What is free, in bytes from the start of the memory on.
    start: NonNull<u8>,
    used: usize,
    bytes: usize,
}

impl Block {
    /// Bytes of a huge page.
    pub const PAGE: usize = 2 << 20;
    /// Every array starts on a cache line, and on a pair of them, which processors fetch together.
    const ALIGN: usize = 128;

    /// The bytes of an array, and those behind it that go unused.
    pub const fn room<T>(values: &[T]) -> usize {
        size_of_val(values).next_multiple_of(Block::ALIGN)
    }

    /// Memory for arrays of so many bytes, as [`Block::room`] counts them, in whole huge pages.
    pub fn new(bytes: usize) -> Block {
        let mut memory: Vec<Huge> = huge_vec(bytes.div_ceil(Block::PAGE));
        Block {
            start: NonNull::from(memory.spare_capacity_mut()).cast(),
            used: 0,
            bytes: memory.capacity() * Block::PAGE,
            memory: Arc::new(memory),
        }
    }

    /// Moves an array here; it stays where it is if there is no room.
    pub fn take<T: Copy>(&mut self, array: &mut Array<T>) {
        let room = Block::room(array);
        if align_of::<T>() > Block::ALIGN || room > self.bytes - self.used {
            return;
        }
        // SAFETY: so much is free from there on, aligned for `T`, and of no other array: the source is elsewhere.
        let start = unsafe {
            let start = self.start.byte_add(self.used).cast::<T>();
            start.copy_from_nonoverlapping(array.start, array.len);
            start
        };
        self.used += room;
        *array = Array {
            start,
            len: array.len,
            home: Home::Block(Arc::clone(&self.memory)),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_in_a_block_keep_their_values_and_outlive_it() {
        let mut bytes: Array<u8> = vec![7; 1000].into();
        let mut words: Array<u64> = (0..500).collect();
        let copy = words.clone();
        let mut block = Block::new(Block::room(&bytes) + Block::room(&words));
        block.take(&mut bytes);
        block.take(&mut words);
        drop(block);
        let shared = words.clone();
        drop(words);
        assert_eq!(bytes[..], [7; 1000]);
        assert_eq!(shared[..], copy[..]);
        assert_eq!(shared.as_ptr().addr() % Block::ALIGN, 0);
        assert_ne!(shared.as_ptr(), copy.as_ptr());
        assert_eq!(
            bytes.as_ptr().addr() / Block::PAGE,
            shared.as_ptr().addr() / Block::PAGE
        );
    }

    #[test]
    fn an_array_stays_where_it_is_if_there_is_no_room() {
        let mut array: Array<u32> = vec![1; Block::PAGE / 4 + 1].into();
        let before = array.as_ptr();
        Block::new(1).take(&mut array);
        assert_eq!(array.as_ptr(), before);
        let mut none: Array<u32> = Array::default();
        Block::new(0).take(&mut none);
        assert!(none.is_empty());
    }
}
