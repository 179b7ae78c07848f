//! What the command understands.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, CommandFactory as _, Parser, Subcommand};

/// From nothing to a running bty site.
#[derive(Parser)]
#[command(name = "bty-lab", version, max_term_width = 100, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  bty-lab deploy                       a site in ./bty-host, with the images that are on this machine
  bty-lab deploy /srv/bty --images bty-images-x86_64-v0.1.0.tar.zst      from an archive, offline
  bty-lab doctor /srv/bty              what is wrong with it, and what to do
  sudo bty-lab doctor --dhcp eth0      and what DHCP tells machines on that network
  bty-lab upgrade /srv/bty             to the version of this command
  bty-lab upgrade /srv/bty --back      and back to the one before, with its data
  bty-lab purge /srv/bty --all         end it, and delete everything

Exit codes: 0 done, or nothing to complain about; 1 it failed, and says why; 2 the command is wrong.";

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Write the files of a site, and start nothing
    Init(Init),
    /// Write the files that are missing, and start the site
    Deploy(Deploy),
    /// Take a site to the version of this command; goes back by itself when that does not work
    Upgrade(Upgrade),
    /// Print every value of the site's configuration, and where it comes from
    ShowConfig(ShowConfig),
    /// Stop a site and remove it; says what it will delete, and asks
    Purge(Purge),
    /// Look for what goes wrong in practice, and say what to do
    Doctor(Doctor),
    /// Print completions for a shell: bty-lab completions bash >/etc/bash_completion.d/bty-lab
    Completions {
        /// For which shell
        shell: clap_complete::Shell,
    },
}

/// Where a site is, and what is not the usual about it.
#[derive(Args, Clone)]
pub(crate) struct Place {
    /// Directory of the site
    #[arg(default_value = "./bty-host")]
    pub(crate) dest: PathBuf,
    /// Directory of its data, when that is not DEST/data
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
}

/// What a new site is made with.
#[derive(Args, Clone)]
pub(crate) struct New {
    /// Address at which machines reach this host; else that of the way out
    #[arg(long, value_name = "IP")]
    pub(crate) host_addr: Option<IpAddr>,
    /// Where images are: localhost, or REGISTRY/PREFIX to have them pulled from there
    #[arg(long, value_name = "PREFIX")]
    pub(crate) prefix: Option<String>,
}

#[derive(Args)]
pub(crate) struct Init {
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(flatten)]
    pub(crate) new: New,
    /// Print the compose file, and write nothing
    #[arg(long)]
    pub(crate) print: bool,
    /// Write over files that are there. Settings and data stay
    #[arg(long)]
    pub(crate) force: bool,
    /// Write units for Quadlet too
    #[arg(long)]
    pub(crate) systemd: bool,
}

#[derive(Args)]
pub(crate) struct Deploy {
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(flatten)]
    pub(crate) new: New,
    /// An archive of images to load, as `make images` makes it
    #[arg(long, value_name = "FILE")]
    pub(crate) images: Option<PathBuf>,
    /// Write over files that are there. Settings and data stay
    #[arg(short, long)]
    pub(crate) force: bool,
}

#[derive(Args)]
pub(crate) struct Upgrade {
    #[command(flatten)]
    pub(crate) place: Place,
    /// An archive of images to load, as `make images` makes it
    #[arg(long, value_name = "FILE")]
    pub(crate) images: Option<PathBuf>,
    /// Go back to the version before the last upgrade, with the data that it had
    #[arg(long)]
    pub(crate) back: bool,
}

#[derive(Args)]
pub(crate) struct ShowConfig {
    /// Directory of the site
    #[arg(default_value = "./bty-host")]
    pub(crate) dest: PathBuf,
    /// A file, or a directory of *.toml, that is read instead of the site's; may be repeated
    #[arg(long, value_name = "PATH")]
    pub(crate) config: Vec<PathBuf>,
}

#[derive(Args)]
pub(crate) struct Purge {
    #[command(flatten)]
    pub(crate) place: Place,
    /// Delete its data: machines, plans, events, cached images
    #[arg(long)]
    pub(crate) data: bool,
    /// Remove its container images
    #[arg(long)]
    pub(crate) images: bool,
    /// Delete everything: data, images, and DEST
    #[arg(long)]
    pub(crate) all: bool,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
}

#[derive(Args)]
pub(crate) struct Doctor {
    #[command(flatten)]
    pub(crate) place: Place,
    /// Ask DHCP on this network interface what it tells machines; needs root, takes no address
    #[arg(long, value_name = "INTERFACE")]
    pub(crate) dhcp: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) fn completions(shell: clap_complete::Shell) {
    clap_complete::generate(shell, &mut Cli::command(), "bty-lab", &mut std::io::stdout());
}
