//! The graph: nodes in execution order over single-assignment values.

use std::collections::HashMap;

use crate::infer::{IrError, infer};
use crate::{CrossKv, DType, Op, Shape, Symbol, Window};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub u32);

        impl $name {
            /// The id as an index.
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }
    };
}

id!(
    /// A value of a graph: an input or the result of a node.
    ValueId
);
id!(
    /// A parameter of a graph: a named weight.
    ParamId
);
id!(
    /// A KV cache of a graph: one per attention layer.
    CacheId
);

id!(
    /// The keys and values of one layer in the cross KV cache.
    CrossKvId
);

/// What is known of a value.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// F32 activations or I32 indices.
    pub dtype: DType,
    /// Its shape.
    pub shape: Shape,
}

/// A named weight. Its dtype comes with the checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Param {
    /// Canonical (Hugging Face) tensor name.
    pub name: String,
    /// Row-major shape.
    pub shape: Vec<usize>,
}

/// Sizes of one layer's KV cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cache {
    /// Key/value heads.
    pub kv_heads: usize,
    /// Width of a key head.
    pub k_dim: usize,
    /// Width of a value head.
    pub v_dim: usize,
}

/// One step of the graph.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// What it does.
    pub op: Op,
    /// Operands.
    pub inputs: Vec<ValueId>,
    /// Results.
    pub outputs: Vec<ValueId>,
    /// Where it comes from in the model, as `layers.3.mlp`.
    pub label: String,
}

/// A symbol that counts what a window makes of the rows of another.
#[derive(Clone, Debug, PartialEq)]
struct Derived {
    symbol: Symbol,
    from: Symbol,
    window: Window,
}

/// A model as mathematics: inputs, nodes in execution order, outputs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    symbols: Vec<String>,
    derived: Vec<Derived>,
    params: Vec<Param>,
    param_ids: HashMap<String, ParamId>,
    caches: Vec<Cache>,
    cross_kvs: Vec<CrossKv>,
    values: Vec<Value>,
    nodes: Vec<Node>,
    inputs: Vec<(String, ValueId)>,
    outputs: Vec<(String, ValueId)>,
}

impl Graph {
    /// An empty graph.
    pub fn new() -> Graph {
        Graph::default()
    }

    /// The symbol `name`, declared on first use.
    pub fn symbol(&mut self, name: &str) -> Symbol {
        let index = self.symbols.iter().position(|known| known == name).unwrap_or_else(|| {
            self.symbols.push(name.to_string());
            self.symbols.len() - 1
        });
        Symbol(index as u16)
    }

    /// The symbol of the rows that `window` makes of the rows `from`: `from` itself if every sequence keeps its length, else a
    /// *derived* symbol, declared on first use. Its value in a run follows from the sequences of the batch, so nobody binds it.
    ///
    /// # Errors
    /// If there is no such window.
    pub fn windowed(&mut self, from: Symbol, window: Window) -> Result<Symbol, IrError> {
        let fail = |what| IrError::Window { what };
        window.check().map_err(fail)?;
        if let Some(known) = self.windowed_symbol(from, &window) {
            return Ok(known);
        }
        let rows = self.symbols.get(from.0 as usize).ok_or_else(|| fail(format!("rows of no symbol: {from:?}")))?;
        let name = format!("{rows}({window})");
        self.derived.push(Derived { symbol: Symbol(self.symbols.len() as u16), from, window });
        self.symbols.push(name);
        Ok(Symbol(self.symbols.len() as u16 - 1))
    }

    /// As [`Graph::windowed`], if the symbol is declared.
    pub(crate) fn windowed_symbol(&self, from: Symbol, window: &Window) -> Option<Symbol> {
        if window.keeps_length() {
            return Some(from);
        }
        self.derived.iter().find(|d| d.from == from && d.window == *window).map(|d| d.symbol)
    }

    /// Whether the value of `symbol` follows from the sequences of the batch; see [`Graph::windowed`].
    pub fn is_derived(&self, symbol: Symbol) -> bool {
        self.derived.iter().any(|d| d.symbol == symbol)
    }

    /// Rows under `symbol` of a sequence that has `len` rows in the batch.
    pub fn sequence_len(&self, symbol: Symbol, len: usize) -> usize {
        match self.derived.iter().find(|d| d.symbol == symbol) {
            Some(derived) => derived.window.output_len(self.sequence_len(derived.from, len)),
            None => len,
        }
    }

    /// `bindings` with the values of derived symbols, for sequences of the given lengths.
    ///
    /// # Errors
    /// If there are not as many bindings as symbols, or a value overflows.
    pub fn bind_derived(&self, bindings: &[usize], lens: &[usize]) -> Result<Vec<usize>, IrError> {
        if bindings.len() != self.symbols.len() {
            let what = format!("{} values for {} symbols", bindings.len(), self.symbols.len());
            return Err(IrError::Window { what });
        }
        let mut bindings = bindings.to_vec();
        for derived in &self.derived {
            let mut lens = lens.iter().map(|&len| self.sequence_len(derived.symbol, len));
            let rows = lens.try_fold(0usize, usize::checked_add);
            bindings[derived.symbol.0 as usize] =
                rows.ok_or_else(|| IrError::Window { what: "more rows than can be counted".into() })?;
        }
        Ok(bindings)
    }

