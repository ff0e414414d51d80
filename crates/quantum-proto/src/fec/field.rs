//! GF(2^8) with the polynomial x^8 + x^4 + x^3 + x^2 + 1 (0x11D), and its one hot loop.
//!
//! Multiplication by a constant is linear over the bits of a byte, so a product is the sum of the
//! products of its two nibbles: sixteen-entry tables, which byte shuffles look up many at a time.
//! Where the processor has GFNI, the same map is one 8×8 bit matrix per constant.

/// The inverse; 0 has none and gives 0.
pub(super) const fn inverse(of: u8) -> u8 {
    match of {
        0 => 0,
        of => EXP[255 - LOG[of as usize] as usize],
    }
}

/// The product.
pub(super) const fn multiply(left: u8, right: u8) -> u8 {
    if left == 0 || right == 0 {
        return 0;
    }
    EXP[LOG[left as usize] as usize + LOG[right as usize] as usize]
}

/// Adds `coefficient` times `source` to `target`, byte by byte; what one of them has more of
/// than the other stays as it is.
pub(super) fn multiply_accumulate(target: &mut [u8], source: &[u8], coefficient: u8) {
    match coefficient {
        0 => {}
        1 => add(target, source),
        _ => vector::multiply_accumulate(target, source, coefficient),
    }
}

/// Multiplies every byte by `coefficient`.
pub(super) fn scale(target: &mut [u8], coefficient: u8) {
    if coefficient != 1 {
        for byte in target {
            *byte = multiply(*byte, coefficient);
        }
    }
}

/// Addition is XOR, which the compiler turns into vector instructions by itself.
fn add(target: &mut [u8], source: &[u8]) {
    for (target, source) in target.iter_mut().zip(source) {
        *target ^= source;
    }
}

fn scalar(target: &mut [u8], source: &[u8], coefficient: u8) {
    let table = &NIBBLES[usize::from(coefficient)];
    for (target, source) in target.iter_mut().zip(source) {
        let low = table[usize::from(source & 0x0f)];
        let high = table[16 + usize::from(source >> 4)];
        *target ^= low ^ high;
    }
}

#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "vector instructions are unsafe to name")]
mod vector {
    use std::arch::x86_64::{
        __m128i, __m256i, _mm_and_si128, _mm_loadu_si128, _mm_set1_epi8, _mm_shuffle_epi8,
        _mm_srli_epi64, _mm_storeu_si128, _mm_xor_si128, _mm256_and_si256,
        _mm256_broadcastsi128_si256, _mm256_gf2p8affine_epi64_epi8, _mm256_loadu_si256,
        _mm256_set1_epi8, _mm256_set1_epi64x, _mm256_shuffle_epi8, _mm256_srli_epi64,
        _mm256_storeu_si256, _mm256_xor_si256,
    };
    use std::sync::OnceLock;

    use super::{MATRICES, NIBBLES, scalar};

