//! What the command understands.

use std::path::PathBuf;

use bty_web::fleet::FleetOptions;
use clap::{Parser, Subcommand};

use crate::remote::Remote;
use crate::serve::{CacheOptions, TftpOptions};

/// The bty server: machines, plans, events.
#[derive(Parser)]
#[command(name = "bty-web", version, max_term_width = 100, after_help = EXAMPLES)]
pub(crate) struct Cli {
    /// A file, or a directory of *.toml, that replaces the usual ones; later ones are stronger
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) config: Vec<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

const EXAMPLES: &str = "\
Examples:
  bty-web                                        serve with the configuration of this machine
  BTY_PATHS_STATE_DIR=/tmp/s bty-web             the same with a state of its own
  bty-web cache --data-dir /srv/cache --max-bytes 200G      between origins and a rack
  bty-web tftp --root /srv/ipxe --server-url http://bty.lan:8080
  bty-web import /old/state.db                   move over from the reference server
  bty-web machine set 52:54:00:12:34:56 --plan bty-flash-once --image \"debian 13\" --disk S1
  bty-web plan simulate 52:54:00:12:34:56        what it would do at its next boots
  bty-web token create ci --scope machines       for programs: shown once

Commands also read the variables in /etc/bty/bty-web.env, which the service of systemd has: those of
the environment are stronger, BTY_ENV_FILE names another file, and --config leaves it out.

Exit codes: 0 done, 1 it failed, 2 the command or the configuration is wrong.";

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Serve; what is done without a command
    Serve,
    /// Be a cache host, and nothing else: objects of origins for many machines
    Cache(CacheOptions),
    /// Serve boot programs to firmware, and nothing else
    Tftp(TftpOptions),
    /// Read the configuration, and tell all that is wrong with it
    CheckConfig,
    /// Print every value of the configuration, and where it comes from
    ShowConfig,
    /// Ask the server of this machine whether it is well: 0 it is, 1 it is not. For health checks
    Health {
        /// Another one: http://127.0.0.1:8081
        #[arg(long)]
        url: Option<String>,
        /// The cache host of this machine, at cache.listen
        #[arg(long, conflicts_with = "url")]
        cache: bool,
    },
    /// Write DEST/inventory.json: everything but the audit log and secrets
    Export {
        /// A directory, made when it is not there
        dest: PathBuf,
    },
    /// Import an export, a bundle of the reference, or its state.db; no server may use the state
    /// meanwhile
    Import {
        /// The file, or the directory that it is in
        path: PathBuf,
        /// Machines of an export may flash without having been saved again
        #[arg(long)]
        armed: bool,
    },
    /// Plans of a server
    Plan {
        #[command(flatten)]
        remote: Remote,
        #[command(subcommand)]
        verb: PlanVerb,
    },
    /// Machines of a server
    Machine {
        #[command(flatten)]
        remote: Remote,
        #[command(subcommand)]
        verb: MachineVerb,
    },
    /// Tokens for programs, in the state of this machine
    Token {
        #[command(subcommand)]
        verb: TokenVerb,
    },
    /// Read a password from stdin, and print its hash for admin.password
    HashPassword,
    /// Let simulated machines boot from a server, and check every decision
    SimulateFleet {
        #[command(flatten)]
        remote: Remote,
        #[command(flatten)]
        options: FleetOptions,
    },
    /// Print the document of the API
    Openapi,
    /// Print completions for a shell: bty-web completions bash >/etc/bash_completion.d/bty-web
    Completions { shell: clap_complete::Shell },
    /// Run scripts for a server; only a server starts it
    #[command(hide = true)]
    ScriptWorker,
}

#[derive(Subcommand)]
pub(crate) enum PlanVerb {
    /// All plans
    List,
    /// The script of a plan
    Show {
        name: String,
        /// Another revision than the newest
        #[arg(long)]
        revision: Option<i64>,
    },
    /// Change a plan in $EDITOR, or save it from a file; refused when anything is wrong with it
    Edit {
        name: String,
        /// The script, instead of an editor; - is stdin
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
        /// What it is changed for
        #[arg(long, default_value = "")]
        note: String,
    },
    /// What a machine would do at its next boots, or what would change for all of them
    Simulate {
        /// The machine; without one, the fleet
        mac: Option<String>,
        /// So many boots
        #[arg(long, default_value_t = 4)]
        boots: u32,
        /// With this script in place of the plan
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
        /// The plan that the script stands for
        #[arg(long)]
        plan: Option<String>,
        /// With this catalog
        #[arg(long, value_name = "FILE")]
        catalog: Option<PathBuf>,
    },
}

#[derive(Subcommand)]
pub(crate) enum MachineVerb {
    /// All machines
    List {
        /// Text anywhere in it
        #[arg(short, long)]
        query: Option<String>,
    },
    /// One machine
    Show { mac: String },
    /// Bind a machine: what is named is changed, a machine that is not known is added
    Set {
        mac: String,
        /// Name of the plan
        #[arg(long)]
        plan: Option<String>,
        /// Name or reference of an image of the catalog; empty for none
        #[arg(long)]
        image: Option<String>,
        /// Serial number of the disk that may be written; empty for none
        #[arg(long)]
        disk: Option<String>,
        /// Labels, in place of those it has
        #[arg(long, value_name = "LABEL")]
        label: Vec<String>,
        /// A parameter of the plan: NAME=VALUE, where the value is JSON or else text
        #[arg(long, value_name = "NAME=VALUE")]
        param: Vec<String>,
        /// Further words on its kernel command line: whoever sets them is root on the target
        #[arg(long)]
        extra_args: Option<String>,
        /// Version of the live environment that it boots; empty for the server's
        #[arg(long, value_name = "VERSION")]
        netboot_version: Option<String>,
        /// Order again, also when nothing changes
        #[arg(long)]
        again: bool,
    },
}

#[derive(Subcommand)]
pub(crate) enum TokenVerb {
    /// All tokens
    List,
    /// Make one; it is shown once
    Create {
        /// What it is for
        name: String,
        /// What it may do: read, machines, catalog, plans, admin
        #[arg(long, required = true)]
        scope: Vec<String>,
        /// It ends after so many days
        #[arg(long)]
        days: Option<u32>,
    },
    /// Revoke one
    Revoke { id: i64 },
}
