//! The command line, as clap sees it.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use bty::digest::Sha512;
use bty::flash::{DeltaMode, EraseWay};
use bty::{Digest, size};
use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};

const EXIT_CODES: &str = "\
Exit codes:
  0    success
  1    operating system error
  2    wrong usage
  3    refused: the target is unsuitable; nothing was written
  4    source error: image or catalog unreachable, truncated, or of an unknown format
  5    integrity error: a digest or the data read back differs
  6    target error: the disk cannot be read or written
  7    script error: failed, does not compile, has mistakes (check), or failed tests (test)
  130  cancelled";

const EXAMPLES: &str = "\
Examples:
  bty                                            start the wizard
  bty --catalog https://host/catalog.toml        start the wizard with a catalog
  bty --images ~/Downloads                       start the wizard with the images in a directory
  bty disks                                      list disks
  bty image debian.img.zst                       show what an image contains
  bty image create /dev/sdb card.img.zst         create an image of a disk
  bty flash debian.img.zst serial:S3Z9NX0M       show the plan, ask, write, read back
  bty debian.img.zst serial:S3Z9NX0M             the same
  bty flash https://host/a.img.xz /dev/sdb --sha256 HEX --yes
  curl … | bty flash - /dev/sdb --yes            read the image from a pipe
  bty flash boards.zip#rpi.img /dev/sdb          flash an image from an archive
  bty flash oras://registry/os/debian:13 /dev/nvme0n1 --fix-gpt
  bty flash debian.qcow2 vm.img --create=20G     create a disk file for a virtual machine
  bty verify debian.img.zst /dev/sdb             compare a disk with an image
  bty pack debian.qcow2 -o debian.img.zst        pack an image
  bty run lab.rhai --dry-run --world rack.toml   test a script on a simulated machine
  bty repl                                       type script functions at a prompt";

const RUN_EXAMPLES: &str = "\
Examples:
  bty run lab.rhai debian.img.zst                run a script; ARGS[0] is debian.img.zst
  bty run lab.rhai --dry-run                     list what it would do on this machine
  bty run lab.rhai --dry-run --world rack.toml   list what it would do on a simulated machine
  bty run lab.rhai --json                        print JSON lines
  bty run wizard.rhai                            run a changed wizard, after: bty eject wizard";

/// Writes operating system images to disks, and verifies them.
#[derive(Debug, Parser)]
#[command(
    name = "bty",
    version,
    max_term_width = 100,
    after_help = EXIT_CODES,
    after_long_help = format!("{EXAMPLES}\n\n{EXIT_CODES}")
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) verb: Option<Verb>,
    #[command(flatten)]
    pub(crate) start: Start,
    #[command(flatten)]
    pub(crate) network: Network,
}

/// Options of `bty` without a command.
#[derive(Args, Debug, Default)]
#[command(next_help_heading = "Without a command (wizard, or plan of a server)")]
pub(crate) struct Start {
    /// Start the wizard with this catalog (path, http(s):// or oras:// reference)
    #[arg(long, value_name = "CATALOG", value_parser = reference())]
    pub(crate) catalog: Option<String>,
    /// Offer the images in this directory in the wizard; default: $BTY_IMAGE_ROOT, then
    /// /var/lib/bty/images
    #[arg(long, value_name = "DIR")]
    pub(crate) images: Option<PathBuf>,
    /// Fetch and carry out the server's plan for the machine with this MAC address
    #[arg(long, value_name = "MAC", value_parser = mac)]
    pub(crate) mac: Option<String>,
    /// The server for --mac; http:// is the default scheme
    #[arg(long, value_name = "URL", default_value = "bty-server:8080")]
    pub(crate) server: String,
    /// Do not reboot or power off; only say so
    #[arg(long)]
    pub(crate) no_reboot: bool,
    /// If the plan has nothing to do: reboot into the disk that bty has flashed (UEFI only)
    #[arg(long, requires = "mac")]
    pub(crate) boot_flashed: bool,
    /// Pretend that the machine's only disk is FILE with this serial number, to try out a server
    /// without a spare machine
    #[arg(long, value_name = "FILE=SERIAL", value_parser = disk_file, requires = "mac")]
    pub(crate) disk_file: Option<(PathBuf, String)>,
    /// Token of the boot cycle; default: bty.cycle= on the kernel command line
    #[arg(long, value_name = "TOKEN", requires = "mac")]
    pub(crate) cycle: Option<String>,
}

