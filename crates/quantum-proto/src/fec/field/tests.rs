use super::{inverse, multiply, multiply_accumulate, scale};

/// Schoolbook: shift, add, reduce.
fn product(mut left: u8, mut right: u8) -> u8 {
    let mut sum = 0;
    while right != 0 {
        if right & 1 == 1 {
            sum ^= left;
        }
        let carry = left & 0x80 != 0;
        left <<= 1;
        if carry {
            left ^= 0x1d;
        }
        right >>= 1;
    }
    sum
}

#[test]
fn products_are_those_of_the_schoolbook() {
    for left in 0..=255 {
        for right in 0..=255 {
            assert_eq!(multiply(left, right), product(left, right));
        }
    }
}

#[test]
fn inverses_multiply_to_one() {
    assert_eq!(inverse(0), 0);
    for of in 1..=255 {
        assert_eq!(multiply(of, inverse(of)), 1);
    }
}

#[test]
fn scaling_is_multiplication() {
    for coefficient in 0..=255 {
        let mut bytes = [0, 1, 2, 0x80, 0xff];
        scale(&mut bytes, coefficient);
        let wanted = [0, 1, 2, 0x80, 0xff].map(|it| product(it, coefficient));
        assert_eq!(bytes, wanted);
    }
}

#[test]
fn any_coefficient_and_length_adds_products() {
    for coefficient in 0..=255 {
        for len in lengths() {
            let (mut target, source) = sample(len);
            let wanted = sum(&target, &source, coefficient);
            multiply_accumulate(&mut target, &source, coefficient);
            assert_eq!(target, wanted, "coefficient {coefficient}, length {len}");
        }
    }
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[test]
fn every_kernel_of_this_processor_agrees() {
    for kernel in super::vector::available().into_iter().flatten() {
        for coefficient in 0..=255 {
            for len in lengths() {
                let (mut target, source) = sample(len);
                let wanted = sum(&target, &source, coefficient);
                super::vector::run(kernel, &mut target, &source, coefficient);
                assert_eq!(
                    target, wanted,
                    "{kernel:?}, coefficient {coefficient}, {len}"
                );
            }
        }
    }
}

#[test]
fn the_longer_one_keeps_its_rest() {
    let mut long = [7; 40];
    multiply_accumulate(&mut long, &[1; 33], 3);
    assert_eq!(long[..33], [7 ^ 3; 33]);
    assert_eq!(long[33..], [7; 7]);
    let mut short = [7; 5];
    multiply_accumulate(&mut short, &[1; 40], 3);
    assert_eq!(short, [7 ^ 3; 5]);
}

fn sum(target: &[u8], source: &[u8], coefficient: u8) -> Vec<u8> {
    let pairs = target.iter().zip(source);
    pairs
        .map(|(target, source)| target ^ product(*source, coefficient))
        .collect()
}

/// All small ones, then around the widths of vectors.
fn lengths() -> impl Iterator<Item = usize> {
    (0..=5).chain([15, 16, 17, 31, 32, 33, 47, 63, 65, 259])
}

/// Every value of a byte occurs, at changing places.
fn sample(len: usize) -> (Vec<u8>, Vec<u8>) {
    let target = (0..len).map(|at| (at * 29 + 3) as u8).collect();
    let source = (0..len).map(|at| (at * 7 + len) as u8).collect();
    (target, source)
}
