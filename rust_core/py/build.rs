//! Builds a digest of the Rust sources in, so that Python can refuse a binary older than them.
//!
//! `service/watchword/crypto.py` computes the same: SHA-256 over a line `path NUL sha256 LF` for
//! each file, in the order of the paths, which are relative to the root and written with `/`.

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("../..");
    let mut files = vec!["Cargo.toml".to_owned(), "Cargo.lock".to_owned()];
    find_sources(&root, "rust_core", &mut files)?;
    files.sort();
    let mut lines = String::new();
    for file in &files {
        let path = root.join(file);
        println!("cargo::rerun-if-changed={}", path.display());
        writeln!(lines, "{file}\0{}", hex(&fs::read(path)?)?)?;
    }
    // A folder is watched with everything in it: this notices files that come and go.
    println!(
        "cargo::rerun-if-changed={}",
        root.join("rust_core").display()
    );
    println!(
        "cargo::rustc-env=WATCHWORD_SOURCE_DIGEST={}",
        hex(lines.as_bytes())?
    );
    Ok(())
}

/// Adds `*.rs` and `Cargo.toml` below `folder`, but for what a build leaves in `target`.
fn find_sources(root: &Path, folder: &str, files: &mut Vec<String>) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(root.join(folder))? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_str().ok_or("a file name is not UTF-8")?;
        let path = format!("{folder}/{name}");
        if entry.file_type()?.is_dir() {
            if name != "target" {
                find_sources(root, &path, files)?;
            }
        } else if name == "Cargo.toml" || Path::new(name).extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

/// Gives SHA-256 in lower-case hex.
fn hex(content: &[u8]) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    for byte in Sha256::digest(content) {
        write!(text, "{byte:02x}")?;
    }
    Ok(text)
}
