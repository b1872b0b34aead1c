//! Which experts a row takes, and with which weights.

use rlx_ir::RouterScore;

/// How a row's experts are chosen and weighed; see [`rlx_ir::MoeSpec`].
#[derive(Clone, Copy, Debug)]
pub struct RouterArgs<'a> {
    /// Experts a row takes, at least one and at most all.
    pub top_k: usize,
    /// How logits become scores.
    pub score: RouterScore,
    /// `[experts]`: added where experts are chosen.
    pub choice_bias: Option<&'a [f32]>,
    /// Whether weights sum to one.
    pub normalise: bool,
    /// Multiplies all weights.
    pub scale: f32,
    /// `[experts]`: multiplies each expert's weight.
    pub expert_scale: Option<&'a [f32]>,
}

/// The `top_k` experts of one row and their weights, best first; of equals the first. `scores` are two floats per expert to work
/// with. Logits that are not numbers are taken for the lowest.
pub fn route_row(args: &RouterArgs<'_>, logits: &[f32], scores: &mut [f32], chosen: &mut [u32], weights: &mut [f32]) {
    let (scores, keys) = scores.split_at_mut(logits.len());
    let finite = |x: f32| if x.is_nan() { f32::MIN } else { x.clamp(f32::MIN, f32::MAX) };
    match args.score {
        RouterScore::Softmax => {
            let max = logits.iter().fold(f32::MIN, |max, &x| max.max(finite(x)));
            let mut sum = 0.0;
            for (score, &x) in scores.iter_mut().zip(logits) {
                *score = (finite(x) - max).exp();
                sum += *score;
            }
            scores.iter_mut().for_each(|score| *score /= sum);
        }
        RouterScore::Sigmoid => {
            scores.iter_mut().zip(logits).for_each(|(score, &x)| *score = 1.0 / (1.0 + (-finite(x)).exp()));
        }
    }
    keys.copy_from_slice(scores);
    if let Some(bias) = args.choice_bias {
        keys.iter_mut().zip(bias).for_each(|(key, bias)| *key += bias);
    }
    for place in 0..args.top_k {
        let mut best = None;
        for (expert, &key) in keys.iter().enumerate() {
            let taken = chosen[..place].contains(&(expert as u32));
            if !taken && best.is_none_or(|(_, most)| key > most) {
                best = Some((expert, key));
            }
        }
        let expert = best.map_or(0, |(expert, _)| expert);
        chosen[place] = expert as u32;
        weights[place] = scores[expert];
    }
    let sum: f32 = weights.iter().sum();
    let factor = if args.normalise && sum > 0.0 { args.scale / sum } else { args.scale };
    for (weight, &expert) in weights.iter_mut().zip(&*chosen) {
        *weight *= factor * args.expert_scale.map_or(1.0, |scale| scale[expert as usize]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(top_k: usize) -> RouterArgs<'static> {
        RouterArgs {
            top_k,
            score: RouterScore::Softmax,
            choice_bias: None,
            normalise: true,
            scale: 1.0,
            expert_scale: None,
        }
    }

    fn route(args: &RouterArgs<'_>, logits: &[f32]) -> (Vec<u32>, Vec<f32>) {
        let (mut chosen, mut weights) = (vec![0; args.top_k], vec![0.0; args.top_k]);
        route_row(args, logits, &mut vec![0.0; 2 * logits.len()], &mut chosen, &mut weights);
        (chosen, weights)
    }

    #[test]
    fn the_best_are_chosen_and_weighed() {
        let logits = [0.0, 2f32.ln(), 4f32.ln(), 1f32.ln()];
        let (chosen, weights) = route(&args(2), &logits);
        assert_eq!(chosen, [2, 1]);
        assert!((weights[0] - 2.0 / 3.0).abs() < 1e-6 && (weights[1] - 1.0 / 3.0).abs() < 1e-6);
        let (_, plain) = route(&RouterArgs { normalise: false, scale: 2.0, ..args(2) }, &logits);
        assert!((plain[0] - 1.0).abs() < 1e-6 && (plain[1] - 0.5).abs() < 1e-6);
        let scaled = RouterArgs { expert_scale: Some(&[1.0, 3.0, 5.0, 7.0]), ..args(2) };
        assert!((route(&scaled, &logits).1[0] - 10.0 / 3.0).abs() < 1e-5);
    }

    #[test]
    fn a_bias_chooses_but_does_not_weigh() {
        let args = RouterArgs { score: RouterScore::Sigmoid, choice_bias: Some(&[0.0, 0.0, 9.0]), ..args(1) };
        let (chosen, weights) = route(&RouterArgs { normalise: false, ..args }, &[5.0, 1.0, 0.0]);
        assert_eq!((chosen[0], weights[0]), (2, 0.5));
    }

    #[test]
    fn of_equals_the_first_and_never_one_twice() {
        assert_eq!(route(&args(3), &[1.0; 5]).0, [0, 1, 2]);
        let (chosen, weights) = route(&args(3), &[f32::NAN, f32::INFINITY, f32::NEG_INFINITY]);
        assert_eq!(chosen, [1, 0, 2]);
        assert!(weights.iter().all(|w| w.is_finite()));
    }
}
