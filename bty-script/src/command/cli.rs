//! The command line, as clap sees it.

use std::path::PathBuf;

use bty::digest::Sha512;
use bty::{Digest, size};
use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};

const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    the system failed
  2    usage
  3    refused by validation; nothing was written
  4    source: unreachable, truncated, unknown format
  5    integrity: a digest or the read-back differs
  6    target I/O
  7    the script: it does not compile, gave up, hit a limit; a finding, a failed test
  130  cancelled";

const EXAMPLES: &str = "\
Examples:
  bty                                            the wizard: image, disk, flash, reboot
  bty --catalog https://host/catalog.toml        the wizard with a catalog
  bty disks                                      what could be written to
  bty image debian.img.zst                       what is in an image
  bty image create /dev/sdb card.img.zst         make an image of a disk
  bty flash debian.img.zst serial:S3Z9NX0M       show the plan, ask, write, verify
  bty flash https://host/a.img.xz /dev/sdb --sha256 HEX --yes
  curl … | bty flash - /dev/sdb --yes            the image comes through a pipe
  bty flash boards.zip#rpi.img /dev/sdb          one of the images in an archive
  bty flash oras://registry/os/debian:13 /dev/nvme0n1 --fix-gpt
  bty flash debian.qcow2 vm.img --create=20G     make a virtual machine's disk
  bty verify debian.img.zst /dev/sdb             compare, write nothing
  bty run lab.rhai --dry-run --world rack.toml   what a script would do to a described machine
  bty repl                                       the same functions, at a prompt";

const RUN_EXAMPLES: &str = "\
Examples:
  bty run lab.rhai debian.img.zst                     ARGS[0] is the image
  bty run lab.rhai --dry-run                          what it would do here
  bty run lab.rhai --dry-run --world rack.toml        what it would do to a described machine
  bty run lab.rhai --json                             one JSON object a line
  bty run wizard.rhai                                 after: bty eject wizard";

/// Writes operating-system images onto disks, and proves it.
#[derive(Debug, Parser)]
#[command(name = "bty", version, max_term_width = 100, after_help = EXIT_CODES, after_long_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) verb: Option<Verb>,
    #[command(flatten)]
    pub(crate) start: Start,
    #[command(flatten)]
    pub(crate) network: Network,
}

/// What `bty` does without a verb.
#[derive(Args, Debug, Default)]
#[command(next_help_heading = "Without a verb: the wizard, or what a server wants")]
pub(crate) struct Start {
    /// Begin the wizard with this catalog (path, http(s):// or oras:// reference)
    #[arg(long, value_name = "SRC", value_parser = reference())]
    pub(crate) catalog: Option<String>,
    /// Do what the server has planned for the machine with this MAC address
    #[arg(long, value_name = "MAC", value_parser = mac)]
    pub(crate) mac: Option<String>,
    /// The server of --mac; http:// when no scheme is given
    #[arg(long, value_name = "URL", default_value = "bty-server:8080")]
    pub(crate) server: String,
    /// Say so instead of rebooting or switching off
    #[arg(long)]
    pub(crate) no_reboot: bool,
    /// When nothing is to be done: restart into the disk that bty has flashed, where UEFI knows it
    #[arg(long, requires = "mac")]
    pub(crate) boot_flashed: bool,
    /// Stand for a machine whose only disk is this file, with this serial number: to try a server
    /// without one
    #[arg(long, value_name = "FILE=SERIAL", value_parser = disk_file, requires = "mac")]
    pub(crate) disk_file: Option<(PathBuf, String)>,
    /// Token of the boot cycle; else the kernel command line has it
    #[arg(long, value_name = "TOKEN", requires = "mac")]
    pub(crate) cycle: Option<String>,
}

/// A path, an address or a name, as text: a path that is not UTF-8 becomes a `file://` address.
fn reference() -> impl TypedValueParser<Value = String> {
    OsStringValueParser::new().map(|argument| bty::text::argument(&argument))
}

fn disk_file(text: &str) -> Result<(PathBuf, String), String> {
    let parts =
        text.rsplit_once('=').filter(|(file, serial)| !file.is_empty() && !serial.is_empty());
    parts
        .map(|(file, serial)| (file.into(), serial.to_owned()))
        .ok_or_else(|| "write it as disk.img=SERIAL".to_owned())
}

