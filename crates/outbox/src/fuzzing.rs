//! Ways in for fuzz targets.

/// Reads `bytes` as a segment of the log on disk, as a recovery does: from the start, and from
/// everywhere something plausible stands. `reseal` makes checksums right first, so that what is
/// behind them is reached. Returns how many records were taken in.
pub fn segment(bytes: &[u8], reseal: bool) -> usize {
    crate::disk::fuzzing::segment(bytes, reseal)
}

/// Reads a page as one of the manifest; whether it is valid.
pub fn manifest(page: &[u8]) -> bool {
    crate::disk::fuzzing::manifest(page)
}
