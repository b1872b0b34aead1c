//! Shapes whose dims may be symbolic: known only when a graph is run.

use std::fmt;

/// A symbol of a graph, such as the number of tokens in a batch. Its value is bound at each run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Symbol(pub u16);

/// One dim: a constant, or `mul * symbol`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dim {
    /// Known when the graph is built.
    Const(usize),
    /// `mul` times the value bound to `symbol`.
    Symbolic {
        /// The symbol.
        symbol: Symbol,
        /// Its factor, at least 1.
        mul: usize,
    },
}

impl Dim {
    /// The dim's value under `bindings` (one value per symbol), or `None` on an unbound symbol or overflow.
    pub fn resolve(self, bindings: &[usize]) -> Option<usize> {
        match self {
            Dim::Const(n) => Some(n),
            Dim::Symbolic { symbol, mul } => bindings.get(symbol.0 as usize)?.checked_mul(mul),
        }
    }

    /// This dim times `factor`.
    pub fn times(self, factor: usize) -> Dim {
        match self {
            Dim::Const(n) => Dim::Const(n * factor),
            Dim::Symbolic { symbol, mul } => Dim::Symbolic { symbol, mul: mul * factor },
        }
    }

    /// The value of a constant dim.
    pub fn as_const(self) -> Option<usize> {
        match self {
            Dim::Const(n) => Some(n),
            Dim::Symbolic { .. } => None,
        }
    }
}

impl From<usize> for Dim {
    fn from(n: usize) -> Dim {
        Dim::Const(n)
    }
}

impl From<Symbol> for Dim {
    fn from(symbol: Symbol) -> Dim {
        Dim::Symbolic { symbol, mul: 1 }
    }
}

/// A row-major shape, outermost dim first.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Shape(Vec<Dim>);

impl Shape {
    /// The shape with these dims.
    pub fn new(dims: impl IntoIterator<Item = Dim>) -> Shape {
        Shape(dims.into_iter().collect())
    }

    /// `[rows, width]`.
    pub fn rows(rows: impl Into<Dim>, width: usize) -> Shape {
        Shape(vec![rows.into(), Dim::Const(width)])
    }

    /// The dims, outermost first.
    pub fn dims(&self) -> &[Dim] {
        &self.0
    }

    /// The last dim's constant size: the width of a row. `None` for a scalar or a symbolic last dim.
    pub fn width(&self) -> Option<usize> {
        self.0.last()?.as_const()
    }

    /// The same shape with another last dim.
    pub fn with_width(&self, width: usize) -> Shape {
        let mut dims = self.0.clone();
        if let Some(last) = dims.last_mut() {
            *last = Dim::Const(width);
        }
        Shape(dims)
    }

    /// The dims before the last.
    pub fn outer(&self) -> &[Dim] {
        &self.0[..self.0.len().saturating_sub(1)]
    }

    /// Number of elements under `bindings`, or `None` on an unbound symbol or overflow.
    pub fn elements(&self, bindings: &[usize]) -> Option<usize> {
        self.0.iter().try_fold(1usize, |n, dim| n.checked_mul(dim.resolve(bindings)?))
    }

    /// Number of rows (elements of all dims but the last) under `bindings`.
    pub fn row_count(&self, bindings: &[usize]) -> Option<usize> {
        self.outer().iter().try_fold(1usize, |n, dim| n.checked_mul(dim.resolve(bindings)?))
    }

    /// The shape with symbols by name, as `[T, 576]`.
    pub fn display<'a>(&'a self, symbols: &'a [String]) -> impl fmt::Display + 'a {
        ShapeDisplay { shape: self, symbols }
    }
}

struct ShapeDisplay<'a> {
    shape: &'a Shape,
    symbols: &'a [String],
}

impl fmt::Display for ShapeDisplay<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (i, dim) in self.shape.0.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            match *dim {
                Dim::Const(n) => write!(f, "{n}")?,
                Dim::Symbolic { symbol, mul } => {
                    let name = self.symbols.get(symbol.0 as usize).map_or("?", String::as_str);
                    if mul == 1 { write!(f, "{name}")? } else { write!(f, "{mul}{name}")? }
                }
            }
        }
        f.write_str("]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_resolve_and_overflow_is_caught() {
        let t = Symbol(0);
        let shape = Shape::new([Dim::from(t).times(3), 5.into()]);
        assert_eq!(shape.elements(&[4]), Some(60));
        assert_eq!(shape.row_count(&[4]), Some(12));
        assert_eq!(shape.elements(&[]), None);
        assert_eq!(shape.elements(&[usize::MAX]), None);
        assert_eq!(shape.display(&["T".into()]).to_string(), "[3T, 5]");
    }
}
