//! The exit codes of the contract.

use std::process::ExitCode;

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All well.
    Well,
    /// Some items failed.
    SomeFailed,
    /// The command line cannot be understood.
    Usage,
    /// The configuration is wrong.
    Configuration,
    /// The broker or a provider cannot be reached.
    Unreachable,
    /// A fault of sharelink's own.
    Bug,
}

impl Exit {
    /// The number: the contract's, which are those of sysexits where sysexits has one.
    pub fn code(self) -> u8 {
        match self {
            Self::Well => 0,
            Self::SomeFailed => 1,
            Self::Usage => 2,
            Self::Configuration => 78,
            Self::Unreachable => 69,
            Self::Bug => 70,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