/// Parses a path, URL or name. A path that is not UTF-8 becomes a `file://` URL.
fn reference() -> impl TypedValueParser<Value = String> {
    OsStringValueParser::new().map(|argument| bty::text::argument(&argument))
}

/// True if the first argument can only be an image: no command has a dot, a slash or a colon in its
/// name.
fn is_image(argument: &OsStr) -> bool {
    let text = argument.as_encoded_bytes();
    text == b"-" || (!text.starts_with(b"-") && text.iter().any(|byte| b"./:".contains(byte)))
}

fn disk_file(text: &str) -> Result<(PathBuf, String), String> {
    let parts =
        text.rsplit_once('=').filter(|(file, serial)| !file.is_empty() && !serial.is_empty());
    parts
        .map(|(file, serial)| (file.into(), serial.to_owned()))
        .ok_or_else(|| "use the form disk.img=SERIAL".to_owned())
}

fn login(text: &str) -> Result<(String, PathBuf), String> {
    let parts = text.split_once('=').filter(|(host, file)| !host.is_empty() && !file.is_empty());
    let (host, file) = parts.ok_or_else(|| "use the form images.example=FILE".to_owned())?;
    if host.contains(['/', '@']) {
        return Err(
            "only a host or HOST:PORT may come before the equals sign: images.example=FILE"
                .to_owned(),
        );
    }
    Ok((host.to_owned(), file.into()))
}

fn mac(text: &str) -> Result<String, String> {
    bty_script::plan::canonical_mac(text).ok_or_else(|| "use the form 52:54:00:12:34:56".to_owned())
}

