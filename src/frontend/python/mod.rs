//! Python as far as Kur's template engine shows it: literals (`ast.literal_eval`), `str()` and `repr()`.

mod literal;
mod text;

pub use literal::parse_literal;
pub use text::{float_repr, repr, str_of};
