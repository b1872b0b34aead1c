//! A compiled graph that keeps nothing between runs: encoders, vision models, the parts of speech models.

use std::collections::HashMap;
use std::sync::Arc;

use rlx_ir::{Graph, Param, Symbol};
use rlx_runtime::{
    CompileOptions, CrossCache, CrossEntry, Executable, InputData, ParamData, RuntimeError, SessionOptions, Span,
    State, Step, StepProfile,
};
use rlx_weights::names::{MapOptions, NameRule, WeightMap};
use rlx_weights::{Checkpoint, TensorView};

use crate::CoreError;

/// Rows of a batch that form one sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanOf {
    /// First row.
    pub start: usize,
    /// Number of rows.
    pub len: usize,
}

impl SpanOf {
    /// Sequences of the given lengths, one after the other.
    pub fn ragged(lens: impl IntoIterator<Item = usize>) -> Vec<SpanOf> {
        let mut start = 0;
        let spans = lens.into_iter().map(|len| {
            let span = SpanOf { start, len };
            start += len;
            span
        });
        spans.collect()
    }
}

/// A compiled graph with working memory of its own. Clones share the weights.
pub struct Network {
    executable: Arc<dyn Executable>,
    state: Box<dyn State>,
    cross: Option<CrossCache>,
}

impl Clone for Network {
    fn clone(&self) -> Network {
        // The options are those that `new` has found good.
        let state = self.executable.new_state(&SessionOptions::default(), self.cross.as_ref());
        let state = state.expect("a second state like the first");
        Network { executable: Arc::clone(&self.executable), state, cross: self.cross.clone() }
    }
}

impl Network {
    /// Compiles `graph` with the weights of `checkpoint`, which `rules` name.
    ///
    /// # Errors
    /// If a parameter is missing or of another shape, a tensor is neither used nor ignored, or the device is not there.
    pub fn load(
        graph: Graph,
        checkpoint: &Checkpoint,
        rules: &[NameRule],
        names: &MapOptions<'_>,
        options: &CompileOptions,
    ) -> Result<Network, CoreError> {
        let mut weights = WeightMap::new(checkpoint, rules, names)?;
        let params = take_params(&mut weights, &graph)?;
        weights.finish()?;
        Network::compile(graph, params, options)
    }

    /// Compiles `graph` with `params`, its parameters in its order.
    ///
    /// # Errors
    /// If one is of another shape, or the device is not there.
    pub fn compile(graph: Graph, params: Vec<TensorView>, options: &CompileOptions) -> Result<Network, CoreError> {
        Network::new(compile(graph, params, options)?)
    }

    /// Working memory for a compiled graph.
    ///
    /// # Errors
    /// Those of the device.
    pub fn new(executable: Arc<dyn Executable>) -> Result<Network, CoreError> {
        let state = executable.new_state(&SessionOptions::default(), None)?;
        Ok(Network { executable, state, cross: None })
    }

    /// Working memory for a compiled encoder, which leaves keys and values for its decoder in `cross`.
    ///
    /// # Errors
    /// If the cache is another model's; those of the device.
    pub fn encoder(executable: Arc<dyn Executable>, cross: &CrossCache) -> Result<Network, CoreError> {
        let state = executable.new_state(&SessionOptions::default(), Some(cross))?;
        Ok(Network { executable, state, cross: Some(cross.clone()) })
    }

    /// The compiled graph.
    pub fn executable(&self) -> &Arc<dyn Executable> {
        &self.executable
    }

