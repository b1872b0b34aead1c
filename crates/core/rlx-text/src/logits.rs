//! Arithmetic on rows of logits, written in lanes so that it is compiled to vector code.

/// The largest of `logits`; `None` if one is NaN. Written in lanes, so that it is compiled to vector code.
pub fn max(logits: &[f32]) -> Option<f32> {
    const LANES: usize = 16;
    let mut max = [f32::NEG_INFINITY; LANES];
    let mut nan = [false; LANES];
    let (groups, rest) = logits.as_chunks::<LANES>();
    let mut step = |lane: usize, l: f32| {
        max[lane] = if l > max[lane] { l } else { max[lane] };
        nan[lane] |= l.is_nan();
    };
    for group in groups {
        for (lane, &l) in group.iter().enumerate() {
            step(lane, l);
        }
    }
    for (lane, &l) in rest.iter().enumerate() {
        step(lane, l);
    }
    if nan.contains(&true) {
        return None;
    }
    Some(max.into_iter().fold(f32::NEG_INFINITY, f32::max))
}

/// `exp(x)` for `x <= 0`, to about one unit in the last place, from additions and multiplications alone.
pub fn exp_neg(x: f32) -> f32 {
    if x < -87.0 {
        return 0.0;
    }
    // x = n ln 2 + r, |r| <= ln 2 / 2; ln 2 in two parts keeps r exact.
    let n = (x * std::f32::consts::LOG2_E + 12_582_912.0) - 12_582_912.0;
    let r = x - n * 0.693_359_4;
    let r = r - n * -2.121_944_4e-4;
    let p = 1.0 / 5040.0;
    let p = p * r + 1.0 / 720.0;
    let p = p * r + 1.0 / 120.0;
    let p = p * r + 1.0 / 24.0;
    let p = p * r + 1.0 / 6.0;
    let p = p * r + 0.5;
    let p = p * r + 1.0;
    let p = p * r + 1.0;
    p * f32::from_bits(((n as i32 + 127) as u32) << 23)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponential_is_accurate() {
        for i in 0..8_700 {
            let x = -(i as f32) * 0.01;
            let want = f64::from(x).exp();
            let got = f64::from(exp_neg(x));
            assert!((got - want).abs() <= want * 4e-7, "{x}: {got} {want}");
        }
        assert_eq!(exp_neg(0.0), 1.0);
        assert_eq!(exp_neg(f32::NEG_INFINITY), 0.0);
    }

    #[test]
    fn maxima_of_any_length() {
        for n in [0usize, 1, 15, 16, 17, 1000] {
            let row: Vec<f32> = (0..n).map(|i| ((i * 37) % 101) as f32 * 0.3 - 12.0).collect();
            let want_max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            assert_eq!(max(&row), Some(want_max));
        }
        assert_eq!(max(&[0.0, f32::NAN]), None);
    }
}
