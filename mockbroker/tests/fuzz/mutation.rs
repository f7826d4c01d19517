//! Valid inputs made wrong where decoders are weak: counts, lengths, varints, tags, ends.

use fastrand::Rng;

/// Makes one to four changes to an input, some of them with a part of another one.
pub(crate) fn mutate(input: &[u8], other: &[u8], random: &mut Rng) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..random.usize(1..=4) {
        change(&mut bytes, other, random);
    }
    bytes.truncate(INPUT_BYTES_MAX);
    bytes
}

fn change(bytes: &mut Vec<u8>, other: &[u8], random: &mut Rng) {
    let at = random.usize(..=bytes.len());
    match random.u8(..9) {
        0 => overwrite(bytes, at, &[random.u8(..)]),
        1 => overwrite(
            bytes,
            at,
            &pick(&[0_i16, -1, -2, 1, i16::MAX, i16::MIN], random).to_be_bytes(),
        ),
        2 => overwrite(bytes, at, &pick(&NUMBERS, random).to_be_bytes()),
        3 => {
            let number = i64::from(pick(&NUMBERS, random));
            let number = pick(&[number, i64::MAX, i64::MIN], random);
            overwrite(bytes, at, &number.to_be_bytes());
        }
        4 => overwrite(bytes, at, pick(&VARINTS, random)),
        5 => bytes.truncate(at),
        6 => {
            let copied = part(bytes, random).to_vec();
            bytes.splice(at..at, copied);
        }
        7 => {
            let copied = part(other, random).to_vec();
            bytes.splice(at..at, copied);
        }
        _ => {
            let end = random.usize(at..=bytes.len());
            bytes.drain(at..end);
        }
    }
}

fn overwrite(bytes: &mut [u8], at: usize, with: &[u8]) {
    let places = bytes.iter_mut().skip(at);
    places.zip(with).for_each(|(place, byte)| *place = *byte);
}

fn pick<T: Copy>(choices: &[T], random: &mut Rng) -> T {
    choices[random.usize(..choices.len())]
}

fn part<'a>(bytes: &'a [u8], random: &mut Rng) -> &'a [u8] {
    let start = random.usize(..=bytes.len());
    let end = random.usize(start..=bytes.len().min(start + 200));
    &bytes[start..end]
}

/// Counts and lengths that a decoder could believe.
const NUMBERS: [i32; 9] = [0, -1, -2, 1, 100, 70_000, 1_000_001, i32::MAX, i32::MIN];

/// The same as varints, plain and zigzag, one of them without an end.
const VARINTS: [&[u8]; 6] = [
    &[0],
    &[1],
    &[0x80, 0x80, 0x80, 0x80, 0x08],
    &[0xff, 0xff, 0xff, 0xff, 0x0f],
    &[0xfe, 0xff, 0xff, 0xff, 0x0f],
    &[0xff; 11],
];

/// Inputs do not grow from round to round.
const INPUT_BYTES_MAX: usize = 64 * 1024;
