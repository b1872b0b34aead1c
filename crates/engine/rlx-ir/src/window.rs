//! Windows that slide along the rows of a sequence, as those of convolutions.

/// A window that slides along the rows of each sequence of a batch. Rows before the first and after the last count as zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    /// Rows the window sees.
    pub taps: usize,
    /// Rows it moves on.
    pub stride: usize,
    /// Distance of the rows it sees; 1 is one next to the other.
    pub dilation: usize,
    /// Rows of zeros before each sequence. With `dilation * (taps - 1)` of them and none after, the window is causal.
    pub left: usize,
    /// Rows of zeros after each sequence.
    pub right: usize,
}

impl Window {
    /// A window of `taps` neighbours that moves by one row, with no rows of zeros.
    pub fn new(taps: usize) -> Window {
        Window { taps, stride: 1, dilation: 1, left: 0, right: 0 }
    }

    /// The same window that moves by `stride` rows.
    #[must_use]
    pub fn stride(self, stride: usize) -> Window {
        Window { stride, ..self }
    }

    /// The same window with rows of zeros before and after each sequence.
    #[must_use]
    pub fn pad(self, left: usize, right: usize) -> Window {
        Window { left, right, ..self }
    }

    /// From the first to the last row the window sees.
    pub fn extent(&self) -> usize {
        self.dilation.saturating_mul(self.taps.saturating_sub(1)).saturating_add(1)
    }

    /// Rows that a sequence of `len` rows becomes: `floor((len + left + right - extent) / stride) + 1`, or none if the window
    /// is longer than that.
    pub fn output_len(&self, len: usize) -> usize {
        let padded = len.saturating_add(self.left).saturating_add(self.right);
        match padded.checked_sub(self.extent()) {
            Some(room) => room / self.stride.max(1) + 1,
            None => 0,
        }
    }

    /// Whether every sequence keeps its length, whatever that is.
    pub fn keeps_length(&self) -> bool {
        self.stride == 1 && self.left.checked_add(self.right) == Some(self.extent() - 1)
    }

    /// What is wrong with the window, if something is. Rows of zeros as long as the window make results that see nothing but
    /// zeros, even of an empty sequence.
    pub(crate) fn check(&self) -> Result<(), String> {
        // So that the positions of taps are far from overflow.
        const MOST: usize = 1 << 24;
        let sizes = [("taps", self.taps), ("stride", self.stride), ("dilation", self.dilation)];
        if let Some((name, size)) = sizes.iter().find(|(_, size)| !(1..=MOST).contains(size)) {
            return Err(format!("a window with {name} = {size}"));
        }
        if self.extent() > MOST || self.left >= self.extent() || self.right >= self.extent() {
            return Err(format!("a window over {} rows with {} and {} of zeros", self.extent(), self.left, self.right));
        }
        Ok(())
    }
}

impl std::fmt::Display for Window {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "taps={} stride={} pad={}+{}", self.taps, self.stride, self.left, self.right)?;
        if self.dilation != 1 { write!(f, " dilation={}", self.dilation) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_those_of_the_formula() {
        for (taps, stride, dilation, left, right) in
            [(3, 1, 1, 1, 1), (3, 2, 1, 1, 1), (31, 1, 1, 30, 0), (5, 3, 2, 0, 4)]
        {
            let window = Window { taps, stride, dilation, left, right };
            window.check().unwrap();
            for len in 0usize..70 {
                // By counting the places where the window fits.
                let places = (0..200).filter(|i| i * stride + dilation * (taps - 1) < len + left + right).count();
                assert_eq!(window.output_len(len), places, "{window} over {len}");
                assert!(!window.keeps_length() || places == len, "{window} over {len}");
            }
        }
        assert!(Window::new(3).pad(1, 1).keeps_length());
        assert!(!Window::new(3).pad(1, 1).stride(2).keeps_length());
        assert_eq!(Window::new(3).pad(1, 1).stride(2).output_len(3000), 1500);
    }

    #[test]
    fn impossible_windows_are_refused() {
        let good = Window::new(3);
        for bad in [
            Window { taps: 0, ..good },
            Window { stride: 0, ..good },
            Window { dilation: 0, ..good },
            Window { left: 3, ..good },
            Window { right: usize::MAX, ..good },
            Window { taps: usize::MAX, dilation: usize::MAX, ..good },
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
    }
}
