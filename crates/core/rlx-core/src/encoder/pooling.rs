//! One vector for a text from the vectors of its tokens.

use std::str::FromStr;

use crate::CoreError;

/// How the vectors of a text's tokens become one, as sentence-transformers' `Pooling` module has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Pooling {
    /// Their mean.
    #[default]
    Mean,
    /// The first one's.
    Cls,
    /// The last one's.
    Last,
    /// The largest value of each dim.
    Max,
    /// Their sum over the square root of their number.
    MeanSqrtLen,
}

impl Pooling {
    /// Every kind.
    pub const ALL: [Pooling; 5] = [Pooling::Mean, Pooling::Cls, Pooling::Last, Pooling::Max, Pooling::MeanSqrtLen];

    /// The name that [`Pooling::from_str`] reads.
    pub fn name(self) -> &'static str {
        match self {
            Pooling::Mean => "mean",
            Pooling::Cls => "cls",
            Pooling::Last => "last",
            Pooling::Max => "max",
            Pooling::MeanSqrtLen => "mean-sqrt-len",
        }
    }
}

impl FromStr for Pooling {
    type Err = CoreError;

    /// Also takes the names that sentence-transformers has for them.
    fn from_str(text: &str) -> Result<Pooling, CoreError> {
        match text.to_ascii_lowercase().as_str() {
            "mean" => Ok(Pooling::Mean),
            "cls" => Ok(Pooling::Cls),
            "last" | "lasttoken" | "last-token" => Ok(Pooling::Last),
            "max" => Ok(Pooling::Max),
            "mean-sqrt-len" | "mean_sqrt_len_tokens" => Ok(Pooling::MeanSqrtLen),
            _ => Err(CoreError::Config(format!("pooling `{text}` is none of mean, cls, last, max, mean-sqrt-len"))),
        }
    }
}

/// Pools the rows of one text, `rows` `[tokens, width]`, into `out` `[width]`. Without rows the result is zero.
///
/// # Panics
/// If `rows` are no whole rows of `out`'s length.
pub fn pool(pooling: Pooling, rows: &[f32], out: &mut [f32]) {
    let width = out.len();
    if width == 0 {
        return;
    }
    assert!(rows.len().is_multiple_of(width), "{} elements are no rows of {width}", rows.len());
    out.fill(0.0);
    if rows.is_empty() {
        return;
    }
    let last = rows.len() - width;
    let each = rows.chunks_exact(width);
    match pooling {
        Pooling::Mean | Pooling::MeanSqrtLen => {
            let count = (rows.len() / width) as f32;
            for row in each {
                out.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
            }
            let divisor = if pooling == Pooling::Mean { count } else { count.sqrt() };
            out.iter_mut().for_each(|sum| *sum /= divisor);
        }
        Pooling::Cls => out.copy_from_slice(&rows[..width]),
        Pooling::Last => out.copy_from_slice(&rows[last..]),
        Pooling::Max => {
            out.fill(f32::NEG_INFINITY);
            for row in each {
                out.iter_mut().zip(row).for_each(|(max, x)| *max = max.max(*x));
            }
        }
    }
}

/// Divides a vector by its length, or by 1e-12 if it is shorter (as torch's `normalize`).
pub fn l2_normalise(vector: &mut [f32]) {
    let squares: f64 = vector.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    let length = squares.sqrt().max(1e-12);
    vector.iter_mut().for_each(|x| *x = (f64::from(*x) / length) as f32);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_what_its_name_says() {
        let rows = [1.0, -4.0, 3.0, 0.0, 5.0, -2.0];
        let pooled = |kind| {
            let mut out = [9.0; 2];
            pool(kind, &rows, &mut out);
            out
        };
        assert_eq!(pooled(Pooling::Mean), [3.0, -2.0]);
        assert_eq!(pooled(Pooling::Cls), [1.0, -4.0]);
        assert_eq!(pooled(Pooling::Last), [5.0, -2.0]);
        assert_eq!(pooled(Pooling::Max), [5.0, 0.0]);
        let root = 3f32.sqrt();
        assert_eq!(pooled(Pooling::MeanSqrtLen), [9.0 / root, -6.0 / root]);
        for kind in Pooling::ALL {
            assert_eq!(kind.name().parse::<Pooling>().unwrap(), kind);
            let mut out = [9.0; 2];
            pool(kind, &[], &mut out);
            assert_eq!(out, [0.0; 2]);
        }
        assert!("median".parse::<Pooling>().is_err());
    }

    #[test]
    fn normalised_vectors_have_length_one() {
        let mut vector = [3.0, 4.0];
        l2_normalise(&mut vector);
        assert_eq!(vector, [0.6, 0.8]);
        let mut zero = [0.0; 2];
        l2_normalise(&mut zero);
        assert_eq!(zero, [0.0; 2]);
        let mut large = [f32::MAX, 0.0];
        l2_normalise(&mut large);
        assert_eq!(large, [1.0, 0.0]);
    }
}
