//! Bytes of the instructions that the eight-lane emitter uses: VEX-encoded AVX on 256-bit registers, and 64-bit integer
//! instructions for addresses and loops.
//!
//! Source of the encodings: Intel, "64 and IA-32 Architectures Software Developer's Manual", volume 2, sections 2.3
//! (VEX prefix) and the pages of the instructions. `tests` reads them back with a disassembler.

/// A general register, by its number in encodings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gpr(pub(super) u8);

/// A vector register, ymm0 to ymm15.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ymm(pub(super) u8);

pub(super) const RAX: Gpr = Gpr(0);
pub(super) const RDX: Gpr = Gpr(2);
pub(super) const RSP: Gpr = Gpr(4);
pub(super) const RSI: Gpr = Gpr(6);
pub(super) const RDI: Gpr = Gpr(7);

/// A place in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mem {
    /// `[base + index + disp]`.
    At { base: Gpr, index: Option<Gpr>, disp: i32 },
    /// Entry of the constant pool.
    Pool(usize),
}

/// The last operand of a vector instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operand {
    Reg(Ymm),
    Mem(Mem),
}

/// A jump target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Label(usize);

/// Condition codes of jumps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cond {
    /// Not equal, not zero.
    NonZero = 0x5,
    /// Signed less than.
    Less = 0xc,
    /// Signed greater or equal.
    NotLess = 0xd,
    /// Signed less or equal.
    NotGreater = 0xe,
}

/// Two-operand arithmetic on general registers, by the extension of opcode 0x81; the form that reads memory is
/// `8 · extension + 3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Alu {
    Add = 0,
    Sub = 5,
    Cmp = 7,
}

/// Opcode map and mandatory prefix of a VEX instruction.
#[derive(Clone, Copy)]
struct Map {
    map: u8,
    prefix: u8,
}

const MAP_0F: Map = Map { map: 1, prefix: 0 };
const MAP_0F_F3: Map = Map { map: 1, prefix: 2 };
const MAP_0F38_66: Map = Map { map: 2, prefix: 1 };
const MAP_0F3A_66: Map = Map { map: 3, prefix: 1 };

/// Arithmetic `dst = a ∘ b` on packed f32; the value is the opcode in map 0F.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packed {
    And = 0x54,
    AndNot = 0x55,
    Or = 0x56,
    Xor = 0x57,
    Add = 0x58,
    Mul = 0x59,
    Sub = 0x5c,
    Min = 0x5d,
    Div = 0x5e,
    Max = 0x5f,
}

/// Finished code. It must be loaded at a multiple of 32 and needs no relocation.
pub(in crate::codegen::cpu) struct Blob {
    /// Instructions, filler, constants.
    pub(in crate::codegen::cpu) bytes: Vec<u8>,
    /// Bytes of instructions.
    pub(in crate::codegen::cpu) instructions: usize,
    /// The constants: bits of an f32, eight times each.
    pub(in crate::codegen::cpu) pool: Vec<u32>,
}

/// Code under construction: bytes, labels, and a pool of eight equal lanes per constant behind the code.
#[derive(Default)]
pub(super) struct Assembler {
    code: Vec<u8>,
    labels: Vec<Option<usize>>,
    /// Places of 32-bit displacements that await a label.
    jumps: Vec<(usize, Label)>,
    pool: Vec<u32>,
    /// Places of displacements into the pool, how many bytes of the instruction follow them, and the entry.
    refs: Vec<(usize, usize, usize)>,
}

/// Bytes of a register, and the alignment of the pool.
pub(in crate::codegen::cpu) const VECTOR: usize = 32;

impl Assembler {
    /// The entry of the pool with this lane in all places.
    pub(super) fn constant(&mut self, bits: u32) -> usize {
        self.pool.iter().position(|p| *p == bits).unwrap_or_else(|| {
            self.pool.push(bits);
            self.pool.len() - 1
        })
    }

    pub(super) fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    pub(super) fn bind(&mut self, label: Label) {
        self.labels[label.0] = Some(self.code.len());
    }

    /// Resolves labels and appends the pool.
    pub(super) fn finish(mut self) -> Option<Blob> {
        let relative = |at: usize, target: usize| i32::try_from(target.cast_signed() - at.cast_signed()).ok();
        for (at, label) in &self.jumps {
            let d = relative(at + 4, self.labels[label.0]?)?;
            self.code[*at..at + 4].copy_from_slice(&d.to_le_bytes());
        }
        let instructions = self.code.len();
        if !self.pool.is_empty() {
            self.code.resize(self.code.len().next_multiple_of(VECTOR), super::super::PADDING);
        }
        let start = self.code.len();
        for (at, after, entry) in &self.refs {
            let d = relative(at + 4 + after, start + VECTOR * entry)?;
            self.code[*at..at + 4].copy_from_slice(&d.to_le_bytes());
        }
        for bits in &self.pool {
            self.code.extend_from_slice(&bits.to_le_bytes().repeat(VECTOR / 4));
        }
        Some(Blob { bytes: self.code, instructions, pool: self.pool })
    }

