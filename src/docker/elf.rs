//! Suitability of the operator's program for containers of other images: it must be built for the engine's architecture
//! and linked statically.

/// Properties of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Program {
    /// Number of its architecture in its header; `None` if it is not a 64-bit little-endian ELF file.
    machine: Option<u16>,
    /// True if it names a dynamic linker, which other images do not contain.
    is_dynamic: bool,
}

/// Type of the program header that names a dynamic linker.
const PT_INTERP: u32 = 3;
/// ELF magic, 64 bit, little-endian.
const START: [u8; 6] = [0x7f, b'E', b'L', b'F', 2, 1];

impl Program {
    /// Reads the properties from the content of an ELF file.
    pub fn of(file: &[u8]) -> Self {
        Self { machine: number(file, 18).filter(|_| file.starts_with(&START)), is_dynamic: is_dynamic(file) }
    }
}

fn number(file: &[u8], at: usize) -> Option<u16> {
    let bytes = file.get(at..at.checked_add(2)?)?;
    Some(u16::from_le_bytes(bytes.try_into().ok()?))
}

fn is_dynamic(file: &[u8]) -> bool {
    let (Some(size), Some(count)) = (number(file, 54), number(file, 56)) else { return false };
    let table = file.get(32..40).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
    let Some(headers) = table.and_then(|at| file.get(usize::try_from(at).ok()?..)) else { return false };
    let interpreter = |header: &[u8]| header.get(..4) == Some(&PT_INTERP.to_le_bytes()[..]);
    headers.chunks(usize::from(size).max(1)).take(count.into()).any(interpreter)
}

/// Fails with the reason why the program cannot run in containers of an engine with this architecture. An unknown
/// architecture is not checked.
pub fn check(program: &Program, architecture: &str) -> Result<(), String> {
    let wanted = match architecture {
        "" => program.machine,
        "x86_64" | "amd64" => Some(62),
        "aarch64" | "arm64" => Some(183),
        _ => None,
    };
    if program.machine.is_none() || program.machine != wanted {
        let own = std::env::consts::ARCH;
        return Err(format!(
            "the operator is built for {own} and Docker runs on {architecture}; run an operator that is built for \
             {architecture}"
        ));
    }
    if program.is_dynamic {
        return Err("the operator is linked dynamically; run the statically linked one of its image".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ELF file for this machine with program headers of these types.
    fn file(machine: u16, types: &[u32]) -> Vec<u8> {
        let mut file = vec![0; 64];
        file[..6].copy_from_slice(&START);
        file[18..20].copy_from_slice(&machine.to_le_bytes());
        file[32..40].copy_from_slice(&64_u64.to_le_bytes());
        file[54..56].copy_from_slice(&56_u16.to_le_bytes());
        file[56..58].copy_from_slice(&u16::try_from(types.len()).unwrap().to_le_bytes());
        for kind in types {
            file.extend(kind.to_le_bytes());
            file.extend([0; 52]);
        }
        file
    }

    fn refusal(file: &[u8], architecture: &str) -> String {
        check(&Program::of(file), architecture).err().unwrap_or_default()
    }

    #[test]
    fn a_static_program_of_the_same_architecture_runs() {
        for (machine, name) in [(62, "x86_64"), (62, "amd64"), (183, "aarch64"), (62, "")] {
            assert_eq!(refusal(&file(machine, &[1, 2, 6]), name), "", "{machine} {name}");
        }
    }

    #[test]
    fn others_are_refused_with_the_reason() {
        for (machine, name) in [(62, "aarch64"), (183, "x86_64"), (62, "riscv64")] {
            let words = refusal(&file(machine, &[]), name);
            assert!(words.contains(&format!("Docker runs on {name}; run an operator")), "{words}");
        }
        assert!(refusal(&file(62, &[1, 3]), "x86_64").contains("linked dynamically"));
        for text in ["", "#!/bin/sh", "\u{7f}ELF"] {
            assert!(refusal(text.as_bytes(), "x86_64").contains("run an operator"), "{text:?}");
        }
    }

    #[test]
    fn the_program_of_these_tests_is_read() {
        let own = Program::of(&std::fs::read("/proc/self/exe").unwrap());
        assert!(own.machine.is_some());
    }
}
