//! What Spotter does apart from serving: a fresh instance, and the same code compiled natively.

use std::time::Instant;

use detector::options::Options;
use spotter_app::{App, LoadOptions};
use spotter_config::Limits;
use spotter_runtime::Runtime;
use spotter_runtime::limits::usage::Usage;
use spotter_tests::{native, root};

use crate::measure::milliseconds;

/// A figure that stands for itself.
pub type Row = (&'static str, String);

pub fn rows(picture: &[u8]) -> Vec<Row> {
    let mut rows = vec![instantiation()];
    rows.extend(native_rows(picture));
    rows
}

fn instantiation() -> Row {
    let limits = Limits::default();
    let app =
        App::load(&root().join("spin.toml"), &LoadOptions::default()).expect("an application");
    let mut runtime = Runtime::new(&limits, &app.options);
    runtime.load(&app.components["detector"], &app.nn_engine).expect("a component");
    let loaded = runtime.component("detector").expect("a component");
    let threads =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("tokio");
    let figures = (0..2000)
        .map(|_| {
            let store = loaded.store(&limits, Usage::start(), 0);
            let mut store = store.expect("a store");
            let began = Instant::now();
            threads.block_on(loaded.instantiate(&mut store)).expect("an instance");
            milliseconds(began) * 1000.0
        })
        .collect();
    ("A fresh instance, with the model in it", format!("{:.0} µs", median(figures)))
}

/// The same pipeline, compiled for this machine rather than for WebAssembly.
fn native_rows(picture: &[u8]) -> [Row; 3] {
    let began = Instant::now();
    let model = native::model();
    let loading = milliseconds(began);
    let options = Options::new(model.thresholds());
    let mut inference = Vec::new();
    let total = (0..60)
        .map(|_| {
            let (report, _) = detector::detect(&model, picture, &options).expect("detections");
            inference.push(report.timings_ms.inference);
            report.timings_ms.total
        })
        .collect();
    [
        ("The function as native code: loading the model", format!("{loading:.0} ms")),
        ("The function as native code: one detection", format!("{:.0} ms", median(total))),
        ("The function as native code: the network", format!("{:.0} ms", median(inference))),
    ]
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
