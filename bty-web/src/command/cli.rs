//! The command line.

use std::path::PathBuf;

use crate::fleet::FleetOptions;
use clap::{Args, Parser, Subcommand};

use super::remote::Remote;
use super::serve::{CacheArgs, TftpArgs};

/// The bty server: flashes a fleet of machines over the network.
#[derive(Parser)]
#[command(name = "bty-web", version, max_term_width = 100, after_help = EXAMPLES)]
pub(crate) struct Cli {
    /// Configuration file, or directory of *.toml files, to use instead of those in /etc/bty and
    /// the state directory; later ones override earlier ones
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) config: Vec<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

const EXAMPLES: &str = "\
Examples:
  bty-web                                        start the server
  BTY_PATHS_STATE_DIR=/tmp/s bty-web             start it with another state directory
  bty-web cache --data-dir /srv/cache --max-bytes 200G      start a cache host
  bty-web tftp --root /srv/ipxe --server-url http://bty.lan:8080   start a TFTP server
  bty-web import /old/state.db                   migrate from the reference server
  bty-web machine set 52:54:00:12:34:56 --plan bty-flash-once --image \"debian 13\" --disk S1
  bty-web plan simulate 52:54:00:12:34:56        show what it would do at its next boots
  bty-web token create ci --scope machines       create a token for a program
  bty-web user add alice --role operator         add a person who may change machines and images

Commands also read the variables of the systemd service in /etc/bty/bty-web.env. The environment
overrides them, BTY_ENV_FILE names another file, and with --config the file is not read.

Exit codes: 0 success, 1 failure, 2 invalid command line or configuration.";

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Start the server; the default without a command
    Serve,
    /// Start only a cache host: it fetches each image once for many machines
    Cache(CacheArgs),
    /// Start only a TFTP server: it sends boot programs to firmware
    Tftp(TftpArgs),
    /// Check the configuration and report all problems
    CheckConfig,
    /// Print every value of the configuration and where it is set
    ShowConfig,
    /// Check whether the server on this host answers; the exit code is 0 if it does
    Health {
        /// Check this server instead, such as http://127.0.0.1:8081
        #[arg(long)]
        url: Option<String>,
        /// Check the cache host on this host, at cache.listen
        #[arg(long, conflicts_with = "url")]
        cache: bool,
    },
    /// Export everything but events and secrets to DEST/inventory.json
    Export {
        /// Directory; created if it does not exist
        dest: PathBuf,
    },
    /// Import an export, or the export or state.db of a reference server; the server on this host
    /// must be stopped
    Import {
        /// File, or the directory that contains it
        path: PathBuf,
        /// Let imported machines flash at their next boot, without being saved first
        #[arg(long)]
        armed: bool,
        /// Replace machines that are here already; without it, they are left as they are
        #[arg(long)]
        replace: bool,
    },
    /// Show, edit and simulate the plans of a server
    Plan {
        #[command(flatten)]
        remote: Remote,
        #[command(subcommand)]
        verb: PlanVerb,
    },
    /// List, assign and change the machines of a server
    Machine {
        #[command(flatten)]
        remote: Remote,
        #[command(subcommand)]
        verb: MachineVerb,
    },
    /// List, check, refresh and delete the images of a server
    Image {
        #[command(flatten)]
        remote: Remote,
        #[command(subcommand)]
        verb: ImageVerb,
    },
    /// Switch machines on and off: by Wake-on-LAN, or by the hook of the server's configuration
    Power {
        #[command(flatten)]
        remote: Remote,
        #[command(flatten)]
        args: PowerArgs,
    },
    /// Export the events of a server
    Events {
        #[command(flatten)]
        remote: Remote,
        #[command(subcommand)]
        verb: EventsVerb,
    },
    /// Manage tokens for programs, in the state directory on this host
    Token {
        #[command(subcommand)]
        verb: TokenVerb,
    },
    /// Manage users besides the admin, in the state directory on this host
    User {
        #[command(subcommand)]
        verb: UserVerb,
    },
    /// Read a password from stdin and print its hash for admin.password
    HashPassword,
    /// Boot simulated machines from a server and check its decisions
    SimulateFleet {
        #[command(flatten)]
        remote: Remote,
        #[command(flatten)]
        options: FleetOptions,
    },
    /// Print the OpenAPI document
    Openapi,
    /// Print completions: bty-web completions bash >/etc/bash_completion.d/bty-web
    Completions { shell: clap_complete::Shell },
    /// Run scripts for a server; started by the server
    #[command(hide = true)]
    ScriptWorker,
}