/// Options for web servers and registries. Proxies come from HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and
/// NO_PROXY.
#[derive(Args, Debug)]
#[command(next_help_heading = "Network")]
pub(crate) struct Network {
    /// Also trust this certificate (PEM) of a CA or a server; may be repeated
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) ca: Vec<PathBuf>,
    /// Log in at HOST or HOST:PORT with the first line of FILE, user:password; may be repeated
    #[arg(long, global = true, value_name = "HOST=FILE", value_parser = login)]
    pub(crate) login: Vec<(String, PathBuf)>,
    /// Credentials for registries, in the format of podman login; default: the files of podman and
    /// docker
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) auth_file: Option<PathBuf>,
    /// Credentials for hosts, in netrc format; default: $NETRC, then ~/.netrc
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) netrc: Option<PathBuf>,
    /// Use only the credentials of --login
    #[arg(long, global = true, conflicts_with_all = ["auth_file", "netrc"])]
    pub(crate) no_login_files: bool,
    /// Use HTTP instead of HTTPS for OCI registries
    #[arg(long, global = true)]
    pub(crate) plain_http: bool,
    /// Directory for temporary downloads of images that need random access
    #[arg(long, global = true, value_name = "DIR", default_value = "/var/tmp")]
    pub(crate) spool_dir: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// List disks: size, model, serial number, contents, and what uses them
    Disks {
        /// Print one JSON object per disk
        #[arg(long)]
        json: bool,
    },
    /// Show an image, or create one of a disk
    #[command(
        args_conflicts_with_subcommands = true,
        subcommand_negates_reqs = true,
        disable_help_subcommand = true
    )]
    Image {
        #[command(subcommand)]
        action: Option<ImageAction>,
        /// Path, http(s):// or oras:// reference; - for stdin, ARCHIVE#NAME for a file in a zip or
        /// tar archive
        #[arg(required = true, value_name = "IMAGE", value_parser = reference())]
        src: Option<String>,
        /// Read the whole image, and show exact sizes and its SHA-256
        #[arg(long)]
        full: bool,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// List the images in a directory
    Images {
        /// Directory with images
        #[arg(default_value = ".")]
        dir: PathBuf,
        /// Print one JSON object per image
        #[arg(long)]
        json: bool,
    },
    /// Show, check and edit catalogs
    Catalog {
        #[command(subcommand)]
        action: CatalogAction,
    },
    /// Write an image to disks, and verify it
    #[command(after_help = EXIT_CODES)]
    Flash(Flash),
    /// Compare a disk with an image, without writing
    #[command(after_help = EXIT_CODES)]
    Verify(Verify),
    /// Erase a disk, and read it back
    #[command(after_help = EXIT_CODES)]
    Erase(Erase),
    /// Write an image as a packed image: a zstd file with an index of its parts
    ///
    /// Any zstd program can read it. bty flashes it on all cores, and checks each part before it
    /// is written.
    #[command(after_help = EXIT_CODES)]
    Pack(Pack),
    /// Show what a flash of a packed image would keep, move and fetch
    ///
    /// OLD is an image, or a disk, which is read. Of two packed images only the indexes are read.
    #[command(after_help = EXIT_CODES)]
    Diff(Diff),
    /// Run a script
    #[command(after_help = EXIT_CODES, after_long_help = format!("{RUN_EXAMPLES}\n\n{EXIT_CODES}"))]
    Run(Run),
    /// Find mistakes in scripts without running them
    ///
    /// Compiles each script, and reports unknown functions, fields and options, wrong numbers of
    /// arguments, failing imports, and comparisons that always fail. The exit code is 7 if there is
    /// a finding.
    Check {
        /// Scripts to check
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Print one JSON object per finding
        #[arg(long)]
        json: bool,
    },
    /// Run the tests in *_test.rhai files, on simulated machines
    ///
    /// A test is a function without parameters whose name begins with test_. The exit code is 7 if
    /// a test fails.
    Test {
        /// Directory to search, or one test file
        #[arg(default_value = ".")]
        dir: PathBuf,
        /// Print one JSON object per test
        #[arg(long)]
        json: bool,
    },
    /// Type script lines at a prompt
    ///
    /// Without a terminal, reads lines from stdin: echo 'disks()' | bty repl
    Repl,
    /// Copy a bundled script and its imports to a directory, to change them
    Eject {
        /// Name of the script, such as wizard or auto
        name: String,
        /// Directory to copy to
        #[arg(default_value = ".")]
        dir: PathBuf,
        /// Overwrite existing files
        #[arg(long)]
        force: bool,
    },
    /// Show the functions that scripts can call
    Docs {
        /// A function, module or type, such as disks, disks::only or Disk; default: list all
        name: Option<String>,
        /// Print the whole reference as Markdown
        #[arg(long, conflicts_with = "name")]
        markdown: bool,
        /// Write definitions for editors (.d.rhai) to this directory
        #[arg(long, value_name = "DIR", conflicts_with_all = ["name", "markdown"])]
        definitions: Option<PathBuf>,
    },
    /// Write man pages
    Man {
        /// Directory to write to
        dir: PathBuf,
    },
    /// Answer plan calls on stdin; started by a server
    #[command(hide = true)]
    ScriptWorker,
    /// Print shell completions
    Completions {
        /// Shell to print completions for
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ImageAction {
    /// Create an image of a disk, and compare the two
    #[command(after_help = EXIT_CODES)]
    Create(CreateImage),
}

#[derive(Args, Debug)]
pub(crate) struct CreateImage {
    /// Disk to read: path, serial:…, wwn:… or where:…
    pub(crate) disk: String,
    /// File to create; its name selects the format: .img (raw, sparse), .img.zst or .qcow2
    pub(crate) out: PathBuf,
    /// Leave out everything after the last partition
    #[arg(long)]
    pub(crate) shrink: bool,
    /// Print JSON lines: progress, then the report or the error
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CatalogAction {
    /// List the images of a catalog
    Show {
        /// Path, http(s):// or oras:// reference of the catalog
        #[arg(value_name = "CATALOG", value_parser = reference())]
        src: String,
        /// Print one JSON object per image
        #[arg(long)]
        json: bool,
    },
    /// Check a catalog, and whether its images can be reached
    Check {
        /// Path, http(s):// or oras:// reference of the catalog
        #[arg(value_name = "CATALOG", value_parser = reference())]
        src: String,
        /// Print one JSON object per image
        #[arg(long)]
        json: bool,
    },
    /// Add images to a catalog file, and create the file if it is missing
    Add {
        /// Catalog file to change
        catalog: PathBuf,
        /// http(s):// or oras:// references of the images
        #[arg(required = true, value_name = "IMAGE")]
        src: Vec<String>,
        /// Name of the image in the catalog; default: the file name or the artifact's title
        #[arg(long)]
        name: Option<String>,
        /// SHA-256 of the file as published
        #[arg(long, value_name = "HEX")]
        sha256: Option<Digest>,
        /// SHA-512 of the file as published
        #[arg(long, value_name = "HEX")]
        sha512: Option<Sha512>,
        /// URL of a list of digests that includes the image (SHA256SUMS, SHA512SUMS, CHECKSUM)
        #[arg(long, value_name = "URL", conflicts_with_all = ["sha256", "sha512"])]
        sha_url: Option<String>,
        /// Description of the image
        #[arg(long)]
        description: Option<String>,
        /// Print one JSON object per image
        #[arg(long)]
        json: bool,
    },
    /// Print the ref (a digest) and the canonical form of image references
    Ref {
        /// References of images: http(s)://, oras:// or file://
        #[arg(required = true, value_name = "IMAGE")]
        src: Vec<String>,
        /// Print one JSON object per image
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args, Debug)]
pub(crate) struct Flash {
    /// Image: path, http(s):// or oras:// reference; - for stdin, ARCHIVE#NAME for a file in a zip
    /// or tar archive; with --catalog, the name of an image in it
    #[arg(value_name = "IMAGE", value_parser = reference())]
    pub(crate) src: String,
    /// Disks to write to: path, serial:…, wwn:… or where:transport=usb,size<64G
    #[arg(required = true, value_parser = reference())]
    pub(crate) target: Vec<String>,
    /// Look up IMAGE in this catalog (path, http(s):// or oras:// reference)
    #[arg(long, value_name = "CATALOG", value_parser = reference())]
    pub(crate) catalog: Option<String>,
    /// Required SHA-256 of the file as published
    #[arg(long, value_name = "HEX")]
    pub(crate) sha256: Option<Digest>,
    /// Required SHA-512 of the file as published
    #[arg(long, value_name = "HEX")]
    pub(crate) sha512: Option<Sha512>,
    /// Required SHA-256 of the disk image inside a compressed file
    #[arg(long, value_name = "HEX")]
    pub(crate) image_sha256: Option<Digest>,
    /// Required SHA-256 of the index of a packed image, which proves all of it
    #[arg(long, value_name = "HEX")]
    pub(crate) index_sha256: Option<Digest>,
    /// Do not ask for confirmation
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Do not read the disk back after writing
    #[arg(long)]
    pub(crate) no_verify: bool,
    /// Keep and move what the disk already holds of a packed image, and fetch only the rest: auto
    /// (where it saves time), always or never
    #[arg(long, value_name = "MODE", default_value = "auto")]
    pub(crate) delta: DeltaMode,
    /// Memory for old content that a delta flash overwrites before it needs it; default: 64M
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    pub(crate) stash: Option<u64>,
    /// The disk has passed a full verification before: of what a delta flash keeps, read back only
    /// a sample
    #[arg(long)]
    pub(crate) proven_disk: bool,
    /// Move the backup GPT to the end of a larger disk
    #[arg(long)]
    pub(crate) fix_gpt: bool,
    /// Allow a disk smaller than the image, if the image has only zeros after its last partition
    #[arg(long)]
    pub(crate) fit: bool,
    /// Ignore data after the end of the compressed image
    #[arg(long)]
    pub(crate) ignore_trailing: bool,
    /// Make the UEFI firmware boot this disk once, at the next boot; the boot order is not changed
    #[arg(long)]
    pub(crate) uefi_boot: bool,
    /// Allow a partition as target
    #[arg(long)]
    pub(crate) allow_partition: bool,
    /// Write the image even if no partition table, file system or boot sector is found in it
    #[arg(long)]
    pub(crate) raw: bool,
    /// Overwrite a file that holds an image or an archive
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// Create the target as a new file of SIZE; default: the size of the image
    #[arg(
        long,
        value_name = "SIZE",
        num_args = 0..=1,
        require_equals = true,
        value_parser = size::parse
    )]
    pub(crate) create: Option<Option<u64>>,
    /// Show the plan and all reasons against it, and write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print JSON lines: progress, then the report or the error
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Erase {
    /// Disk to erase: path, serial:…, wwn:… or where:…
    #[arg(value_parser = reference())]
    pub(crate) disk: String,
    /// zeros, random, discard (the disk zeroes itself) or nvme_format (an NVMe disk erases itself)
    #[arg(long, value_name = "WAY", default_value = "zeros")]
    pub(crate) way: EraseWay,
    /// Do not ask for confirmation
    #[arg(long)]
    pub(crate) yes: bool,
    /// Allow a partition as target
    #[arg(long)]
    pub(crate) allow_partition: bool,
    /// Erase a file that holds an image or an archive
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// Show the plan and all reasons against it, and write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print JSON lines: progress, then the report or the error
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Run {
    /// Script to run
    pub(crate) file: PathBuf,
    /// Arguments that the script finds in ARGS
    pub(crate) args: Vec<String>,
    /// Write, send and wait for nothing; list what the script would do
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Simulate the machine that this TOML or JSON file describes; default: use the disks of this
    /// machine
    #[arg(long, value_name = "FILE", requires = "dry_run")]
    pub(crate) world: Option<PathBuf>,
    /// Let the script read and write text files below this directory
    #[arg(long, value_name = "DIR", conflicts_with = "world")]
    pub(crate) files: Option<PathBuf>,
    /// Time limit of the script in seconds
    #[arg(long, value_name = "SECONDS")]
    pub(crate) timeout: Option<u64>,
    /// Do not reboot or power off; only say so
    #[arg(long)]
    pub(crate) no_reboot: bool,
    /// Print JSON lines: output, progress, effects, and the error if the script fails
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Diff {
    /// What the disk holds: an image (path, http(s):// or oras:// reference), or a disk (path,
    /// serial:…, wwn:… or where:…)
    #[arg(value_parser = reference())]
    pub(crate) old: String,
    /// Packed image: path, http(s):// or oras:// reference; with --catalog, the name of an image in
    /// it
    #[arg(value_parser = reference())]
    pub(crate) new: String,
    /// Look up NEW in this catalog (path, http(s):// or oras:// reference)
    #[arg(long, value_name = "CATALOG", value_parser = reference())]
    pub(crate) catalog: Option<String>,
    /// Print one JSON object: the report or the error
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Pack {
    /// Image: path, http(s):// or oras:// reference; - for stdin, ARCHIVE#NAME for a file in a zip
    /// or tar archive; with --catalog, the name of an image in it
    #[arg(value_name = "IMAGE", value_parser = reference())]
    pub(crate) src: String,
    /// File to create, ending in .img.zst
    #[arg(short, long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// Compression level, from 1 to 19
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub(crate) level: i32,
    /// Decoded size of a part: a power of two from 16K to 1M; default: 64K
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    pub(crate) frame: Option<u64>,
    /// Look up IMAGE in this catalog (path, http(s):// or oras:// reference)
    #[arg(long, value_name = "CATALOG", value_parser = reference())]
    pub(crate) catalog: Option<String>,
    /// Required SHA-256 of the file as published
    #[arg(long, value_name = "HEX")]
    pub(crate) sha256: Option<Digest>,
    /// Required SHA-512 of the file as published
    #[arg(long, value_name = "HEX")]
    pub(crate) sha512: Option<Sha512>,
    /// Print JSON lines: progress, then the report or the error
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Verify {
    /// Image: path, http(s):// or oras:// reference; with --catalog, the name of an image in it
    #[arg(value_name = "IMAGE", value_parser = reference())]
    pub(crate) src: String,
    /// Disk to compare: path, serial:…, wwn:… or where:…
    #[arg(value_parser = reference(), required_unless_present = "packed")]
    pub(crate) target: Option<String>,
    /// Compare the parts of a packed image with its index, instead of a disk with an image
    #[arg(
        long,
        conflicts_with_all = [
            "target", "catalog", "sha256", "sha512", "image_sha256", "fix_gpt", "ignore_trailing"
        ]
    )]
    pub(crate) packed: bool,
    /// Look up IMAGE in this catalog
    #[arg(long, value_name = "CATALOG", value_parser = reference())]
    pub(crate) catalog: Option<String>,
    /// Required SHA-256 of the file as published
    #[arg(long, value_name = "HEX")]
    pub(crate) sha256: Option<Digest>,
    /// Required SHA-512 of the file as published
    #[arg(long, value_name = "HEX")]
    pub(crate) sha512: Option<Sha512>,
    /// Required SHA-256 of the disk image inside a compressed file
    #[arg(long, value_name = "HEX")]
    pub(crate) image_sha256: Option<Digest>,
    /// Expect the backup GPT at the end of the disk, where flash --fix-gpt moves it
    #[arg(long)]
    pub(crate) fix_gpt: bool,
    /// Ignore data after the end of the compressed image
    #[arg(long)]
    pub(crate) ignore_trailing: bool,
    /// Print one JSON object: the report or the error
    #[arg(long)]
    pub(crate) json: bool,
}

impl Cli {
    /// Parses `arguments`, the first of which is the program's name. `bty IMAGE DISK…` is short for
    /// `bty flash IMAGE DISK…`.
    pub(crate) fn from_arguments(
        arguments: impl IntoIterator<Item = OsString>,
    ) -> Result<Self, clap::Error> {
        let mut arguments: Vec<OsString> = arguments.into_iter().collect();
        if arguments.len() > 2 && is_image(&arguments[1]) {
            arguments.insert(1, "flash".into());
        }
        Self::try_parse_from(arguments).and_then(Self::checked)
    }

    /// Rejects options of the wizard and of `--mac` in front of a command.
    fn checked(self) -> Result<Self, clap::Error> {
        let Start { catalog, images, mac, .. } = &self.start;
        if self.verb.is_some() && (catalog.is_some() || images.is_some() || mac.is_some()) {
            let message = "--catalog, --images and --mac cannot be used before a command: leave \
                           out the command to start the wizard or run a server's plan, or write \
                           --catalog after the command\n";
            return Err(clap::Error::raw(clap::error::ErrorKind::ArgumentConflict, message));
        }
        Ok(self)
    }

    /// True if the command line asks for JSON.
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
            Verb::Erase(erase) => erase.json,
            Verb::Pack(pack) => pack.json,
            Verb::Diff(diff) => diff.json,
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
