//! Times a network by tract's own operators and by the kernels, in turn, and prints the time of each operator.
//!
//! ```text
//! network MODEL.onnx [RUNS]
//! ```

#![allow(
    clippy::print_stdout,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "a program for developers, whose output is a report"
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tract_onnx::prelude::*;

fn main() -> TractResult<()> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().expect("usage: network MODEL.onnx [RUNS]");
    let runs = arguments.next().map_or(20, |runs| runs.parse().unwrap());
    let model = tract_onnx::onnx().model_for_path(&path)?.into_typed()?;
    let stock = model.clone().into_optimized()?.into_runnable()?;
    let ours = kernels::optimise(model)?.into_runnable()?;
    let (mut times, mut operators) = ([Vec::new(), Vec::new()], [BTreeMap::new(), BTreeMap::new()]);
    for _ in 0..runs {
        for (index, plan) in [&stock, &ours].into_iter().enumerate() {
            times[index].push(run(plan, &mut operators[index])?);
        }
    }
    for (name, index) in [("tract", 0), ("kernels", 1)] {
        times[index].sort();
        let median = times[index][runs / 2];
        println!("{name}: median {median:.1?}, minimum {:.1?}", times[index][0]);
        let mut rows: Vec<_> = operators[index].iter().collect();
        rows.sort_by_key(|(_, (time, _))| std::cmp::Reverse(*time));
        for (operator, (time, count)) in rows.iter().take(14) {
            let time = time.as_secs_f64() * 1e3 / runs as f64;
            println!("  {time:8.2} ms {:4}  {operator}", count / runs);
        }
    }
    Ok(())
}

/// Runs a network once on a grey picture, and adds the time of each node to its operator's.
fn run(
    plan: &Arc<TypedRunnableModel>,
    operators: &mut BTreeMap<String, (Duration, usize)>,
) -> TractResult<Duration> {
    let fact = plan.model().input_fact(0)?;
    let shape = fact.shape.as_concrete().unwrap();
    let input = Tensor::zero_dt(fact.datum_type, shape)?;
    let mut state = plan.spawn()?;
    let started = Instant::now();
    state.run_plan_with_eval(tvec!(input.into()), |context, state, node, inputs| {
        let started = Instant::now();
        let result = tract_onnx::tract_core::plan::eval(context, state, node, inputs);
        let (time, count) = operators.entry(node.op().name().to_string()).or_default();
        *time += started.elapsed();
        *count += 1;
        result
    })?;
    Ok(started.elapsed())
}
