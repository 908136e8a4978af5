//! Reads Python pickles of protocols 0 to 5 (Python's `pickletools` documents every instruction) without ever running
//! anything: a pickle is a program for a small stack machine, and this machine can only build data.
//!
//! Names of functions are taken from the closed list of [`Callable`]; any other is refused by name, as are persistent
//! ids, extension codes and out-of-band buffers. Memory stays within a multiple of the file's size, however often a
//! pickle refers to the same object.

use super::Trouble;
use super::numpy::{Dtype, MAX_RANK, Raw};
use super::value::{Callable, Heap, Object, Value};

/// Bytes that copies may take beyond the size of the file: an honest pickle copies each of its bytes at most once.
const COPIES: usize = 4;
/// The same for small files.
const COPIES_FLOOR: usize = 1 << 20;

type Step<T = ()> = Result<T, Trouble>;

/// Reads a pickle: its objects and the one that it stands for.
pub(super) fn read(file: &[u8]) -> Step<(Heap<'_>, Value)> {
    let mut machine = Machine {
        heap: Heap::new(file),
        at: 0,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: Vec::new(),
        budget: file.len().saturating_mul(COPIES).saturating_add(COPIES_FLOOR),
    };
    let value = loop {
        let start = machine.at;
        match machine.step() {
            Ok(None) => {}
            Ok(Some(value)) => break value,
            Err(trouble) => return Err(trouble.at(start)),
        }
    };
    Ok((machine.heap, value))
}

struct Machine<'f> {
    heap: Heap<'f>,
    at: usize,
    stack: Vec<Value>,
    /// Heights of the stack at the open marks.
    marks: Vec<usize>,
    memo: Vec<Option<Value>>,
    /// Bytes that may still be copied.
    budget: usize,
}

fn cut_off() -> Trouble {
    Trouble::format("is cut off").help("fetch or write the file again")
}

fn damaged(what: impl std::fmt::Display) -> Trouble {
    Trouble::format(format!("is no intact pickle: {what}")).help("write it anew with Python's `pickle.dump`")
}

