//! What compiled networks tell of themselves: plans, and times per step.

use rlx_runtime::{Executable, StepProfile};

use crate::CoreError;

/// What a call is to record of the networks that it runs, and what it has recorded.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// Record times per step.
    pub profile: bool,
    /// Record plans.
    pub explain: bool,
    /// What was recorded, in the order in which the networks ran.
    pub networks: Vec<TracedNetwork>,
}

/// What was recorded of a network.
#[derive(Clone, Debug, PartialEq)]
pub struct TracedNetwork {
    /// What the network is of its model: `decoder`.
    pub name: String,
    /// The plan for the sizes that it ran with, if it was to be recorded.
    pub plan: Option<String>,
    /// Times per step over all its runs; none if they were not to be recorded.
    pub profile: Vec<StepProfile>,
}

impl Trace {
    /// Records a network, if anything is to be recorded. `symbols` are the values of its graph's symbols in its largest run.
    ///
    /// # Errors
    /// As [`explain`].
    pub fn add(
        &mut self,
        name: &str,
        executable: &dyn Executable,
        symbols: &[(&str, usize)],
        profile: Vec<StepProfile>,
    ) -> Result<(), CoreError> {
        if self.profile || self.explain {
            let plan = self.explain.then(|| explain(executable, symbols)).transpose()?;
            self.networks.push(TracedNetwork { name: name.to_string(), plan, profile });
        }
        Ok(())
    }
}

/// The plan of a compiled graph for these values of its symbols, by name; those that are not named are 1.
///
/// # Errors
/// Those of the device.
pub fn explain(executable: &dyn Executable, symbols: &[(&str, usize)]) -> Result<String, CoreError> {
    let value = |name: &String| symbols.iter().find(|(symbol, _)| symbol == name).map_or(1, |&(_, value)| value);
    let bindings: Vec<usize> = executable.graph().symbols().iter().map(value).collect();
    Ok(executable.explain(&bindings)?)
}
