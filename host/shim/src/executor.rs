//! Runs the content of a container: the function's server, or a Linux program.

use libcontainer::workload::default::DefaultExecutor;
use libcontainer::workload::{Executor, ExecutorError, ExecutorValidationError};
use oci_spec::runtime::Spec;

use super::plan::Program;
use spotter_up::pod;

impl Executor for Program {
    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        match self {
            Self::Linux => DefaultExecutor {}.validate(spec),
            // The plan has already checked it.
            Self::Application(_) => Ok(()),
        }
    }

    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        match self {
            Self::Linux => DefaultExecutor {}.exec(spec),
            Self::Application(served) => {
                close_inherited_descriptors();
                std::process::exit(pod::serve(
                    &served.manifest,
                    &served.configuration,
                    &served.compiled,
                ))
            }
        }
    }
}

/// Closes the file descriptors inherited from the shim, such as its sockets. Other programs lose them on exec,
/// but this process never calls it.
fn close_inherited_descriptors() {
    let (limit, _) = rlimit::getrlimit(rlimit::Resource::NOFILE).unwrap_or((1024, 1024));
    let limit = i32::try_from(limit.min(1 << 16)).unwrap_or(1024);
    for descriptor in 3..limit {
        // Fails for those that are not open.
        let _ = nix::unistd::close(descriptor);
    }
}