#[derive(Subcommand)]
pub(crate) enum PlanVerb {
    /// List all plans
    List,
    /// Print the script of a plan
    Show {
        name: String,
        /// Revision to print [default: the newest]
        #[arg(long)]
        revision: Option<i64>,
    },
    /// Edit a plan in $EDITOR, or save it from a file; a script with problems is refused
    Edit {
        name: String,
        /// Read the script from a file instead; - for stdin
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
        /// Reason of the change, for the history of the plan
        #[arg(long, default_value = "")]
        note: String,
    },
    /// Show what a machine would do at its next boots, or what would change for the fleet
    Simulate {
        /// MAC address of the machine [default: the fleet]
        mac: Option<String>,
        /// Number of boots
        #[arg(long, default_value_t = 4)]
        boots: u32,
        /// Use this script instead of the plan
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
        /// Plan that the script replaces
        #[arg(long)]
        plan: Option<String>,
        /// Use this catalog
        #[arg(long, value_name = "FILE")]
        catalog: Option<PathBuf>,
    },
}

#[derive(Subcommand)]
pub(crate) enum MachineVerb {
    /// List machines
    List {
        /// Only machines that this search finds, such as 'label:rack1 state:failed'
        #[arg(short = 'q', long, visible_alias = "query", value_name = "SEARCH")]
        filter: Option<String>,
    },
    /// Print a machine as JSON
    Show { mac: String },
    /// Assign a machine; what is not given stays as it is, and an unknown machine is added
    Set {
        mac: String,
        /// What people call the machine; empty for no name
        #[arg(long)]
        name: Option<String>,
        /// Name of the plan
        #[arg(long)]
        plan: Option<String>,
        /// Name or reference of an image in the catalog; empty for none
        #[arg(long)]
        image: Option<String>,
        /// Serial number of the disk that may be written; empty for none
        #[arg(long)]
        disk: Option<String>,
        /// Label; replaces all labels of the machine, can be repeated
        #[arg(long, value_name = "LABEL")]
        label: Vec<String>,
        /// Parameter of the plan; VALUE is JSON, or text if it is not valid JSON
        #[arg(long, value_name = "NAME=VALUE")]
        param: Vec<String>,
        /// Additional kernel arguments; they give full control over the live environment
        #[arg(long)]
        extra_args: Option<String>,
        /// Version of the live environment to boot; empty for the server's default
        #[arg(long, value_name = "VERSION")]
        netboot_version: Option<String>,
        /// Order the plan again, even if nothing changes
        #[arg(long)]
        again: bool,
    },
    /// Change many machines: prints what would happen, and the digest that confirms it
    Change(Box<ChangeArgs>),
    /// Print machines as a table: name, mac, plan, image, disk, labels
    Export {
        /// Only machines that this search finds
        #[arg(short = 'q', long, value_name = "SEARCH")]
        filter: Option<String>,
        #[arg(long, value_enum, default_value = "csv")]
        format: TableKind,
    },
    /// Add the machines of a table, as export prints it
    Import {
        /// File; - for stdin
        file: PathBuf,
        /// Format of the table [default: by the name of the file, else csv]
        #[arg(long, value_enum)]
        format: Option<TableKind>,
        /// Also change machines that are here already
        #[arg(long)]
        replace: bool,
        /// Change nothing; print what would happen, and the digest that confirms it
        #[arg(long)]
        dry_run: bool,
        /// Import only if it does what the list with this digest says
        #[arg(long, value_name = "DIGEST")]
        confirm: Option<String>,
    },
    /// Add a further network card to a machine; if it was a machine of its own, that one ends
    AddCard {
        mac: String,
        /// MAC address of the network card
        card: String,
    },
    /// Remove a further network card from a machine
    RemoveCard {
        mac: String,
        /// MAC address of the network card
        card: String,
    },
}

/// What `bty-web machine change` does, and with which machines.
#[derive(clap::Args)]
pub(crate) struct ChangeArgs {
    /// MAC addresses of the machines
    #[arg(required_unless_present = "filter", conflicts_with = "filter")]
    pub(crate) mac: Vec<String>,
    /// All machines that this search finds; empty for all
    #[arg(short = 'q', long, value_name = "SEARCH")]
    pub(crate) filter: Option<String>,
    #[command(flatten)]
    pub(crate) action: ActionArgs,
    /// Make the change, if it still does what the list with this digest says
    #[arg(long, value_name = "DIGEST")]
    pub(crate) confirm: Option<String>,
}