impl<'f> Machine<'f> {
    /// Carries out one instruction; the result when that ends the pickle.
    fn step(&mut self) -> Step<Option<Value>> {
        let code = self.byte()?;
        match code {
            0x80 => match self.byte()? {
                0..=5 => {}
                other => {
                    return Err(Trouble::format(format!("is a pickle of protocol {other}; 0 to 5 can be read"))
                        .help("write it with `pickle.dump(data, file, protocol=4)`"));
                }
            },
            0x95 => {
                self.take(8)?;
            }
            b'.' => return self.pop().map(Some),
            b'(' => self.marks.push(self.stack.len()),
            b'0' => {
                // `POP` also takes away a mark that lies on top.
                if self.marks.last() == Some(&self.stack.len()) {
                    self.marks.pop();
                } else {
                    self.pop()?;
                }
            }
            b'1' => {
                self.pop_mark()?;
            }
            b'2' => {
                let top = *self.stack.last().ok_or_else(|| damaged("its stack is empty"))?;
                self.stack.push(top);
            }
            b'N' => self.stack.push(Value::None),
            0x88 => self.stack.push(Value::Bool(true)),
            0x89 => self.stack.push(Value::Bool(false)),
            b'F' | b'G' | b'I' | b'J' | b'K' | b'L' | b'M' | 0x8a | 0x8b => {
                let number = self.number(code)?;
                self.stack.push(number);
            }
            b'S' | b'T' | b'U' | b'V' | b'X' | 0x8c | 0x8d | b'B' | b'C' | 0x8e | 0x96 => {
                let object = self.string(code)?;
                self.push(object);
            }
            b']' | b')' | 0x8f => self.push(Object::List(Vec::new())),
            b'}' => self.push(Object::Dict(Vec::new())),
            b'l' | b't' | 0x91 => {
                let items = self.pop_mark()?;
                self.push(Object::List(items));
            }
            0x85..=0x87 => {
                let items = self.pop_many(usize::from(code - 0x84))?;
                self.push(Object::List(items));
            }
            b'd' => {
                let items = self.pop_mark()?;
                let pairs = pairs(&items)?;
                self.push(Object::Dict(pairs));
            }
            b'a' => {
                let item = self.pop()?;
                self.extend_list(vec![item])?;
            }
            b'e' | 0x90 => {
                let items = self.pop_mark()?;
                self.extend_list(items)?;
            }
            b's' => {
                let items = self.pop_many(2)?;
                self.extend_dict(&items)?;
            }
            b'u' => {
                let items = self.pop_mark()?;
                self.extend_dict(&items)?;
            }
            b'p' | b'q' | b'r' | 0x94 => self.remember(code)?,
            b'g' | b'h' | b'j' => self.recall(code)?,
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.callable(module, name)?;
            }
            0x93 => {
                let names = self.pop_many(2)?;
                let text = |v: Value| self.heap.text(v).map(str::to_owned).ok_or_else(|| damaged("a name is no text"));
                let (module, name) = (text(names[0])?, text(names[1])?);
                self.callable(&module, &name)?;
            }
            b'R' | 0x81 => {
                let args = self.pop()?;
                let callable = self.pop()?;
                self.reduce(callable, args)?;
            }
            b'b' => {
                let state = self.pop()?;
                self.build(state)?;
            }
            b'i' => {
                let (module, name) = (self.line()?, self.line()?);
                return Err(refused(module, name));
            }
            b'o' => return Err(refused("an object", "of a class")),
            0x92 => return Err(refused("an object", "with named arguments")),
            b'P' | b'Q' => return Err(foreign("a persistent id")),
            0x82..=0x84 => return Err(foreign("an extension code")),
            0x97 | 0x98 => return Err(foreign("an out-of-band buffer")),
            other => return Err(damaged(format!("there is no instruction {other:#04x}"))),
        }
        Ok(None)
    }

    fn byte(&mut self) -> Step<u8> {
        let byte = *self.heap.file.get(self.at).ok_or_else(cut_off)?;
        self.at += 1;
        Ok(byte)
    }

    fn take(&mut self, n: usize) -> Step<&'f [u8]> {
        let end = self.at.checked_add(n).ok_or_else(cut_off)?;
        let bytes = self.heap.file.get(self.at..end).ok_or_else(cut_off)?;
        self.at = end;
        Ok(bytes)
    }

    /// A little-endian count of `n` bytes.
    fn count(&mut self, n: usize) -> Step<usize> {
        let bytes = self.take(n)?;
        let value = bytes.iter().rev().fold(0u64, |a, b| a << 8 | u64::from(*b));
        usize::try_from(value).map_err(|_| cut_off())
    }

    /// The text up to the end of the line.
    fn line(&mut self) -> Step<&'f str> {
        let rest = &self.heap.file[self.at..];
        let end = rest.iter().position(|b| *b == b'\n').ok_or_else(cut_off)?;
        self.at += end + 1;
        let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
        std::str::from_utf8(line).map_err(|_| damaged("a line is no text"))
    }

    fn pop(&mut self) -> Step<Value> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err(damaged("its stack is empty"));
        }
        self.stack.pop().ok_or_else(|| damaged("its stack is empty"))
    }

    fn pop_many(&mut self, n: usize) -> Step<Vec<Value>> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.len().checked_sub(n) {
            Some(start) if start >= floor => Ok(self.stack.split_off(start)),
            _ => Err(damaged("its stack is empty")),
        }
    }

    fn pop_mark(&mut self) -> Step<Vec<Value>> {
        let mark = self.marks.pop().ok_or_else(|| damaged("a mark is missing"))?;
        if mark > self.stack.len() {
            return Err(damaged("a mark is missing"));
        }
        Ok(self.stack.split_off(mark))
    }

    fn push(&mut self, object: Object) {
        let value = self.heap.add(object);
        self.stack.push(value);
    }

    fn spend(&mut self, bytes: usize) -> Step {
        self.budget = self.budget.checked_sub(bytes).ok_or_else(|| damaged("it copies its bytes again and again"))?;
        Ok(())
    }

    fn number(&mut self, code: u8) -> Step<Value> {
        Ok(match code {
            b'F' => {
                let line = self.line()?;
                Value::Float(line.trim().parse().map_err(|_| damaged("a number cannot be read"))?)
            }
            b'G' => {
                let bytes: [u8; 8] = self.take(8)?.try_into().map_err(|_| cut_off())?;
                Value::Float(f64::from_be_bytes(bytes))
            }
            b'I' => match self.line()?.trim() {
                "00" => Value::Bool(false),
                "01" => Value::Bool(true),
                line => integer(line)?,
            },
            b'L' => integer(self.line()?.trim().trim_end_matches('L'))?,
            b'J' => {
                let bytes: [u8; 4] = self.take(4)?.try_into().map_err(|_| cut_off())?;
                Value::Int(i64::from(i32::from_le_bytes(bytes)))
            }
            b'K' => Value::Int(i64::from(self.byte()?)),
            b'M' => {
                let bytes: [u8; 2] = self.take(2)?.try_into().map_err(|_| cut_off())?;
                Value::Int(i64::from(u16::from_le_bytes(bytes)))
            }
            _ => {
                let n = self.count(if code == 0x8a { 1 } else { 4 })?;
                long(self.take(n)?)
            }
        })
    }

    fn string(&mut self, code: u8) -> Step<Object> {
        let part = |m: &mut Self, digits: usize| -> Step<std::ops::Range<usize>> {
            let n = m.count(digits)?;
            m.take(n)?;
            Ok(m.at - n..m.at)
        };
        Ok(match code {
            b'S' => {
                let line = self.line()?.trim();
                let quote = line.chars().next().filter(|c| matches!(c, '\'' | '"'));
                let inner =
                    quote.and_then(|q| line[1..].strip_suffix(q)).ok_or_else(|| damaged("text lacks a quote"))?;
                self.spend(inner.len())?;
                Object::Bytes(unescape(inner)?)
            }
            b'V' => {
                let line = self.line_bytes()?;
                self.spend(line.len())?;
                Object::Text(raw_unicode(line)?)
            }
            // The strings of Python 2 and the bytes of Python 3 stay where they are.
            b'T' | b'B' => Object::Part(part(self, 4)?),
            b'U' | b'C' => Object::Part(part(self, 1)?),
            0x8e | 0x96 => Object::Part(part(self, 8)?),
            _ => {
                let range = part(
                    self,
                    match code {
                        0x8c => 1,
                        b'X' => 4,
                        _ => 8,
                    },
                )?;
                self.spend(range.len())?;
                let text = utf8(&self.heap.file[range]).ok_or_else(|| damaged("text is not UTF-8"))?;
                Object::Text(text)
            }
        })
    }

    fn line_bytes(&mut self) -> Step<&'f [u8]> {
        let rest = &self.heap.file[self.at..];
        let end = rest.iter().position(|b| *b == b'\n').ok_or_else(cut_off)?;
        self.at += end + 1;
        Ok(&rest[..end])
    }

    fn extend_list(&mut self, items: Vec<Value>) -> Step {
        let list = *self.stack.last().ok_or_else(|| damaged("its stack is empty"))?;
        let Value::Object(i) = list else { return Err(damaged("items are added to no list")) };
        match &mut self.heap.objects[i] {
            Object::List(all) => all.extend(items),
            _ => return Err(damaged("items are added to no list")),
        }
        Ok(())
    }

    fn extend_dict(&mut self, items: &[Value]) -> Step {
        let pairs = pairs(items)?;
        let dict = *self.stack.last().ok_or_else(|| damaged("its stack is empty"))?;
        let Value::Object(i) = dict else { return Err(damaged("items are added to no dictionary")) };
        match &mut self.heap.objects[i] {
            Object::Dict(all) => all.extend(pairs),
            _ => return Err(damaged("items are added to no dictionary")),
        }
        Ok(())
    }

    fn remember(&mut self, code: u8) -> Step {
        let index = match code {
            b'p' => self.line()?.trim().parse().map_err(|_| damaged("a memo index cannot be read"))?,
            b'q' => self.count(1)?,
            b'r' => self.count(4)?,
            _ => self.memo.iter().rposition(Option::is_some).map_or(0, |i| i + 1),
        };
        // Indices are handed out one after the other, so there are never more than bytes in the file.
        if index > self.heap.file.len() {
            return Err(damaged("a memo index is out of range"));
        }
        let top = *self.stack.last().ok_or_else(|| damaged("its stack is empty"))?;
        if self.memo.len() <= index {
            self.memo.resize(index + 1, None);
        }
        self.memo[index] = Some(top);
        Ok(())
    }

    fn recall(&mut self, code: u8) -> Step {
        let index = match code {
            b'g' => self.line()?.trim().parse().map_err(|_| damaged("a memo index cannot be read"))?,
            b'h' => self.count(1)?,
            _ => self.count(4)?,
        };
        let value = self.memo.get(index).copied().flatten().ok_or_else(|| damaged("a memo index is out of range"))?;
        self.stack.push(value);
        Ok(())
    }

    fn callable(&mut self, module: &str, name: &str) -> Step {
        let callable = Callable::find(module, name).ok_or_else(|| refused(module, name))?;
        self.stack.push(Value::Callable(callable));
        Ok(())
    }

    /// Builds what a call of a known function would give.
    fn reduce(&mut self, callable: Value, args: Value) -> Step {
        let Value::Callable(callable) = callable else {
            return Err(damaged("something that is no function is called"));
        };
        let args = self.heap.list(args).ok_or_else(|| damaged("arguments are no tuple"))?;
        // No function takes more than four; copying all of a long tuple again and again would take for ever.
        let args = args[..args.len().min(8)].to_vec();
        let arg = |i: usize| args.get(i).copied().unwrap_or(Value::None);
        let object = match callable {
            Callable::Reconstruct | Callable::NdArray => Object::NewArray,
            Callable::Dtype => {
                let text = self.heap.text(arg(0)).ok_or_else(|| damaged("a numpy type has no name"))?;
                Object::Dtype(Dtype::parse(text))
            }
            Callable::Scalar => {
                let dtype = self.dtype(arg(0))?;
                if dtype.is_object() {
                    self.stack.push(arg(1));
                    return Ok(());
                }
                let data = self.array_data(arg(1))?;
                Object::Array(Raw { dtype, shape: Vec::new(), fortran: false, data })
            }
            Callable::FromBuffer => {
                let (dtype, shape) = (self.dtype(arg(1))?, self.shape(arg(2))?);
                let fortran = self.heap.text(arg(3)) == Some("F");
                let data = self.array_data(arg(0))?;
                Object::Array(Raw { dtype, shape, fortran, data })
            }
            Callable::Encode => {
                let text = self.heap.text(arg(0)).ok_or_else(|| damaged("bytes are written as no text"))?;
                let bytes = latin1(text)?;
                self.spend(bytes.len())?;
                Object::Bytes(bytes)
            }
            Callable::Bytes => {
                let bytes = match (args.first(), self.heap.get(arg(0))) {
                    (None, _) => Vec::new(),
                    (_, Some(Object::Text(text))) => latin1(text)?,
                    (Some(v), _) => self.heap.bytes(*v).ok_or_else(|| damaged("bytes are made of no text"))?.to_vec(),
                };
                self.spend(bytes.len())?;
                Object::Bytes(bytes)
            }
            Callable::Dict => match args.first() {
                None => Object::Dict(Vec::new()),
                Some(items) => {
                    let items = self.heap.list(*items).ok_or_else(|| damaged("a dictionary is made of no list"))?;
                    let items = items.to_vec();
                    self.spend(items.len().saturating_mul(size_of::<Value>()))?;
                    let pair = |v: &Value| match self.heap.list(*v) {
                        Some([key, value]) => Ok((*key, *value)),
                        _ => Err(damaged("a dictionary is made of no pairs")),
                    };
                    Object::Dict(items.iter().map(pair).collect::<Result<_, _>>()?)
                }
            },
            Callable::List | Callable::Tuple => {
                let items =
                    args.first().map(|v| self.heap.list(*v).ok_or_else(|| damaged("a list is made of no list")));
                let items = items.transpose()?.unwrap_or_default().to_vec();
                self.spend(items.len().saturating_mul(size_of::<Value>()))?;
                Object::List(items)
            }
        };
        self.push(object);
        Ok(())
    }

    /// Gives the state to the array or type below it.
    fn build(&mut self, state: Value) -> Step {
        let target = *self.stack.last().ok_or_else(|| damaged("its stack is empty"))?;
        let Value::Object(i) = target else { return Err(damaged("a state belongs to nothing")) };
        let state = self.heap.list(state).ok_or_else(|| damaged("a state is no tuple"))?;
        let state = state[..state.len().min(10)].to_vec();
        let built = match &self.heap.objects[i] {
            Object::NewArray => {
                // (version, shape, type, whether Fortran order, data); the oldest numpy left the version out.
                let state = if state.len() == 4 { &state[..] } else { state.get(1..).unwrap_or_default() };
                let [shape, dtype, fortran, data] = *state else { return Err(damaged("an array has another state")) };
                let dtype = self.dtype(dtype)?;
                let shape = self.shape(shape)?;
                let data = if dtype.is_object() {
                    self.heap.list(data).ok_or_else(|| damaged("an array of objects has no list"))?;
                    data
                } else {
                    self.array_data(data)?
                };
                let fortran = matches!(fortran, Value::Bool(true) | Value::Int(1));
                Object::Array(Raw { dtype, shape, fortran, data })
            }
            Object::Dtype(dtype) => {
                // (version, byte order, subtype, names, fields, size, alignment, flags)
                let mut dtype = dtype.clone();
                if let Some(order) = state.get(1).and_then(|v| self.heap.text(*v)) {
                    dtype.big = order == ">";
                }
                let compound = state.get(2..5).unwrap_or_default().iter().any(|v| *v != Value::None);
                if compound && dtype.unusable.is_none() {
                    dtype.unusable = Some("record".to_owned());
                }
                Object::Dtype(dtype)
            }
            other => return Err(damaged(format!("{} has a state", other.kind()))),
        };
        self.heap.objects[i] = built;
        Ok(())
    }

    fn dtype(&self, value: Value) -> Step<Dtype> {
        match self.heap.get(value) {
            Some(Object::Dtype(dtype)) => Ok(dtype.clone()),
            _ => Err(damaged("an array has no type")),
        }
    }

    fn shape(&self, value: Value) -> Step<Vec<u64>> {
        let bad = || damaged("an array has no shape");
        let items = match value {
            Value::Int(_) => std::slice::from_ref(&value),
            _ => self.heap.list(value).ok_or_else(bad)?,
        };
        if items.len() > MAX_RANK {
            return Err(bad());
        }
        let size = |v: &Value| match v {
            Value::Int(n) => u64::try_from(*n).map_err(|_| bad()),
            _ => Err(bad()),
        };
        items.iter().map(size).collect()
    }

    /// The bytes of an array. Python 2 wrote them as a string; read as latin-1 text, each character is a byte.
    fn array_data(&mut self, value: Value) -> Step<Value> {
        if let Some(Object::Text(text)) = self.heap.get(value) {
            let bytes = latin1(text)?;
            self.spend(bytes.len())?;
            return Ok(self.heap.add(Object::Bytes(bytes)));
        }
        self.heap.bytes(value).ok_or_else(|| damaged("an array has no bytes"))?;
        Ok(value)
    }
}

