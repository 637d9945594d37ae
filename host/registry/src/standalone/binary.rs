//! The program in a standalone image: a static ELF binary, and the platform that it is for.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, bail, ensure};
use object::Endianness;
use object::elf::{EM_AARCH64, EM_X86_64, FileHeader64, PT_INTERP};
use object::read::elf::{FileHeader, ProgramHeader};

use super::payload;

/// A platform in OCI notation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Platform {
    Amd64,
    Arm64,
}

impl Platform {
    /// The architecture in OCI notation.
    pub fn architecture(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// Whether this program can compile components for it.
    pub fn is_this_machines(self) -> bool {
        self.architecture() == crate::platform::architecture()
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "linux/{}", self.architecture())
    }
}

/// A binary as the command line names it: `PATH`, or `PLATFORM=PATH`.
#[derive(Clone, Debug)]
pub struct BinaryPath {
    platform: Option<Platform>,
    path: PathBuf,
}

impl FromStr for BinaryPath {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (platform, path) = match text.split_once('=') {
            Some(("linux/amd64", path)) => (Some(Platform::Amd64), path),
            Some(("linux/arm64", path)) => (Some(Platform::Arm64), path),
            Some((platform, _)) if platform.starts_with("linux/") => {
                bail!(
                    "{platform:?} is not a platform that Spotter supports: use linux/amd64 or linux/arm64"
                )
            }
            _ => (None, text),
        };
        Ok(Self { platform, path: path.into() })
    }
}

/// A program for one platform.
pub struct Binary {
    pub platform: Platform,
    /// Without the detector that a released `spotter` carries.
    pub bytes: Vec<u8>,
    /// Whether it is the program that runs now.
    pub is_this_program: bool,
    linkage: Linkage,
}

impl Binary {
    /// Reads the static binaries, or this program's own if none are named: one for each platform.
    ///
    /// # Errors
    /// If a file is not a static binary for Linux, is not for the platform before its path, or two are for the same
    /// one.
    pub fn read_static(paths: &[BinaryPath]) -> anyhow::Result<Vec<Self>> {
        if paths.is_empty() {
            let path = std::env::current_exe().context("cannot find this program's own file")?;
            return Self::read_static(&[BinaryPath { platform: None, path }]);
        }
        Self::read_checked(paths, |binary, path| {
            ensure!(
                binary.linkage == Linkage::Static,
                "{} needs shared libraries, which the image would lack: name a static binary with \
                 `--binary PATH`. Releases of Spotter are static; to build one, run `cargo build --release --package \
                 spotter --target x86_64-unknown-linux-musl`",
                path.display()
            );
            Ok(())
        })
    }

    /// Reads programs in their order: at most one for each platform, static or not.
    ///
    /// # Errors
    /// If a file is not a program for Linux, is not for the platform before its path, or two are for the same one.
    pub fn read_all(paths: &[BinaryPath]) -> anyhow::Result<Vec<Self>> {
        Self::read_checked(paths, |_, _| Ok(()))
    }

    fn read_checked(
        paths: &[BinaryPath],
        check: impl Fn(&Self, &Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<Vec<Self>> {
        let mut binaries: Vec<Self> = Vec::new();
        for BinaryPath { platform, path } in paths {
            let binary = Self::read(path)?;
            check(&binary, path)?;
            let (found, path) = (binary.platform, path.display());
            if let Some(wanted) = platform {
                ensure!(found == *wanted, "{path} is a binary for {found}, not for {wanted}");
            }
            let is_new = binaries.iter().all(|other| other.platform != found);
            ensure!(is_new, "{path} is the second binary for {found}: name one for each platform");
            binaries.push(binary);
        }
        Ok(binaries)
    }

    fn read(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        let bytes = std::fs::read(path).with_context(|| format!("cannot read {shown}"))?;
        let (platform, linkage) =
            inspect(&bytes).with_context(|| format!("{shown} is not a program for Linux"))?;
        let this_program = std::env::current_exe().and_then(|program| program.canonicalize());
        let is_this_program =
            this_program.ok().is_some_and(|this| path.canonicalize().ok() == Some(this));
        Ok(Self { platform, bytes: payload::without(bytes), is_this_program, linkage })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Linkage {
    Static,
    /// The system's loader loads its libraries.
    Dynamic,
}

fn inspect(bytes: &[u8]) -> anyhow::Result<(Platform, Linkage)> {
    let header = FileHeader64::<Endianness>::parse(bytes)?;
    let endian = header.endian()?;
    let platform = match header.e_machine(endian) {
        EM_X86_64 => Platform::Amd64,
        EM_AARCH64 => Platform::Arm64,
        other => {
            bail!("it is for the ELF machine number {other}; only amd64 and arm64 are supported")
        }
    };
    let has_loader = header
        .program_headers(endian, bytes)?
        .iter()
        .any(|segment| segment.p_type(endian) == PT_INTERP);
    Ok((platform, if has_loader { Linkage::Dynamic } else { Linkage::Static }))
}

#[cfg(test)]
mod tests {
    use super::{BinaryPath, Linkage, Platform, inspect};

    #[test]
    fn a_program_that_needs_a_loader_is_told_from_a_static_one() {
        // The header of a 64-bit little-endian ELF file for x86-64, with one program header.
        let elf = |kind: u8| {
            let mut bytes = vec![0_u8; 120];
            bytes[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
            (bytes[16], bytes[18], bytes[20]) = (3, 62, 1);
            (bytes[32], bytes[52], bytes[54], bytes[56]) = (64, 64, 56, 1);
            bytes[64] = kind;
            bytes
        };
        assert_eq!(inspect(&elf(1)).unwrap(), (Platform::Amd64, Linkage::Static));
        assert_eq!(inspect(&elf(3)).unwrap(), (Platform::Amd64, Linkage::Dynamic));
        assert!(inspect(b"#!/bin/sh\n").is_err());
        let mut other = elf(1);
        other[18] = 243;
        assert!(inspect(&other).unwrap_err().to_string().contains("243"));
    }

    #[test]
    fn a_platform_may_stand_before_the_path() {
        let parsed: BinaryPath = "linux/arm64=bin/spotter".parse().unwrap();
        assert_eq!(parsed.platform, Some(Platform::Arm64));
        assert_eq!(parsed.path.to_str(), Some("bin/spotter"));
        let parsed: BinaryPath = "a=b/spotter".parse().unwrap();
        assert_eq!((parsed.platform, parsed.path.to_str()), (None, Some("a=b/spotter")));
        assert!("linux/riscv64=a".parse::<BinaryPath>().is_err());
    }
}
