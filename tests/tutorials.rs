//! The tutorials, executed as written, in an empty directory and a network namespace.
//!
//! The shell blocks of a page run in order, in one `bash` session. A block with a title is a file
//! of that name. A block below `<!-- not run: REASON -->` is skipped.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bty_tests::command::{Outcome, bty_path};
use bty_tests::netns::Netns;

/// A code block of a page.
struct Block {
    /// `sh`, `rhai`, `python`, `toml`.
    language: String,
    /// Name of the file, for a block that is a file.
    title: Option<String>,
    /// Why the test skips it.
    not_run: Option<String>,
    text: String,
}

/// The root of the repository.
fn tree() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

fn blocks(page: &str) -> Vec<Block> {
    let (mut blocks, mut lines, mut before) = (Vec::new(), page.lines(), "");
    while let Some(line) = lines.next() {
        if let Some(info) = line.strip_prefix("```") {
            let text: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            let title = info.split_once("title=\"").and_then(|(_, rest)| rest.split_once('"'));
            blocks.push(Block {
                language: info.split(' ').next().unwrap_or_default().to_owned(),
                title: title.map(|(title, _)| title.to_owned()),
                not_run: before.strip_prefix("<!-- not run: ").map(str::to_owned),
                text: text.join("\n") + "\n",
            });
        }
        before = line;
    }
    blocks
}

/// Joins all blocks into one script, which creates the files at their places between the commands.
fn script(blocks: &[Block]) -> String {
    let mut script = "set -eu\ntrap 'kill $(jobs -p) 2>/dev/null || :' EXIT\n".to_owned();
    for block in blocks.iter().filter(|block| block.not_run.is_none()) {
        match &block.title {
            Some(title) => write!(script, "cat >'{title}' <<'=END='\n{}=END=\n", block.text),
            None => write!(script, "set -x\n{}{{ set +x; }} 2>/dev/null\n", must_fail(&block.text)),
        }
        .unwrap();
    }
    script
}

/// Makes lines that begin with `! ` fail the script if they succeed, which `set -e` ignores.
fn must_fail(text: &str) -> String {
    let line = |line: &str| match line.strip_prefix("! ") {
        Some(command) => format!("if {command}; then echo 'it must fail' >&2; exit 1; fi\n"),
        None => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

/// Puts the Python module of this build into a directory for `PYTHONPATH`.
fn python_module(dir: &Path, programs: &Path) {
    let module = dir.join("bty");
    fs::create_dir_all(&module).unwrap();
    for entry in fs::read_dir(tree().join("bty-py/python/bty")).unwrap().map(Result::unwrap) {
        if entry.path().extension().is_some_and(|extension| extension == "py") {
            fs::copy(entry.path(), module.join(entry.file_name())).unwrap();
        }
    }
    fs::copy(programs.join("lib_bty.so"), module.join("_bty.abi3.so")).unwrap();
}

fn follow(name: &str) {
    let page = fs::read_to_string(tree().join("docs/tutorials").join(name)).unwrap();
    let blocks = blocks(&page);
    let dir = tempfile::tempdir().unwrap();
    let (work, modules) = (dir.path().join("work"), dir.path().join("modules"));
    fs::create_dir(&work).unwrap();
    let bty = bty_path();
    let programs = bty.parent().unwrap();
    if blocks.iter().any(|block| block.language == "python") {
        python_module(&modules, programs);
    }
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let output = Netns::new().run(|| {
        Command::new("bash")
            .args(["-c", &script(&blocks)])
            .current_dir(&work)
            .env_clear()
            .envs([("PATH", path.as_str()), ("HOME", work.to_str().unwrap())])
            .envs([("PYTHONPATH", modules.to_str().unwrap()), ("LC_ALL", "C.UTF-8")])
            .stdin(Stdio::null())
            .output()
    });
    let _ = Outcome::from(output.unwrap()).expect(0);
}

#[test]
fn first_stick() {
    follow("first-stick.md");
}

#[test]
fn first_rack() {
    follow("first-rack.md");
}

#[test]
fn first_script() {
    follow("first-script.md");
}

#[test]
fn first_python() {
    follow("first-python.md");
}

/// At most a quarter of the blocks: installation, and commands for real hardware.
#[test]
fn few_blocks_are_not_run_and_each_says_why() {
    for name in ["first-stick.md", "first-rack.md", "first-script.md", "first-python.md"] {
        let page = fs::read_to_string(tree().join("docs/tutorials").join(name)).unwrap();
        let blocks = blocks(&page);
        let left_out = blocks.iter().filter(|block| block.not_run.is_some()).count();
        assert!(left_out * 4 <= blocks.len(), "{name} leaves out {left_out} of {}", blocks.len());
    }
}