fn refused(module: &str, name: &str) -> Trouble {
    Trouble::format(format!("is a pickle that wants to run `{module}.{name}`, which is never done"))
        .help("numbers, text, lists, dictionaries and numpy arrays can be read")
        .help("convert what it holds to such data: `numpy.asarray(x)` before `pickle.dump`")
}

fn foreign(what: &str) -> Trouble {
    Trouble::format(format!("is a pickle with {what}, which only the program that wrote it understands"))
        .help("write it anew with Python's `pickle.dump`")
}

fn pairs(items: &[Value]) -> Step<Vec<(Value, Value)>> {
    let (pairs, rest) = items.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(damaged("a key has no value"));
    }
    Ok(pairs.iter().map(|[k, v]| (*k, *v)).collect())
}

fn integer(text: &str) -> Step<Value> {
    match text.parse::<i64>() {
        Ok(n) => Ok(Value::Int(n)),
        Err(_) if !text.is_empty() && text.strip_prefix('-').unwrap_or(text).bytes().all(|b| b.is_ascii_digit()) => {
            Ok(Value::Float(text.parse().unwrap_or(f64::NAN)))
        }
        Err(_) => Err(damaged("a number cannot be read")),
    }
}

/// An integer of any length, in two's complement, least significant byte first.
fn long(bytes: &[u8]) -> Value {
    let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
    let fill = if negative { 0xff } else { 0 };
    if bytes.len() <= 8 {
        let mut eight = [fill; 8];
        eight[..bytes.len()].copy_from_slice(bytes);
        return Value::Int(i64::from_le_bytes(eight));
    }
    let size = bytes.iter().rev().fold(0.0f64, |a, b| a * 256.0 + f64::from(b ^ fill));
    Value::Float(if negative { -size - 1.0 } else { size })
}