    /// What the processor can do, best first.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(super) enum Kernel {
        Gfni,
        Avx2,
        Ssse3,
        Scalar,
    }

    pub(super) fn multiply_accumulate(target: &mut [u8], source: &[u8], coefficient: u8) {
        static BEST: OnceLock<Kernel> = OnceLock::new();
        let kernel = BEST.get_or_init(|| {
            available()
                .into_iter()
                .flatten()
                .next()
                .unwrap_or(Kernel::Scalar)
        });
        run(*kernel, target, source, coefficient);
    }

    /// The kernels that this processor can run.
    pub(super) fn available() -> [Option<Kernel>; 4] {
        let avx2 = is_x86_feature_detected!("avx2");
        [
            (avx2 && is_x86_feature_detected!("gfni")).then_some(Kernel::Gfni),
            avx2.then_some(Kernel::Avx2),
            is_x86_feature_detected!("ssse3").then_some(Kernel::Ssse3),
            Some(Kernel::Scalar),
        ]
    }

    /// `kernel` must come from [`available`].
    pub(super) fn run(kernel: Kernel, target: &mut [u8], source: &[u8], coefficient: u8) {
        let len = target.len().min(source.len());
        let (target, source) = (&mut target[..len], &source[..len]);
        match kernel {
            // SAFETY: `available` has found GFNI and AVX2; both slices have the same length.
            Kernel::Gfni => unsafe { gfni(target, source, coefficient) },
            // SAFETY: `available` has found AVX2; both slices have the same length.
            Kernel::Avx2 => unsafe { avx2(target, source, coefficient) },
            // SAFETY: `available` has found SSSE3; both slices have the same length.
            Kernel::Ssse3 => unsafe { ssse3(target, source, coefficient) },
            Kernel::Scalar => scalar(target, source, coefficient),
        }
    }

    /// # Safety
    /// The processor has GFNI and AVX2, and `source` is as long as `target`.
    #[target_feature(enable = "gfni,avx2")]
    unsafe fn gfni(target: &mut [u8], source: &[u8], coefficient: u8) {
        let whole = target.len() & !31;
        let matrix = _mm256_set1_epi64x(MATRICES[usize::from(coefficient)].cast_signed());
        for at in (0..whole).step_by(32) {
            // SAFETY: `at + 32 ≤ whole` is within both slices; neither access wants alignment.
            unsafe {
                let to = target.as_mut_ptr().add(at).cast::<__m256i>();
                let from = _mm256_loadu_si256(source.as_ptr().add(at).cast());
                let product = _mm256_gf2p8affine_epi64_epi8::<0>(from, matrix);
                _mm256_storeu_si256(to, _mm256_xor_si256(_mm256_loadu_si256(to), product));
            }
        }
        scalar(&mut target[whole..], &source[whole..], coefficient);
    }

    /// # Safety
    /// The processor has AVX2, and `source` is as long as `target`.
    #[target_feature(enable = "avx2")]
    unsafe fn avx2(target: &mut [u8], source: &[u8], coefficient: u8) {
        let whole = target.len() & !31;
        let table = NIBBLES[usize::from(coefficient)].as_ptr();
        // SAFETY: a table has two halves of 16 bytes.
        let (low, high) = unsafe {
            (
                _mm256_broadcastsi128_si256(_mm_loadu_si128(table.cast())),
                _mm256_broadcastsi128_si256(_mm_loadu_si128(table.add(16).cast())),
            )
        };
        let nibble = _mm256_set1_epi8(0x0f);
        for at in (0..whole).step_by(32) {
            // SAFETY: `at + 32 ≤ whole` is within both slices; neither access wants alignment.
            unsafe {
                let to = target.as_mut_ptr().add(at).cast::<__m256i>();
                let from = _mm256_loadu_si256(source.as_ptr().add(at).cast());
                let below = _mm256_shuffle_epi8(low, _mm256_and_si256(from, nibble));
                let above = _mm256_and_si256(_mm256_srli_epi64::<4>(from), nibble);
                let product = _mm256_xor_si256(below, _mm256_shuffle_epi8(high, above));
                _mm256_storeu_si256(to, _mm256_xor_si256(_mm256_loadu_si256(to), product));
            }
        }
        scalar(&mut target[whole..], &source[whole..], coefficient);
    }

    /// # Safety
    /// The processor has SSSE3, and `source` is as long as `target`.
    #[target_feature(enable = "ssse3")]
    unsafe fn ssse3(target: &mut [u8], source: &[u8], coefficient: u8) {
        let whole = target.len() & !15;
        let table = NIBBLES[usize::from(coefficient)].as_ptr();
        // SAFETY: a table has two halves of 16 bytes.
        let (low, high) = unsafe {
            (
                _mm_loadu_si128(table.cast()),
                _mm_loadu_si128(table.add(16).cast()),
            )
        };
        let nibble = _mm_set1_epi8(0x0f);
        for at in (0..whole).step_by(16) {
            // SAFETY: `at + 16 ≤ whole` is within both slices; neither access wants alignment.
            unsafe {
                let to = target.as_mut_ptr().add(at).cast::<__m128i>();
                let from = _mm_loadu_si128(source.as_ptr().add(at).cast());
                let below = _mm_shuffle_epi8(low, _mm_and_si128(from, nibble));
                let above = _mm_and_si128(_mm_srli_epi64::<4>(from), nibble);
                let product = _mm_xor_si128(below, _mm_shuffle_epi8(high, above));
                _mm_storeu_si128(to, _mm_xor_si128(_mm_loadu_si128(to), product));
            }
        }
        scalar(&mut target[whole..], &source[whole..], coefficient);
    }
}

#[cfg(target_arch = "aarch64")]
#[expect(unsafe_code, reason = "vector instructions are unsafe to name")]
mod vector {
    use std::arch::aarch64::{
        vandq_u8, vdupq_n_u8, veorq_u8, vld1q_u8, vqtbl1q_u8, vshrq_n_u8, vst1q_u8,
    };