    fn byte(&mut self, b: u8) {
        self.code.push(b);
    }

    /// ModRM, SIB and displacement; `after` bytes of the instruction follow.
    fn operand(&mut self, reg: u8, rm: Operand, after: usize) {
        let reg = (reg & 7) << 3;
        match rm {
            Operand::Reg(y) => self.byte(0xc0 | reg | (y.0 & 7)),
            Operand::Mem(mem) => self.memory(reg, mem, after),
        }
    }

    fn memory(&mut self, reg: u8, mem: Mem, after: usize) {
        match mem {
            Mem::Pool(entry) => {
                self.byte(reg | 0b101);
                self.refs.push((self.code.len(), after, entry));
                self.code.extend_from_slice(&[0; 4]);
            }
            Mem::At { base, index, disp } => {
                // Without a displacement, rbp and r13 as a base would mean something else.
                let (mode, bytes) = match i8::try_from(disp) {
                    Ok(0) if base.0 & 7 != 5 => (0x00, 0),
                    Ok(_) => (0x40, 1),
                    Err(_) => (0x80, 4),
                };
                // A SIB byte is needed for an index, and for rsp and r12 as a base.
                match index {
                    None if base.0 & 7 != 4 => self.byte(mode | reg | (base.0 & 7)),
                    _ => {
                        self.byte(mode | reg | 0b100);
                        self.byte((index.map_or(4, |i| i.0 & 7) << 3) | (base.0 & 7));
                    }
                }
                self.code.extend_from_slice(&disp.to_le_bytes()[..bytes]);
            }
        }
    }

    /// A 256-bit instruction `reg, vvvv, rm`, followed by an immediate byte.
    fn vex(&mut self, map: Map, opcode: u8, reg: Ymm, vvvv: Ymm, rm: Operand, imm: Option<u8>) {
        let (x, b) = match rm {
            Operand::Reg(y) => (0, y.0 >> 3),
            Operand::Mem(Mem::Pool(_)) => (0, 0),
            Operand::Mem(Mem::At { base, index, .. }) => (index.map_or(0, |i| i.0 >> 3), base.0 >> 3),
        };
        let (not_r, not_x, not_b) = ((reg.0 >> 3) ^ 1, x ^ 1, b ^ 1);
        let last = ((!vvvv.0 & 15) << 3) | 0b100 | map.prefix;
        if map.map == 1 && x == 0 && b == 0 {
            self.code.extend_from_slice(&[0xc5, (not_r << 7) | last]);
        } else {
            self.code.extend_from_slice(&[0xc4, (not_r << 7) | (not_x << 6) | (not_b << 5) | map.map, last]);
        }
        self.byte(opcode);
        self.operand(reg.0, rm, usize::from(imm.is_some()));
        self.code.extend(imm);
    }

    pub(super) fn packed(&mut self, op: Packed, dst: Ymm, a: Ymm, b: Operand) {
        self.vex(MAP_0F, op as u8, dst, a, b, None);
    }

    /// `vcmpps` with one of its 32 predicates.
    pub(super) fn compare(&mut self, predicate: u8, dst: Ymm, a: Ymm, b: Operand) {
        self.vex(MAP_0F, 0xc2, dst, a, b, Some(predicate));
    }

    /// Lanes of `b` where the mask's sign is set, else of `a`.
    pub(super) fn blend(&mut self, dst: Ymm, a: Ymm, b: Operand, mask: Ymm) {
        self.vex(MAP_0F3A_66, 0x4a, dst, a, b, Some(mask.0 << 4));
    }

    pub(super) fn sqrt(&mut self, dst: Ymm, a: Ymm) {
        self.vex(MAP_0F, 0x51, dst, Ymm(0), Operand::Reg(a), None);
    }

    pub(super) fn copy(&mut self, dst: Ymm, src: Operand) {
        self.vex(MAP_0F, 0x28, dst, Ymm(0), src, None);
    }

    pub(super) fn load(&mut self, dst: Ymm, mem: Mem) {
        self.vex(MAP_0F, 0x10, dst, Ymm(0), Operand::Mem(mem), None);
    }

    pub(super) fn store(&mut self, mem: Mem, src: Ymm) {
        self.vex(MAP_0F, 0x11, src, Ymm(0), Operand::Mem(mem), None);
    }

