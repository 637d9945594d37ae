//! What runs in a container once it is made: the function's server, or a program of Linux.

use libcontainer::workload::default::DefaultExecutor;
use libcontainer::workload::{Executor, ExecutorError, ExecutorValidationError};
use oci_spec::runtime::Spec;

use super::plan::Program;
use crate::cli::pod;

impl Executor for Program {
    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        match self {
            Self::Linux => DefaultExecutor {}.validate(spec),
            // It was checked when it was planned.
            Self::Function(_) => Ok(()),
        }
    }

    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        match self {
            Self::Linux => DefaultExecutor {}.exec(spec),
            Self::Function(function) => std::process::exit(pod::serve(
                &function.manifest,
                &function.arguments,
                &function.compiled,
            )),
        }
    }
}