    use super::{NIBBLES, scalar};

    /// What the processor can do, best first. NEON belongs to every 64-bit ARM.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(super) enum Kernel {
        Neon,
        #[cfg(test)]
        Scalar,
    }

    pub(super) fn multiply_accumulate(target: &mut [u8], source: &[u8], coefficient: u8) {
        run(Kernel::Neon, target, source, coefficient);
    }

    /// The kernels that this processor can run.
    #[cfg(test)]
    pub(super) fn available() -> [Option<Kernel>; 2] {
        [Some(Kernel::Neon), Some(Kernel::Scalar)]
    }

    pub(super) fn run(kernel: Kernel, target: &mut [u8], source: &[u8], coefficient: u8) {
        let len = target.len().min(source.len());
        let (target, source) = (&mut target[..len], &source[..len]);
        match kernel {
            // SAFETY: NEON belongs to the architecture; both slices have the same length.
            Kernel::Neon => unsafe { neon(target, source, coefficient) },
            #[cfg(test)]
            Kernel::Scalar => scalar(target, source, coefficient),
        }
    }

    /// # Safety
    /// The processor has NEON, and `source` is as long as `target`.
    #[target_feature(enable = "neon")]
    unsafe fn neon(target: &mut [u8], source: &[u8], coefficient: u8) {
        let whole = target.len() & !15;
        let table = NIBBLES[usize::from(coefficient)].as_ptr();
        // SAFETY: a table has two halves of 16 bytes.
        let (low, high) = unsafe { (vld1q_u8(table), vld1q_u8(table.add(16))) };
        let nibble = vdupq_n_u8(0x0f);
        for at in (0..whole).step_by(16) {
            // SAFETY: `at + 16 ≤ whole` is within both slices.
            unsafe {
                let to = target.as_mut_ptr().add(at);
                let from = vld1q_u8(source.as_ptr().add(at));
                let below = vqtbl1q_u8(low, vandq_u8(from, nibble));
                let above = vqtbl1q_u8(high, vshrq_n_u8::<4>(from));
                vst1q_u8(to, veorq_u8(vld1q_u8(to), veorq_u8(below, above)));
            }
        }
        scalar(&mut target[whole..], &source[whole..], coefficient);
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod vector {
    pub(super) use super::scalar as multiply_accumulate;
}

/// The polynomial less x^8.
const POLYNOMIAL: u8 = 0x1d;

/// Powers of the generator 2, twice over so that sums of two logarithms need no reduction.
const EXP: [u8; 512] = {
    let mut table = [0; 512];
    let mut power: u8 = 1;
    let mut at = 0;
    while at < 512 {
        table[at] = power;
        power = double(power);
        at += 1;
    }
    table
};

/// Logarithms to the base 2; that of 0 is meaningless.
const LOG: [u8; 256] = {
    let mut table = [0; 256];
    let mut at = 0;
    while at < 255 {
        table[EXP[at] as usize] = at as u8;
        at += 1;
    }
    table
};

/// For each constant its products with 0 … 15, then those with 0x00, 0x10 … 0xf0.
static NIBBLES: [[u8; 32]; 256] = {
    let mut tables = [[0; 32]; 256];
    let mut constant = 0;
    while constant < 256 {
        let mut nibble = 0;
        while nibble < 16 {
            tables[constant][nibble] = multiply(constant as u8, nibble as u8);
            tables[constant][16 + nibble] = multiply(constant as u8, (nibble as u8) << 4);
            nibble += 1;
        }
        constant += 1;
    }
    tables
};

/// For each constant its multiplication as an 8×8 bit matrix: the row of the result's bit i is
/// byte 7 − i, as the instruction wants it.
#[cfg(target_arch = "x86_64")]
static MATRICES: [u64; 256] = {
    let mut matrices = [0; 256];
    let mut constant = 0;
    while constant < 256 {
        let mut column = 0;
        while column < 8 {
            let product = multiply(constant as u8, 1 << column);
            let mut row = 0;
            while row < 8 {
                if product >> row & 1 == 1 {
                    matrices[constant] |= 1 << ((7 - row) * 8 + column);
                }
                row += 1;
            }
            column += 1;
        }
        constant += 1;
    }
    matrices
};

const fn double(of: u8) -> u8 {
    let reduced = if of & 0x80 == 0 { 0 } else { POLYNOMIAL };
    (of << 1) ^ reduced
}

#[cfg(test)]
mod tests;