#[derive(clap::Args)]
#[group(skip)]
#[command(group = clap::ArgGroup::new("one_action"))]
pub(crate) struct ActionArgs {
    /// Assign this plan
    #[arg(long, conflicts_with = "one_action")]
    pub(crate) plan: Option<String>,
    /// Assign this image of the catalog, by name or reference; empty for none
    #[arg(long, conflicts_with = "one_action")]
    pub(crate) image: Option<String>,
    /// Set this parameter of the plan and drop the others; can be repeated
    #[arg(long, value_name = "NAME=VALUE", conflicts_with = "one_action")]
    pub(crate) param: Vec<String>,
    /// Add this label; can be repeated
    #[arg(long, value_name = "LABEL", group = "one_action")]
    pub(crate) label: Vec<String>,
    /// Remove this label; can be repeated
    #[arg(long, value_name = "LABEL", group = "one_action")]
    pub(crate) unlabel: Vec<String>,
    /// Order the plans again
    #[arg(long, group = "one_action")]
    pub(crate) again: bool,
    /// Acknowledge failures
    #[arg(long, group = "one_action")]
    pub(crate) acknowledge: bool,
    /// Put on hold for this reason: the machines boot their disks
    #[arg(long, value_name = "REASON", group = "one_action")]
    pub(crate) hold: Option<String>,
    /// Release from a hold
    #[arg(long, group = "one_action")]
    pub(crate) release: bool,
    /// Delete
    #[arg(long, group = "one_action")]
    pub(crate) delete: bool,
}

/// The format of a table of machines.
#[derive(Clone, Copy, clap::ValueEnum)]
pub(crate) enum TableKind {
    Csv,
    Toml,
}

#[derive(Args)]
pub(crate) struct PowerArgs {
    /// What to do: wake sends Wake-on-LAN packets; flash orders the machine's plan again, lets it
    /// boot from the network, and power-cycles it
    #[arg(value_parser = ["on", "off", "cycle", "netboot", "status", "wake", "flash"])]
    pub(crate) action: String,
    /// MAC addresses of the machines
    #[arg(required = true)]
    pub(crate) mac: Vec<String>,
    /// Interrupt a machine even while it is being flashed
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Subcommand)]
pub(crate) enum EventsVerb {
    /// Print events as JSON lines, oldest first
    Export {
        /// Only events after this number, or from this time on, such as 2026-11-24T08:30:00Z
        #[arg(long, value_name = "ID|TIME")]
        since: Option<String>,
        /// Only events of this kind, such as machine.flashed
        #[arg(long)]
        kind: Option<String>,
        /// Only failures
        #[arg(long)]
        failed: bool,
    },
}

#[derive(Subcommand)]
pub(crate) enum ImageVerb {
    /// List images
    List,
    /// Check whether images exist at their addresses, unchanged; the exit code is 0 if all do
    Check {
        /// Name, reference or address of the image [default: all]
        image: Option<String>,
    },
    /// Read tags and checksum files again, and take the digests that they have now
    Refresh {
        /// Name, reference or address of the image [default: all]
        image: Option<String>,
    },
    /// Delete an image that no machine and no plan uses
    Delete {
        /// Name, reference or address of the image
        image: String,
        /// Delete it even if it is used, and put the machines that use it on hold
        #[arg(long)]
        force: bool,
    },
}

#[derive(Subcommand)]
pub(crate) enum UserVerb {
    /// List users
    List,
    /// Add a user; the password is read from stdin, or asked for on a terminal
    Add {
        /// Name to log in with; case does not matter
        name: String,
        /// What the user may do: viewer, operator or admin
        #[arg(long)]
        role: String,
        /// Set no password: only a proxy in server.remote_user_proxies can log this user in
        #[arg(long)]
        no_password: bool,
    },
    /// Set the password of a user and end all sessions of this user; it is read like that of add
    Password { name: String },
    /// Change what a user may do, also in open sessions
    Role {
        name: String,
        /// What the user may do: viewer, operator or admin
        role: String,
    },
    /// Remove a user and end all sessions of this user
    Remove { name: String },
}

#[derive(Subcommand)]
pub(crate) enum TokenVerb {
    /// List tokens
    List,
    /// Create a token; it is printed once and cannot be shown again
    Create {
        /// What the token is for
        name: String,
        /// Permission: read, machines, catalog, plans or admin; can be repeated
        #[arg(long, required = true)]
        scope: Vec<String>,
        /// Number of days after which the token expires [default: never]
        #[arg(long)]
        days: Option<u32>,
    },
    /// Revoke a token
    Revoke { id: i64 },
}