fn login(text: &str) -> Result<(String, PathBuf), String> {
    let parts = text.split_once('=').filter(|(host, file)| !host.is_empty() && !file.is_empty());
    let (host, file) = parts.ok_or_else(|| "write it as images.example=FILE".to_owned())?;
    if host.contains(['/', '@']) {
        return Err("write only the host before the equals sign: images.example=FILE".to_owned());
    }
    Ok((host.to_owned(), file.into()))
}

fn mac(text: &str) -> Result<String, String> {
    bty_script::plan::canonical_mac(text).ok_or_else(|| "write it as 52:54:00:12:34:56".to_owned())
}

/// How web servers and registries are reached; proxies come from HTTP_PROXY, HTTPS_PROXY, ALL_PROXY
/// and NO_PROXY.
#[derive(Args, Debug)]
#[command(next_help_heading = "Network")]
pub(crate) struct Network {
    /// Trust this certificate too (PEM), of an authority or of one server; may be given several
    /// times
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) ca: Vec<PathBuf>,
    /// Log in at HOST (or HOST:PORT) as the first line of FILE says: user:password; may be given
    /// several times
    #[arg(long, global = true, value_name = "HOST=FILE", value_parser = login)]
    pub(crate) login: Vec<(String, PathBuf)>,
    /// Users and passwords of registries, as podman login writes them; default: the files of podman
    /// and docker
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) auth_file: Option<PathBuf>,
    /// Users and passwords of hosts; default: NETRC, else ~/.netrc
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) netrc: Option<PathBuf>,
    /// Look for users and passwords nowhere but in --login
    #[arg(long, global = true, conflicts_with_all = ["auth_file", "netrc"])]
    pub(crate) no_login_files: bool,
    /// Speak plain HTTP with OCI registries
    #[arg(long, global = true)]
    pub(crate) plain_http: bool,
    /// Where downloads go that need random access but cannot have it
    #[arg(long, global = true, value_name = "DIR", default_value = "/var/tmp")]
    pub(crate) spool_dir: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// List disks: size, model, serial, what is on them, who uses them
    Disks {
        /// One JSON object a disk
        #[arg(long)]
        json: bool,
    },
    /// Show what an image is, or make one of a disk
    #[command(
        args_conflicts_with_subcommands = true,
        subcommand_negates_reqs = true,
        disable_help_subcommand = true
    )]
    Image {
        #[command(subcommand)]
        action: Option<ImageAction>,
        /// Path, http(s):// or oras:// reference; - is stdin, ARCHIVE#NAME a file of a zip or tar
        /// archive
        #[arg(required = true, value_parser = reference())]
        src: Option<String>,
        /// Read all of it: exact sizes and its SHA-256
        #[arg(long)]
        full: bool,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// List the images in a directory
    Images {
        /// The directory
        #[arg(default_value = ".")]
        dir: PathBuf,
        /// One JSON object an image
        #[arg(long)]
        json: bool,
    },
    /// Show, check and write catalogs
    Catalog {
        #[command(subcommand)]
        action: CatalogAction,
    },
    /// Write an image to disks, and prove it
    #[command(after_help = EXIT_CODES)]
    Flash(Flash),
    /// Compare a disk with an image; writes nothing
    #[command(after_help = EXIT_CODES)]
    Verify(Verify),
    /// Run a script
    #[command(after_help = EXIT_CODES, after_long_help = format!("{RUN_EXAMPLES}\n\n{EXIT_CODES}"))]
    Run(Run),
    /// Say what is wrong with scripts, without running them
    ///
    /// Compiles them, and looks whether every function is there and takes so many values, and
    /// whether values that are compared can be compared. Exit code 7 when anything is wrong.
    Check {
        /// The scripts
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// One JSON object a finding
        #[arg(long)]
        json: bool,
    },
    /// Run the tests in *_test.rhai files, on described machines
    ///
    /// A test is a function test_… without parameters. Exit code 7 when one fails.
    Test {
        /// A directory, or one file
        #[arg(default_value = ".")]
        dir: PathBuf,
        /// One JSON object a test
        #[arg(long)]
        json: bool,
    },
    /// Type scripts line by line
    ///
    /// Without a terminal it reads lines from stdin: echo 'disks()' | bty repl
    Repl,
    /// Write out a bundled script, with those it is made of, to change it
    Eject {
        /// Its name: wizard, auto …
        name: String,
        /// Where to
        #[arg(default_value = ".")]
        dir: PathBuf,
        /// Replace files that are there
        #[arg(long)]
        force: bool,
    },
    /// Show the functions that scripts can call
    Docs {
        /// A function, module or type: disks, disks::only, Disk
        name: Option<String>,
        /// The whole reference as Markdown
        #[arg(long, conflicts_with = "name")]
        markdown: bool,
        /// Write .d.rhai definitions for editors to this directory
        #[arg(long, value_name = "DIR", conflicts_with_all = ["name", "markdown"])]
        definitions: Option<PathBuf>,
    },
    /// Write man pages
    Man {
        /// Where to
        dir: PathBuf,
    },
    /// Answer calls of scripts on stdin: what a server starts
    #[command(hide = true)]
    ScriptWorker,
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ImageAction {
    /// Make an image of a disk, and compare the two
    #[command(after_help = EXIT_CODES)]
    Create(CreateImage),
}

#[derive(Args, Debug)]
pub(crate) struct CreateImage {
    /// The disk: path, serial:…, wwn:… or where:…
    pub(crate) disk: String,
    /// The image, whose name tells the format: .img (raw, with holes), .img.zst or .qcow2
    pub(crate) out: PathBuf,
    /// Leave out what lies behind the last partition
    #[arg(long)]
    pub(crate) shrink: bool,
    /// One JSON object a line: progress, then the report or the error
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CatalogAction {
    /// List the entries of a catalog
    Show {
        /// Path, http(s):// or oras:// reference of the catalog
        #[arg(value_parser = reference())]
        src: String,
        /// One JSON object an entry
        #[arg(long)]
        json: bool,
    },
    /// Check a catalog, and that its images are there
    Check {
        /// Path, http(s):// or oras:// reference of the catalog
        #[arg(value_parser = reference())]
        src: String,
        /// One JSON object an entry
        #[arg(long)]
        json: bool,
    },
    /// Add images to a catalog file; makes the file when it is missing
    Add {
        /// The catalog file
        catalog: PathBuf,
        /// http(s):// or oras:// references of the images
        #[arg(required = true)]
        src: Vec<String>,
        /// Name of the entry; default: the file name or the artifact's title
        #[arg(long)]
        name: Option<String>,
        /// SHA-256 of the image as published
        #[arg(long, value_name = "HEX")]
        sha256: Option<Digest>,
        /// SHA-512 of the image as published
        #[arg(long, value_name = "HEX")]
        sha512: Option<Sha512>,
        /// List of digests with the image in it (SHA256SUMS, SHA512SUMS, CHECKSUM)
        #[arg(long, value_name = "URL", conflicts_with_all = ["sha256", "sha512"])]
        sha_url: Option<String>,
        /// Description of the entry
        #[arg(long)]
        description: Option<String>,
        /// One JSON object an entry
        #[arg(long)]
        json: bool,
    },
    /// Print the canonical form of a source and its reference
    Ref {
        /// Sources: http(s)://, oras:// or file://
        #[arg(required = true)]
        src: Vec<String>,
        /// One JSON object a source
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args, Debug)]
pub(crate) struct Flash {
    /// The image: path, http(s):// or oras:// reference, - for stdin, ARCHIVE#NAME for a file of a
    /// zip or tar archive, or the name of an entry of --catalog
    #[arg(value_parser = reference())]
    pub(crate) src: String,
    /// The disks: path, serial:…, wwn:… or where:transport=usb,size<64G
    #[arg(required = true, value_parser = reference())]
    pub(crate) target: Vec<String>,
    /// Take SRC from this catalog (path, http(s):// or oras:// reference)
    #[arg(long, value_name = "C", value_parser = reference())]
    pub(crate) catalog: Option<String>,
    /// SHA-256 that the image file must have, as published
    #[arg(long, value_name = "HEX")]
    pub(crate) sha256: Option<Digest>,
    /// SHA-512 that the image file must have, as published
    #[arg(long, value_name = "HEX")]
    pub(crate) sha512: Option<Sha512>,
    /// SHA-256 that the image inside a compressed file must have
    #[arg(long, value_name = "HEX")]
    pub(crate) image_sha256: Option<Digest>,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
    /// Do not read the disk back
    #[arg(long)]
    pub(crate) no_verify: bool,
    /// Move the backup GPT to the end of a larger disk
    #[arg(long)]
    pub(crate) fix_gpt: bool,
    /// On a smaller disk: leave out what lies behind the last partition, if all of it is zero
    #[arg(long)]
    pub(crate) fit: bool,
    /// Leave out what lies behind the end of compressed data, whatever it is
    #[arg(long)]
    pub(crate) ignore_trailing: bool,
    /// Let the firmware boot the disk next, once; its boot order stays as it is
    #[arg(long)]
    pub(crate) uefi_boot: bool,
    /// Allow a partition as the target
    #[arg(long)]
    pub(crate) allow_partition: bool,
    /// Write it although no partition table, file system or boot sector was found in it
    #[arg(long)]
    pub(crate) raw: bool,
    /// Write to a file although it holds an image or an archive
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// Create the target as a file, of SIZE or as large as the image
    #[arg(long, value_name = "SIZE", num_args = 0..=1, require_equals = true, value_parser = size::parse)]
    pub(crate) create: Option<Option<u64>>,
    /// Show the plan and every reason against it; write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// One JSON object a line: progress, then the report or the error
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Run {
    /// The script
    pub(crate) file: PathBuf,
    /// What the script finds in ARGS
    pub(crate) args: Vec<String>,
    /// Write nothing, send nothing, wait for nothing: list what would have been done
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// The machine that the dry run is about, as a TOML or JSON description; default: this one, as
    /// it is
    #[arg(long, value_name = "FILE", requires = "dry_run")]
    pub(crate) world: Option<PathBuf>,
    /// End the script after so many seconds
    #[arg(long, value_name = "SECONDS")]
    pub(crate) timeout: Option<u64>,
    /// Say so instead of rebooting or switching off
    #[arg(long)]
    pub(crate) no_reboot: bool,
    /// One JSON object a line: progress, effects, then the error if there is one
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Verify {
    /// The image: path, http(s):// or oras:// reference, or the name of an entry of --catalog
    #[arg(value_parser = reference())]
    pub(crate) src: String,
    /// The disk: path, serial:…, wwn:… or where:…
    #[arg(value_parser = reference())]
    pub(crate) target: String,
    /// Take SRC from this catalog
    #[arg(long, value_name = "C", value_parser = reference())]
    pub(crate) catalog: Option<String>,
    /// SHA-256 that the image file must have, as published
    #[arg(long, value_name = "HEX")]
    pub(crate) sha256: Option<Digest>,
    /// SHA-512 that the image file must have, as published
    #[arg(long, value_name = "HEX")]
    pub(crate) sha512: Option<Sha512>,
    /// SHA-256 that the image inside a compressed file must have
    #[arg(long, value_name = "HEX")]
    pub(crate) image_sha256: Option<Digest>,
    /// Expect the backup GPT at the end of the disk, as flash --fix-gpt leaves it
    #[arg(long)]
    pub(crate) fix_gpt: bool,
    /// Leave out what lies behind the end of compressed data, whatever it is
    #[arg(long)]
    pub(crate) ignore_trailing: bool,
    /// One JSON object: the report or the error
    #[arg(long)]
    pub(crate) json: bool,
}

impl Cli {
    /// Refuses options that say two things at once.
    pub(crate) fn checked(self) -> Result<Self, clap::Error> {
        let Start { catalog, mac, .. } = &self.start;
        if self.verb.is_some() && (catalog.is_some() || mac.is_some()) {
            let message = "--catalog and --mac before the verb are for the wizard and the target: leave out the verb, or write --catalog after it\n";
            return Err(clap::Error::raw(clap::error::ErrorKind::ArgumentConflict, message));
        }
        Ok(self)
    }

    /// True when results are wanted as JSON.
    pub(crate) fn is_json(&self) -> bool {
        let Some(verb) = &self.verb else { return false };
        match verb {
            Verb::Check { json, .. }
            | Verb::Test { json, .. }
            | Verb::Disks { json }
            | Verb::Images { json, .. } => *json,
            Verb::Image { action: Some(ImageAction::Create(create)), .. } => create.json,
            Verb::Image { json, .. } => *json,
            Verb::Catalog { action } => match action {
                CatalogAction::Show { json, .. }
                | CatalogAction::Check { json, .. }
                | CatalogAction::Add { json, .. }
                | CatalogAction::Ref { json, .. } => *json,
            },
            Verb::Flash(flash) => flash.json,
            Verb::Verify(verify) => verify.json,
            Verb::Run(run) => run.json,
            Verb::Repl
            | Verb::Eject { .. }
            | Verb::Docs { .. }
            | Verb::Man { .. }
            | Verb::ScriptWorker
            | Verb::Completions { .. } => false,
        }
    }
}
