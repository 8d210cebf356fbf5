//! Changes of real inputs into such as nobody wrote.

use crate::support::model::lab::Chance;

/// What parsers of text and of numbers stumble over.
const WORDS: [&str; 44] = [
    "{",
    "}",
    "[",
    "]",
    "\"",
    "'",
    ":",
    ": ",
    ",",
    "- ",
    "---\n",
    "...\n",
    "#",
    "&a ",
    "*a",
    "<<: *a",
    "!!binary ",
    "| \n",
    ">-\n",
    "\\",
    "\\u0000",
    "\\ud800",
    "\u{0}",
    "\r",
    "\n",
    "\t",
    " ",
    "\u{feff}",
    "é",
    "\u{2028}",
    "%00",
    "..",
    "/",
    "=",
    "null",
    "true",
    "-1",
    "0",
    "18446744073709551616",
    "1e999",
    "NaN",
    "9999-12-30T22:00:00Z",
    "-009999-01-01T00:00:00Z",
    "255.255.255.255",
];

fn range(chance: &mut Chance, length: usize) -> std::ops::Range<usize> {
    let start = chance.below(length + 1);
    let most = [4, 32, length][chance.below(3)].min(length - start);
    start..start + chance.below(most + 1)
}

/// Changes the bytes a few times, and keeps them below `most`.
pub fn mutate(chance: &mut Chance, seeds: &[Vec<u8>], most: usize) -> Vec<u8> {
    let mut bytes = seeds[chance.below(seeds.len())].clone();
    for _ in 0..1 + chance.below(6) {
        let at = range(chance, bytes.len());
        match chance.below(11) {
            0 => bytes.truncate(at.start),
            1 => drop(bytes.drain(at)),
            2 => {
                let copy = bytes[at.clone()].to_vec();
                bytes.splice(at.end..at.end, copy);
            }
            3 => bytes[at].iter_mut().for_each(|byte| *byte ^= 1 << chance.below(8)),
            4 => {
                let word = WORDS[chance.below(WORDS.len())];
                bytes.splice(at, word.bytes());
            }
            // Nesting: of brackets, of lists and of maps in lines of their own.
            5 => {
                let times = [10, 100, 2000][chance.below(3)];
                let deep = match chance.below(5) {
                    0 => "[".repeat(times),
                    1 => r#"{"a":"#.repeat(times),
                    2 => "- ".repeat(times),
                    3 => (0..times.min(300)).map(|i| format!("{}a:\n", " ".repeat(i))).collect(),
                    _ => format!("{}{}", "[".repeat(times), "]".repeat(times)),
                };
                bytes.splice(at.start..at.start, deep.bytes());
            }
            // A long word, a long line, many lines.
            6 => {
                let word = WORDS[chance.below(WORDS.len())];
                let piece = if word.len() > 2 || coin(chance) { word.repeat(500) } else { "x".repeat(5000) };
                bytes.splice(at.start..at.start, piece.bytes());
            }
            // A part over and over.
            7 => {
                let part = bytes[at.clone()].to_vec();
                let times = if part.is_empty() { 0 } else { chance.below(20_000 / part.len() + 2) };
                bytes.splice(at.end..at.end, part.repeat(times));
            }
            8 => {
                let other = &seeds[chance.below(seeds.len())];
                let part = other[range(chance, other.len())].to_vec();
                bytes.splice(at, part);
            }
            // The next number becomes another one.
            9 => {
                let digit = bytes[at.start..].iter().position(u8::is_ascii_digit).map(|i| at.start + i);
                if let Some(start) = digit {
                    let length = bytes[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
                    let number =
                        ["0", "4294967296", "9223372036854775807", "99999999999999999999"][chance.below(4)];
                    bytes.splice(start..start + length, number.bytes());
                }
            }
            _ => {
                let noise: Vec<u8> = (0..chance.below(64)).map(|_| chance.below(256) as u8).collect();
                bytes.splice(at, noise);
            }
        }
        bytes.truncate(most);
    }
    bytes
}

pub fn coin(chance: &mut Chance) -> bool {
    chance.below(2) == 0
}
