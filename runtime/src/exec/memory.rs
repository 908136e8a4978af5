//! Memory of the executor: page-aligned, zeroed regions straight from the kernel. In: a size. Out: a [`Region`] whose
//! pages cost nothing until they are touched. Invariant: a region stays where it is until it is dropped.

use std::io;
use std::ptr::NonNull;

/// Regions from this size on ask for huge pages, which spare the address translation of large weights and activations.
const HUGE: usize = 4 << 20;

/// A private anonymous mapping.
#[derive(Debug)]
pub(crate) struct Region {
    ptr: NonNull<u8>,
    len: usize,
}

// SAFETY: a region is plain memory that it alone owns; who may touch it is decided by its owner.
unsafe impl Send for Region {}
// SAFETY: a shared region only gives out its address and length.
unsafe impl Sync for Region {}

impl Region {
    /// Maps at least `bytes` bytes of zeros.
    pub(crate) fn new(bytes: usize) -> io::Result<Region> {
        let len = bytes.max(1).checked_next_multiple_of(4096).filter(|n| isize::try_from(*n).is_ok());
        let len = len.ok_or(io::ErrorKind::OutOfMemory)?;
        // SAFETY: a fresh anonymous mapping at an address the kernel chooses touches no existing memory.
        let ptr = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if ptr == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        if len >= HUGE {
            // SAFETY: the range is the mapping just made. A refusal only costs speed.
            unsafe { libc::madvise(ptr, len, libc::MADV_HUGEPAGE) };
        }
        let ptr = NonNull::new(ptr.cast::<u8>()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Region { ptr, len })
    }

    /// Address of the first byte, page-aligned.
    pub(crate) fn ptr(&self) -> *mut u8 {
        self.ptr.as_ptr()
    }

    /// Length in bytes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Floats at a byte offset; `None` outside the region or when the offset is not a multiple of 4.
    pub(crate) fn floats(&self, offset: usize, count: usize) -> Option<&[f32]> {
        self.check(offset, count)?;
        // SAFETY: in bounds and aligned (checked), initialised by the kernel, and borrowed through `self`.
        Some(unsafe { std::slice::from_raw_parts(self.ptr().add(offset).cast::<f32>(), count) })
    }

    /// As [`Region::floats`], to be written.
    pub(crate) fn floats_mut(&mut self, offset: usize, count: usize) -> Option<&mut [f32]> {
        self.check(offset, count)?;
        // SAFETY: as in `floats`, and `self` is borrowed exclusively.
        Some(unsafe { std::slice::from_raw_parts_mut(self.ptr().add(offset).cast::<f32>(), count) })
    }

    fn check(&self, offset: usize, count: usize) -> Option<()> {
        let end = count.checked_mul(4).and_then(|b| b.checked_add(offset))?;
        (offset.is_multiple_of(4) && end <= self.len).then_some(())
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: the mapping was made in `new` with this length, and nothing borrows it any more.
        unsafe { libc::munmap(self.ptr().cast(), self.len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_are_zeroed_aligned_and_bounded() {
        let mut r = Region::new(10).expect("memory");
        assert_eq!(r.ptr() as usize % 4096, 0);
        assert_eq!(r.len(), 4096);
        assert!(r.floats(0, 1024).is_some_and(|f| f.iter().all(|x| *x == 0.0)));
        assert!(r.floats(4, 1024).is_none() && r.floats(2, 1).is_none() && r.floats(usize::MAX - 3, 2).is_none());
        r.floats_mut(8, 1).expect("inside")[0] = 2.0;
        assert_eq!(r.floats(8, 1), Some(&[2.0][..]));
        assert!(Region::new(usize::MAX).is_err());
    }
}