    /// Runs the graph once. `symbols` and `inputs` are by name, in any order; `spans` says which rows attend to each other.
    ///
    /// # Errors
    /// If one is missing or does not fit.
    pub fn run(
        &mut self,
        symbols: &[(&str, usize)],
        inputs: &[(&str, InputData<'_>)],
        spans: &[SpanOf],
    ) -> Result<(), CoreError> {
        self.run_into(symbols, inputs, spans, &[])
    }

    /// As [`Network::run`] of an encoder ([`Network::encoder`]); each sequence leaves keys and values in its entry.
    ///
    /// # Errors
    /// As [`Network::run`], and if an entry is not of this encoder's cache, or has room for other numbers of rows.
    pub fn run_into(
        &mut self,
        symbols: &[(&str, usize)],
        inputs: &[(&str, InputData<'_>)],
        spans: &[SpanOf],
        entries: &[CrossEntry],
    ) -> Result<(), CoreError> {
        if !entries.iter().all(|entry| self.cross.as_ref().is_some_and(|cross| entry.is_of(cross))) {
            return Err(RuntimeError::Cross("an entry is not of this encoder's cache".into()).into());
        }
        let cross: Vec<_> = entries.iter().map(CrossEntry::at).collect();
        let graph = self.executable.graph();
        let missing = |name: &str| CoreError::Input { name: name.to_string(), what: "is missing".into() };
        let bindings = graph.symbols().iter().enumerate().map(|(index, name)| {
            let given = symbols.iter().find(|(symbol, _)| symbol == name);
            // Those that follow from the spans are nobody's to give.
            let derived = graph.is_derived(Symbol(index as u16)).then_some(0);
            given.map(|&(_, value)| value).or(derived).ok_or_else(|| missing(name))
        });
        let bindings = bindings.collect::<Result<Vec<_>, _>>()?;
        let ordered = graph.inputs().iter().map(|(name, _)| {
            let given = inputs.iter().find(|(input, _)| input == name);
            given.map(|&(_, data)| data).ok_or_else(|| missing(name))
        });
        let ordered = ordered.collect::<Result<Vec<_>, _>>()?;
        let spans: Vec<Span<'_>> =
            spans.iter().map(|span| Span { start: span.start, len: span.len, past: 0, blocks: &[] }).collect();
        Ok(self.state.run(&Step { bindings: &bindings, inputs: &ordered, spans: &spans, cross: &cross })?)
    }

    /// Copies the output `name` of the last run into `out`, whose earlier content is replaced.
    ///
    /// # Errors
    /// If there is no such output, or nothing has run.
    pub fn read(&mut self, name: &str, out: &mut Vec<f32>) -> Result<(), CoreError> {
        let outputs = self.executable.graph().outputs();
        let index = outputs.iter().position(|(output, _)| output == name);
        let index = index
            .ok_or_else(|| CoreError::Input { name: name.to_string(), what: "is no output of the graph".into() })?;
        Ok(self.state.read_output(index, out)?)
    }

    /// As [`Network::read`], into memory of its own.
    ///
    /// # Errors
    /// As [`Network::read`].
    pub fn output(&mut self, name: &str) -> Result<Vec<f32>, CoreError> {
        let mut out = Vec::new();
        self.read(name, &mut out)?;
        Ok(out)
    }

    /// Starts or ends the recording of times per step.
    pub fn set_profiling(&mut self, on: bool) {
        self.state.set_profiling(on);
    }

    /// Times recorded since profiling was turned on.
    pub fn profile(&self) -> Vec<StepProfile> {
        self.state.profile()
    }
}

/// The parameters of `graph`, in its order.
///
/// # Errors
/// If one is missing or of another shape.
pub(crate) fn take_params(weights: &mut WeightMap, graph: &Graph) -> Result<Vec<TensorView>, CoreError> {
    graph.params().iter().map(|param| take_param(weights, param)).collect()
}

/// One parameter of a graph.
///
/// # Errors
/// If it is missing or of another shape.
pub fn take_param(weights: &mut WeightMap, param: &Param) -> Result<TensorView, CoreError> {
    let tensor = weights.take(&param.name)?;
    if tensor.shape != param.shape {
        let what = format!("has shape {:?} in the checkpoint, the config says {:?}", tensor.shape, param.shape);
        return Err(RuntimeError::Param { name: param.name.clone(), what }.into());
    }
    Ok(tensor)
}

/// Compiles `graph` with `params`, each given up as soon as it is packed.
pub(crate) fn compile(
    graph: Graph,
    params: Vec<TensorView>,
    options: &CompileOptions,
) -> Result<Arc<dyn Executable>, CoreError> {
    let mut found: HashMap<String, TensorView> = HashMap::with_capacity(params.len());
    for (param, tensor) in graph.params().iter().zip(params) {
        found.insert(param.name.clone(), tensor);
    }
    let mut source = |param: &Param| match found.remove(&param.name) {
        Some(tensor) => {
            Ok(ParamData { dtype: tensor.dtype, shape: tensor.shape.clone(), bytes: tensor.aligned_data() })
        }
        None => Err(RuntimeError::Param { name: param.name.clone(), what: "is given by nobody".into() }),
    };
    Ok(rlx_runtime::compile(graph, &mut source, options)?)
}

#[cfg(test)]
mod tests {
    use rlx_flow::{Conv1d, Flow, NormKind, NormSpec, Window};
    use rlx_ir::{AttentionSpec, DType};
    use rlx_mem::Bytes;

    use super::*;

    /// Tokens to normalised rows, then attention of one head to all rows of the same sequence.
    fn network() -> Network {
        let mut g = Flow::new();
        let tokens = g.index_input("tokens", "T");
        let x = g.embedding(tokens, "table", 3, 2);
        let x = g.norm(&NormSpec { kind: NormKind::Layer { bias: false }, eps: 0.0 }, x, "norm");
        let spec = AttentionSpec {
            heads: 1,
            kv_heads: 1,
            head_dim: 2,
            v_head_dim: 2,
            scale: 0.0,
            causal: false,
            window: None,
            softcap: None,
            cache: None,
        };
        let mean = g.attention(x, x, x, spec);
        g.output("mean", mean);
        let graph = g.finish().unwrap();
        let values: Vec<f32> = vec![1.0, 3.0, 5.0, 1.0, 0.0, 4.0, 1.0, 2.0];
        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        let view = |name: &str, shape: &[usize], range: std::ops::Range<usize>| {
            TensorView::new(name.into(), DType::F32, shape.to_vec(), Bytes::copy_from(&bytes[range])).unwrap()
        };
        let params = vec![view("table.weight", &[3, 2], 0..24), view("norm.weight", &[2], 24..32)];
        Network::compile(graph, params, &CompileOptions::default()).unwrap()
    }

    #[test]
    fn rows_of_one_sequence_attend_to_each_other() {
        let mut network = network();
        let tokens = [0, 1, 2, 0];
        let inputs = [("tokens", InputData::I32(&tokens))];
        network.run(&[("T", 4)], &inputs, &SpanOf::ragged([3, 1])).unwrap();
        // Normalised: (-1, 2), (1, -2), (-1, 2); the mean of three, and one alone.
        let mean = network.output("mean").unwrap();
        let third = 1.0 / 3.0;
        let expected = [-third, 2.0 * third, -third, 2.0 * third, -third, 2.0 * third, -1.0, 2.0];
        assert!(mean.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5), "{mean:?}");
        let mut second = network.clone();
        second.run(&[("T", 4)], &inputs, &SpanOf::ragged([3, 1])).unwrap();
        assert_eq!(second.output("mean").unwrap(), mean);
    }

    /// Rows of 2 to rows of 2 at half the rate by two convolutions, whose sum attends to its sequence; and a place for each.
    fn halving_network() -> Network {
        let mut g = Flow::new();
        let x = g.rows_input("x", "T", 2);
        let conv = |g: &mut Flow, name: &str| {
            let window = Window::new(3).pad(1, 1).stride(2);
            g.conv1d(x, name, Conv1d { out: 2, window, groups: 1, bias: false })
        };
        let (a, b) = (conv(&mut g, "a"), conv(&mut g, "b"));
        let sum = g.add(a, b);
        let places = g.index_input_of("places", sum);
        let placed = g.embedding(places, "places", 3, 2);
        let y = g.add(sum, placed);
        let spec = AttentionSpec {
            heads: 1,
            kv_heads: 1,
            head_dim: 2,
            v_head_dim: 2,
            scale: 1.0,
            causal: false,
            window: None,
            softcap: None,
            cache: None,
        };
        let y = g.attention(y, y, y, spec);
        g.output("y", y);
        let values: Vec<f32> = (0..12).map(|i| ((i * 7) % 12) as f32 / 12.0 - 0.4).collect();
        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        let view = |name: &str, shape: &[usize]| {
            let bytes = Bytes::copy_from(&bytes[..4 * shape.iter().product::<usize>()]);
            TensorView::new(name.into(), DType::F32, shape.to_vec(), bytes).unwrap()
        };
        let params = vec![view("a.weight", &[2, 2, 3]), view("b.weight", &[2, 2, 3]), view("places.weight", &[3, 2])];
        Network::compile(g.finish().unwrap(), params, &CompileOptions::default()).unwrap()
    }

    #[test]
    fn sequences_keep_apart_at_every_rate() {
        let mut network = halving_network();
        let x: Vec<f32> = (0..22).map(|i| (i as f32 * 0.7).sin()).collect();
        let mut run = |x: &[f32], places: &[i32], lens: &[usize]| {
            let inputs = [("x", InputData::F32(x)), ("places", InputData::I32(places))];
            let total = lens.iter().sum();
            network.run(&[("T", total)], &inputs, &SpanOf::ragged(lens.iter().copied()))?;
            network.output("y")
        };
        let together = run(&x, &[0, 1, 2, 0, 0, 1, 2], &[5, 1, 5]).unwrap();
        assert_eq!(together.len(), 7 * 2);
        let (a, b, c) = (&x[..10], &x[10..12], &x[12..]);
        let apart = [(a, &[0, 1, 2][..]), (b, &[0]), (c, &[0, 1, 2])]
            .map(|(x, places)| run(x, places, &[x.len() / 2]).unwrap())
            .concat();
        assert!(together.iter().zip(&apart).all(|(x, y)| (x - y).abs() < 1e-6), "{together:?} {apart:?}");
        // As many places as rows after the convolution.
        assert!(run(&x, &[0; 6], &[5, 1, 5]).is_err());
        assert!(run(&x, &[0; 7], &[5, 1, 6]).is_err());
        let spans = [SpanOf { start: 8, len: 4 }];
        let inputs = [("x", InputData::F32(&x)), ("places", InputData::I32(&[0, 0]))];
        let error = network.run(&[("T", 11)], &inputs, &spans).unwrap_err().to_string();
        assert_eq!(error, "sequence span of 4 rows from 8 on, in 11 rows");
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let mut network = network();
        let tokens = [0, 3];
        let error = |result: Result<(), CoreError>| result.unwrap_err().to_string();
        assert_eq!(error(network.run(&[], &[], &[])), "input T: is missing");
        assert_eq!(error(network.run(&[("T", 2)], &[], &[])), "input tokens: is missing");
        let inputs = [("tokens", InputData::I32(&tokens))];
        assert!(error(network.run(&[("T", 2)], &inputs, &[])).contains("which is not below 3"));
        assert!(network.output("mean").is_err() && network.output("median").is_err());
    }
}
