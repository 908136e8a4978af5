//! Python objects as far as data files hold them: numbers, text, bytes, lists, tuples, dictionaries and numpy arrays.
//!
//! Objects that hold others live in a [`Heap`] and are named by index, because pickles share them, may make them
//! contain themselves, and nest them deeper than a call stack would bear when they are dropped.

use super::numpy::{Dtype, Raw};

/// An object, or the index of one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value {
    /// `None`.
    None,
    /// `True` or `False`.
    Bool(bool),
    /// An integer of up to 64 bits.
    Int(i64),
    /// A float, or an integer too large for 64 bits.
    Float(f64),
    /// A function or class by its role.
    Callable(Callable),
    /// An object on the heap.
    Object(usize),
}

/// The only functions and classes that a pickle may name. None of them is executed: each is an instruction to build
/// data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Callable {
    /// `numpy.core.multiarray._reconstruct`: an array that the next state fills.
    Reconstruct,
    /// `numpy.core.multiarray.scalar`.
    Scalar,
    /// `numpy.core.numeric._frombuffer`.
    FromBuffer,
    /// `numpy.ndarray`.
    NdArray,
    /// `numpy.dtype`.
    Dtype,
    /// `_codecs.encode`: how newer Pythons write bytes into old pickles.
    Encode,
    /// `bytes` or `bytearray`.
    Bytes,
    /// `collections.OrderedDict` or `dict`.
    Dict,
    /// `list`, `set` or `frozenset`.
    List,
    /// `tuple`.
    Tuple,
}

impl Callable {
    /// The role of a name, if it has one.
    pub(super) fn find(module: &str, name: &str) -> Option<Callable> {
        let numpy_core = module.strip_prefix("numpy.core.").or_else(|| module.strip_prefix("numpy._core."));
        Some(match (module, name) {
            _ if numpy_core == Some("multiarray") && name == "_reconstruct" => Callable::Reconstruct,
            _ if numpy_core == Some("multiarray") && name == "scalar" => Callable::Scalar,
            _ if numpy_core == Some("numeric") && name == "_frombuffer" => Callable::FromBuffer,
            ("numpy", "ndarray") => Callable::NdArray,
            ("numpy", "dtype") => Callable::Dtype,
            ("_codecs", "encode") => Callable::Encode,
            ("builtins" | "__builtin__", "bytes" | "bytearray") => Callable::Bytes,
            ("builtins" | "__builtin__", "dict") | ("collections", "OrderedDict") => Callable::Dict,
            ("builtins" | "__builtin__", "list" | "set" | "frozenset") => Callable::List,
            ("builtins" | "__builtin__", "tuple") => Callable::Tuple,
            _ => return None,
        })
    }
}

/// An object that other objects refer to.
#[derive(Clone, Debug)]
pub(super) enum Object {
    /// Text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// Bytes that are part of the file, by position.
    Part(std::ops::Range<usize>),
    /// A list, tuple or set.
    List(Vec<Value>),
    /// A dictionary in the order of its keys' appearance.
    Dict(Vec<(Value, Value)>),
    /// An array whose state has not come yet.
    NewArray,
    /// An array.
    Array(Raw),
    /// A type of array elements.
    Dtype(Dtype),
}

impl Object {
    /// What it is, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Object::Text(_) => "text",
            Object::Bytes(_) | Object::Part(_) => "bytes",
            Object::List(_) => "a list",
            Object::Dict(_) => "a dictionary",
            Object::NewArray => "an unfinished array",
            Object::Array(_) => "an array",
            Object::Dtype(_) => "a numpy type",
        }
    }
}

/// The objects of a file, and the file itself, which some of them are parts of.
#[derive(Debug)]
pub(super) struct Heap<'f> {
    /// All objects, in order of creation.
    pub(super) objects: Vec<Object>,
    /// The file's bytes.
    pub(super) file: &'f [u8],
}

impl<'f> Heap<'f> {
    pub(super) fn new(file: &'f [u8]) -> Heap<'f> {
        Heap { objects: Vec::new(), file }
    }

    /// Adds an object.
    pub(super) fn add(&mut self, object: Object) -> Value {
        self.objects.push(object);
        Value::Object(self.objects.len() - 1)
    }

    /// The object that a value names.
    pub(super) fn get(&self, value: Value) -> Option<&Object> {
        match value {
            Value::Object(i) => self.objects.get(i),
            _ => None,
        }
    }

    /// Bytes, also those that Python 2 wrote as text.
    pub(super) fn bytes(&self, value: Value) -> Option<&[u8]> {
        match self.get(value)? {
            Object::Bytes(b) => Some(b),
            Object::Part(range) => self.file.get(range.clone()),
            Object::Text(t) if t.is_ascii() => Some(t.as_bytes()),
            _ => None,
        }
    }

    /// Text, also bytes that are text, as names in Python 2 are.
    pub(super) fn text(&self, value: Value) -> Option<&str> {
        match self.get(value)? {
            Object::Text(t) => Some(t),
            Object::Bytes(_) | Object::Part(_) => std::str::from_utf8(self.bytes(value)?).ok(),
            _ => None,
        }
    }

    /// The items of a list, tuple or set.
    pub(super) fn list(&self, value: Value) -> Option<&[Value]> {
        match self.get(value)? {
            Object::List(items) => Some(items),
            _ => None,
        }
    }

    /// What a value is, for messages.
    pub(super) fn kind(&self, value: Value) -> &'static str {
        match value {
            Value::None => "None",
            Value::Bool(_) => "a boolean",
            Value::Int(_) | Value::Float(_) => "a number",
            Value::Callable(_) => "a function",
            Value::Object(_) => self.get(value).map_or("nothing", Object::kind),
        }
    }
}
