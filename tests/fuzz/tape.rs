//! A tape of random numbers, and choices made from it. What is past its end is 0, the simplest choice.

/// The numbers and how far they are read.
pub(crate) struct Tape<'a> {
    numbers: &'a [u16],
    at: usize,
}

impl<'a> Tape<'a> {
    /// A tape at its start.
    pub(crate) fn new(numbers: &'a [u16]) -> Tape<'a> {
        Tape { numbers, at: 0 }
    }

    /// The next number.
    pub(crate) fn next(&mut self) -> u16 {
        self.at += 1;
        self.numbers.get(self.at - 1).copied().unwrap_or(0)
    }

    /// Whether all numbers are read.
    pub(crate) fn is_done(&self) -> bool {
        self.at >= self.numbers.len()
    }

    /// A number below `n`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        usize::from(self.next()) % n.max(1)
    }

    /// True once in `n` times; never past the end of the tape.
    pub(crate) fn rarely(&mut self, n: u16) -> bool {
        self.next() % n == n - 1
    }

    /// One of several things.
    pub(crate) fn pick<'t, T>(&mut self, of: &'t [T]) -> &'t T {
        &of[self.below(of.len())]
    }

    /// One of several words.
    pub(crate) fn word(&mut self, of: &[&'static str]) -> &'static str {
        of[self.below(of.len())]
    }

    /// As many parts as the tape decides, at most `most`, joined by `between`.
    pub(crate) fn join(&mut self, most: usize, between: &str, mut part: impl FnMut(&mut Self) -> String) -> String {
        let count = self.below(most + 1);
        (0..count).map(|_| part(self)).collect::<Vec<_>>().join(between)
    }
}