    /// Declares a named input.
    pub fn input(&mut self, name: &str, dtype: DType, shape: Shape) -> ValueId {
        let id = self.new_value(Value { dtype, shape });
        self.inputs.push((name.to_string(), id));
        self.nodes.push(Node { op: Op::Input, inputs: vec![], outputs: vec![id], label: name.to_string() });
        id
    }

    /// The parameter `name`, declared on first use.
    ///
    /// # Errors
    /// If the name is known with another shape.
    pub fn param(&mut self, name: &str, shape: &[usize]) -> Result<ParamId, IrError> {
        if let Some(&id) = self.param_ids.get(name) {
            let first = &self.params[id.index()].shape;
            if first != shape {
                let (first, second) = (first.clone(), shape.to_vec());
                return Err(IrError::ParamShape { name: name.to_string(), first, second });
            }
            return Ok(id);
        }
        let id = ParamId(self.params.len() as u32);
        self.params.push(Param { name: name.to_string(), shape: shape.to_vec() });
        self.param_ids.insert(name.to_string(), id);
        Ok(id)
    }

    /// Declares a KV cache.
    pub fn cache(&mut self, cache: Cache) -> CacheId {
        self.caches.push(cache);
        CacheId(self.caches.len() as u32 - 1)
    }

    /// Declares the keys and values of one layer in the cross KV cache. The graphs that share a cache declare the same, in one order.
    pub fn cross_kv(&mut self, kv: CrossKv) -> CrossKvId {
        self.cross_kvs.push(kv);
        CrossKvId(self.cross_kvs.len() as u32 - 1)
    }

    /// Appends a node; its results' shapes are inferred.
    ///
    /// # Errors
    /// If the operands do not fit the op.
    pub fn push(&mut self, op: Op, inputs: &[ValueId], label: &str) -> Result<Vec<ValueId>, IrError> {
        let values =
            infer(self, &op, inputs).map_err(|what| IrError::Node { label: label.to_string(), op: op.name(), what })?;
        let outputs: Vec<ValueId> = values.into_iter().map(|value| self.new_value(value)).collect();
        self.nodes.push(Node { op, inputs: inputs.to_vec(), outputs: outputs.clone(), label: label.to_string() });
        Ok(outputs)
    }

    /// Names a value as an output.
    pub fn output(&mut self, name: &str, value: ValueId) {
        self.outputs.push((name.to_string(), value));
    }

    fn new_value(&mut self, value: Value) -> ValueId {
        self.values.push(value);
        ValueId(self.values.len() as u32 - 1)
    }

    /// Replaces the nodes by others over the same values; a pass that rewrites the graph ends with this.
    ///
    /// # Errors
    /// If the result does not verify.
    pub fn with_nodes(mut self, nodes: Vec<Node>) -> Result<Graph, IrError> {
        self.nodes = nodes;
        self.verify()?;
        Ok(self)
    }

    /// Names of the symbols, in the order of their bindings; derived ones are among them.
    pub fn symbols(&self) -> &[String] {
        &self.symbols
    }

    /// All parameters, indexed by [`ParamId`].
    pub fn params(&self) -> &[Param] {
        &self.params
    }

    /// Elements of parameters that one token is multiplied with; see [`Op::per_token`].
    pub fn parameters_per_token(&self) -> usize {
        let elements = |id: ParamId| self.param_info(id).shape.iter().product::<usize>();
        self.nodes.iter().map(|node| node.op.per_token(node.op.params().into_iter().map(elements).sum())).sum()
    }

    /// The parameter `id`.
    pub fn param_info(&self, id: ParamId) -> &Param {
        &self.params[id.index()]
    }

    /// All KV caches, indexed by [`CacheId`].
    pub fn caches(&self) -> &[Cache] {
        &self.caches
    }

    /// All layers of the cross KV cache, indexed by [`CrossKvId`].
    pub fn cross_kvs(&self) -> &[CrossKv] {
        &self.cross_kvs
    }

    /// All values, indexed by [`ValueId`].
    pub fn values(&self) -> &[Value] {
        &self.values
    }

    /// The value `id`.
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.index()]
    }

    /// The nodes in execution order.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Named inputs in the order of their declaration.
    pub fn inputs(&self) -> &[(String, ValueId)] {
        &self.inputs
    }

    /// Named outputs in the order of their declaration.
    pub fn outputs(&self) -> &[(String, ValueId)] {
        &self.outputs
    }

    /// How many nodes read each value; outputs of the graph count as one more.
    pub fn use_counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.values.len()];
        for id in self.nodes.iter().flat_map(|node| &node.inputs).chain(self.outputs.iter().map(|(_, id)| id)) {
            counts[id.index()] += 1;
        }
        counts
    }
}
