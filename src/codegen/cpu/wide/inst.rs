//! Instructions on virtual registers: what a kernel is between its loops and its bytes. Vector values have virtual
//! registers; integers are implied by loops and places.

use kur_runtime::dim::Dim;

use super::LANES;
use super::encode::Packed;
use crate::ir::kernel::IdxId;

/// Bytes of an element.
pub(super) const BYTES: i32 = 4;

/// A virtual vector register. Accumulators are written more than once, all others once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct V(pub(super) u32);

/// A last operand: a register, or eight lanes of the constant pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Src {
    V(V),
    Bits(u32),
}

/// An element: buffer, the offset that loops keep for the index's terms, and a displacement in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) buf: usize,
    pub(super) stream: Option<usize>,
    pub(super) disp: i32,
}

/// A size: known now, or in a slot of the stack frame (see [`Code::slots`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Size {
    Const(i32),
    Slot(usize),
}

/// A loop, as far as integers are concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Loop {
    /// Loops around it.
    pub(super) depth: usize,
    /// Iterations; `None` for the outermost loop, whose range comes with the call.
    pub(super) extent: Option<Size>,
    /// Offsets that its index is part of, with the bytes that an iteration adds.
    pub(super) steps: Vec<(usize, Size)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Inst {
    /// Eight elements side by side, or one in all lanes.
    Load {
        dst: V,
        at: Place,
        packed: bool,
    },
    /// Eight elements, or lane 0.
    Store {
        at: Place,
        src: V,
        packed: bool,
    },
    Packed {
        op: Packed,
        dst: V,
        a: V,
        b: Src,
    },
    Compare {
        predicate: u8,
        dst: V,
        a: V,
        b: Src,
    },
    /// `b` where the mask is set, else `a`.
    Blend {
        dst: V,
        a: V,
        b: Src,
        mask: V,
    },
    Sqrt {
        dst: V,
        a: V,
    },
    Const {
        dst: V,
        bits: u32,
    },
    /// Asks for a cache line that a later iteration needs.
    Prefetch {
        at: Place,
    },
    /// Prepares a loop; goes to its `Leave` when it has no iterations.
    Enter(usize),
    /// Begins a piece that takes `step` iterations at once, as long as so many are left.
    Begin {
        id: usize,
        step: i32,
    },
    End {
        id: usize,
        step: i32,
    },
    /// Offsets are again what they were before the loop, except for the outermost.
    Leave(usize),
}

/// A kernel in this form.
#[derive(Debug, Default)]
pub(super) struct Code {
    pub(super) insts: Vec<Inst>,
    pub(super) loops: Vec<Loop>,
    /// The terms of each offset, outermost loop first.
    pub(super) streams: Vec<Vec<(IdxId, Dim)>>,
    /// Sizes that depend on symbols, computed at entry, times a factor: bytes for strides.
    pub(super) slots: Vec<(Dim, i32)>,
    /// Number of virtual registers.
    pub(super) registers: u32,
}

impl Place {
    /// The place for a unit: so many registers further on.
    pub(super) fn unit(self, u: usize) -> Option<Place> {
        self.further(i32::try_from(LANES * u).ok()?.checked_mul(BYTES)?)
    }

    /// So many bytes further on; `None` where an instruction cannot say it.
    pub(super) fn further(self, bytes: i32) -> Option<Place> {
        Some(Place { disp: self.disp.checked_add(bytes)?, ..self })
    }
}