    /// One element into all lanes.
    pub(super) fn broadcast(&mut self, dst: Ymm, mem: Mem) {
        self.vex(MAP_0F38_66, 0x18, dst, Ymm(0), Operand::Mem(mem), None);
    }

    /// Lane 0. (The length bit is ignored for scalars.)
    pub(super) fn store_one(&mut self, mem: Mem, src: Ymm) {
        self.vex(MAP_0F_F3, 0x11, src, Ymm(0), Operand::Mem(mem), None);
    }

    /// Asks for the cache line of an address that need not exist.
    pub(super) fn prefetch(&mut self, mem: Mem) {
        if let Mem::At { base, index, .. } = mem {
            let prefix = 0x40 | (index.map_or(0, |i| i.0 >> 3) << 1) | (base.0 >> 3);
            self.code.extend_from_slice(&[prefix, 0x0f, 0x18]);
            self.memory(1 << 3, mem, 0);
        }
    }

    pub(super) fn zero_upper(&mut self) {
        self.code.extend_from_slice(&[0xc5, 0xf8, 0x77]);
    }

    /// A 64-bit instruction with a ModRM byte.
    fn wide(&mut self, opcode: &[u8], reg: u8, base: u8, index: u8) {
        self.byte(0x48 | ((reg >> 3) << 2) | ((index >> 3) << 1) | (base >> 3));
        self.code.extend_from_slice(opcode);
    }

    fn registers(&mut self, opcode: &[u8], reg: Gpr, rm: Gpr) {
        self.wide(opcode, reg.0, rm.0, 0);
        self.byte(0xc0 | ((reg.0 & 7) << 3) | (rm.0 & 7));
    }

    fn with_memory(&mut self, opcode: &[u8], reg: Gpr, base: Gpr, disp: i32) {
        self.wide(opcode, reg.0, base.0, 0);
        self.memory((reg.0 & 7) << 3, Mem::At { base, index: None, disp }, 0);
    }

    pub(super) fn alu_imm(&mut self, op: Alu, dst: Gpr, imm: i32) {
        self.wide(&[0x81], 0, dst.0, 0);
        self.byte(0xc0 | ((op as u8) << 3) | (dst.0 & 7));
        self.code.extend_from_slice(&imm.to_le_bytes());
    }

    pub(super) fn alu_mem(&mut self, op: Alu, dst: Gpr, base: Gpr, disp: i32) {
        self.with_memory(&[8 * (op as u8) + 3], dst, base, disp);
    }

    pub(super) fn alu_reg(&mut self, op: Alu, dst: Gpr, src: Gpr) {
        self.registers(&[8 * (op as u8) + 3], dst, src);
    }

    pub(super) fn mov(&mut self, dst: Gpr, src: Gpr) {
        self.registers(&[0x8b], dst, src);
    }

    pub(super) fn mov_imm(&mut self, dst: Gpr, imm: i64) {
        self.wide(&[0xb8 | (dst.0 & 7)], 0, dst.0, 0);
        self.code.extend_from_slice(&imm.to_le_bytes());
    }

    pub(super) fn mov_load(&mut self, dst: Gpr, base: Gpr, disp: i32) {
        self.with_memory(&[0x8b], dst, base, disp);
    }

    pub(super) fn mov_store(&mut self, base: Gpr, disp: i32, src: Gpr) {
        self.with_memory(&[0x89], src, base, disp);
    }

    pub(super) fn imul_imm(&mut self, dst: Gpr, src: Gpr, imm: i32) {
        self.registers(&[0x69], dst, src);
        self.code.extend_from_slice(&imm.to_le_bytes());
    }

    pub(super) fn imul_mem(&mut self, dst: Gpr, base: Gpr, disp: i32) {
        self.with_memory(&[0x0f, 0xaf], dst, base, disp);
    }

    pub(super) fn push(&mut self, r: Gpr) {
        self.code.extend_from_slice(&[0x40 | (r.0 >> 3), 0x50 | (r.0 & 7)]);
    }

    pub(super) fn pop(&mut self, r: Gpr) {
        self.code.extend_from_slice(&[0x40 | (r.0 >> 3), 0x58 | (r.0 & 7)]);
    }

    pub(super) fn jump_if(&mut self, cond: Cond, to: Label) {
        self.code.extend_from_slice(&[0x0f, 0x80 | cond as u8]);
        self.jumps.push((self.code.len(), to));
        self.code.extend_from_slice(&[0; 4]);
    }

    pub(super) fn ret(&mut self) {
        self.byte(0xc3);
    }
}
