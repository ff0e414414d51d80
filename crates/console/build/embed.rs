//! From folders of files to a table in Rust.

use std::fmt::Write;
use std::hash::{DefaultHasher, Hasher};
use std::path::{Path, PathBuf};
use std::{fs, io};

/// Writes the table of `root/market` and `root/console` to `target`. A file with a sibling
/// of the same name and `.gz` is embedded as that. `missing` says why these are the plain
/// pages, and takes the place of `{{missing}}` in them.
pub(crate) fn table(root: &Path, target: &Path, missing: Option<&str>) -> io::Result<()> {
    let mut text = format!("const BUILT: bool = {};\n", missing.is_none());
    for face in ["market", "console"] {
        let folder = root.join(face);
        writeln!(text, "static {}: &[File] = &[", face.to_uppercase()).map_err(io::Error::other)?;
        let mut files = files(&folder)?;
        files.sort();
        for path in &files {
            if let Some(line) = row(&folder, path, &files, missing, target)? {
                text.push_str(&line);
            }
        }
        text.push_str("];\n");
    }
    fs::write(target, text)
}

/// The row of one file; `None` for what is embedded with another file, or not served.
fn row(
    folder: &Path,
    path: &Path,
    all: &[PathBuf],
    missing: Option<&str>,
    target: &Path,
) -> io::Result<Option<String>> {
    let name = path.strip_prefix(folder).map_err(io::Error::other)?;
    let name = name.to_string_lossy().replace('\\', "/");
    if name.ends_with(".gz") || name.ends_with(".map") {
        return Ok(None);
    }
    let packed = PathBuf::from(format!("{}.gz", path.display()));
    let gzip = all.binary_search(&packed).is_ok();
    let mut source = if gzip { packed } else { path.to_owned() };
    if let Some(missing) = missing
        && name.ends_with(".html")
    {
        let page = fs::read_to_string(path)?.replace("{{missing}}", missing);
        let face = folder.file_name().unwrap_or_default().to_string_lossy();
        source = target.with_file_name(format!("plain-{face}-{name}"));
        fs::write(&source, page)?;
    }
    let mut hasher = DefaultHasher::new();
    hasher.write(&fs::read(&source)?);
    let tag = format!("\"{:016x}\"", hasher.finish());
    // The names of these files hold a hash of what is in them.
    let immutable = name.starts_with("assets/");
    Ok(Some(format!(
        "    File {{ name: {name:?}, bytes: include_bytes!({source:?}), gzip: {gzip}, \
         content_type: {:?}, etag: {tag:?}, immutable: {immutable} }},\n",
        content_type(&name),
    )))
}

/// All files below a folder.
pub(crate) fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    Ok(found)
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next().unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "json" => "application/json",
        "txt" => "text/plain; charset=utf-8",
        "wasm" => "application/wasm",
        _ => "application/octet-stream",
    }
}