/// UTF-8 in which Python may have left single surrogates; those become the replacement character.
fn utf8(bytes: &[u8]) -> Option<String> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Some(text.to_owned()),
        Err(e) => {
            let lone = |b: &[u8]| b.len() >= 2 && b[0] == 0xed && b[1] >= 0xa0;
            lone(&bytes[e.valid_up_to()..]).then(|| String::from_utf8_lossy(bytes).into_owned())
        }
    }
}

/// The bytes whose latin-1 characters a text is made of.
fn latin1(text: &str) -> Step<Vec<u8>> {
    text.chars().map(|c| u8::try_from(u32::from(c)).map_err(|_| damaged("bytes are written as other text"))).collect()
}

/// Text of the escapes of a Python 2 string.
fn unescape(text: &str) -> Step<Vec<u8>> {
    let bad = || damaged("text has an escape that cannot be read");
    let mut out = Vec::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            let mut buffer = [0; 4];
            out.extend(c.encode_utf8(&mut buffer).bytes());
            continue;
        }
        match chars.next().ok_or_else(bad)? {
            'n' => out.push(b'\n'),
            'r' => out.push(b'\r'),
            't' => out.push(b'\t'),
            'a' => out.push(7),
            'b' => out.push(8),
            'f' => out.push(12),
            'v' => out.push(11),
            'x' => {
                let digits: String = chars.by_ref().take(2).collect();
                out.push(u8::from_str_radix(&digits, 16).map_err(|_| bad())?);
            }
            digit @ '0'..='7' => {
                let mut value = digit.to_digit(8).ok_or_else(bad)?;
                for _ in 0..2 {
                    let Some(next) = chars.clone().next().and_then(|c| c.to_digit(8)) else { break };
                    chars.next();
                    value = value * 8 + next;
                }
                out.push(u8::try_from(value).map_err(|_| bad())?);
            }
            c @ ('\\' | '\'' | '"') => out.push(c as u8),
            _ => return Err(bad()),
        }
    }
    Ok(out)
}

/// Text written in latin-1 with `\uXXXX` and `\UXXXXXXXX` for the rest.
fn raw_unicode(bytes: &[u8]) -> Step<String> {
    let mut out = String::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let digits = match bytes.get(at..at + 2) {
            Some(b"\\u") => 4,
            Some(b"\\U") => 8,
            _ => {
                out.push(char::from(*byte));
                at += 1;
                continue;
            }
        };
        let hex = bytes.get(at + 2..at + 2 + digits).and_then(|d| std::str::from_utf8(d).ok());
        let code = hex.and_then(|h| u32::from_str_radix(h, 16).ok());
        let code = code.ok_or_else(|| damaged("text has an escape that cannot be read"))?;
        out.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
        at += 2 + digits;
    }
    Ok(out)
}
