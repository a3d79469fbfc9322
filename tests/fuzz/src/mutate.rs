//! Bytes like other bytes: what the smoke run tries beside the corpus.

use crate::dice::Dice;

/// What parsers trip over.
const PIECES: &[&[u8]] = &[
    b"",
    b"\0",
    b"\xff\xfe",
    b"\xc3\x28",
    b"-",
    b"0",
    b"-1",
    b"9223372036854775807",
    b"99999999999999999999",
    b"1e999",
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b"\\",
    b"\\u0000",
    b"\n",
    b"=",
    b":",
    b"/",
    b"@",
    b"(",
    b")",
    b",",
    "é".as_bytes(),
    "🦀".as_bytes(),
    b"null",
    b"true",
];

/// `entry` with one to four places changed: cut, doubled, swapped for pieces of `PIECES`, or other bytes.
pub fn mutated(entry: &[u8], dice: &mut Dice<'_>) -> Vec<u8> {
    let mut bytes = entry.to_vec();
    for _ in 0..=dice.below(4) {
        let (a, b) = (dice.below(bytes.len() + 1), dice.below(bytes.len() + 1));
        let (from, to) = (a.min(b), a.max(b));
        match dice.below(5) {
            0 => {
                bytes.drain(from..to);
            }
            1 if bytes.len() < 20_000 => {
                let piece = bytes[from..to].to_vec();
                bytes.splice(to..to, piece);
            }
            2 => {
                if let Some(byte) = bytes.get_mut(from) {
                    *byte = u8::try_from(dice.below(256)).unwrap_or(0);
                }
            }
            _ => {
                let piece = dice.one(PIECES).copied().unwrap_or_default();
                let end = if dice.chance(50) {
                    to.min(from + 4)
                } else {
                    from
                };
                bytes.splice(from..end, piece.iter().copied());
            }
        }
    }
    bytes
}
