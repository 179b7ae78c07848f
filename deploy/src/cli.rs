//! Commands and options.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, CommandFactory as _, Parser, Subcommand};

/// Deploys, upgrades, checks and removes a bty site in containers.
#[derive(Parser)]
#[command(name = "bty-lab", version, max_term_width = 100, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  bty-lab deploy                       deploy to ./bty-host, with local container images
  bty-lab deploy /srv/bty --images bty-images-x86_64-v0.1.0.tar.zst      from an archive, offline
  bty-lab doctor /srv/bty              find problems, and what to do about them
  sudo bty-lab doctor --dhcp eth0      test DHCP on that network too
  bty-lab upgrade /srv/bty             upgrade to the version of this command
  bty-lab upgrade /srv/bty --back      go back to the previous version and its data
  bty-lab purge /srv/bty --all         remove the site and all of its data

Exit codes: 0 success, no problems found; 1 failure, or problems found; 2 invalid command line.";

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Write the files of a site, and start nothing
    Init(Init),
    /// Write missing files, and start or restart the site
    Deploy(Deploy),
    /// Upgrade a site to the version of this command; a failed upgrade is rolled back
    Upgrade(Upgrade),
    /// Print every value of the site's configuration, and where it comes from
    ShowConfig(ShowConfig),
    /// Stop a site and remove it; lists what will be deleted, and asks first
    Purge(Purge),
    /// Find common problems of a site, and print what to do about each
    Doctor(Doctor),
    /// Print shell completions: bty-lab completions bash >/etc/bash_completion.d/bty-lab
    Completions {
        /// Shell to print completions for
        shell: clap_complete::Shell,
    },
}

/// Location of a site.
#[derive(Args, Clone)]
pub(crate) struct SiteArgs {
    /// Directory of the site
    #[arg(default_value = "./bty-host")]
    pub(crate) dest: PathBuf,
    /// Directory of its data [default: DEST/data]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
}

/// Settings of a new site.
#[derive(Args, Clone)]
pub(crate) struct NewSiteArgs {
    /// Address at which machines reach this host [default: the address of the default route]
    #[arg(long, value_name = "IP")]
    pub(crate) host_addr: Option<IpAddr>,
    /// Source of container images: localhost, or REGISTRY/PREFIX to pull from
    #[arg(long, value_name = "PREFIX")]
    pub(crate) prefix: Option<String>,
}

#[derive(Args)]
pub(crate) struct Init {
    #[command(flatten)]
    pub(crate) place: SiteArgs,
    #[command(flatten)]
    pub(crate) new: NewSiteArgs,
    /// Print the compose file, and write nothing
    #[arg(long)]
    pub(crate) print: bool,
    /// Overwrite existing files, except settings and data
    #[arg(long)]
    pub(crate) force: bool,
    /// Write systemd units (Quadlet) too
    #[arg(long)]
    pub(crate) systemd: bool,
}

#[derive(Args)]
pub(crate) struct Deploy {
    #[command(flatten)]
    pub(crate) place: SiteArgs,
    #[command(flatten)]
    pub(crate) new: NewSiteArgs,
    /// An archive of images to load, as `make images` makes it
    #[arg(long, value_name = "FILE")]
    pub(crate) images: Option<PathBuf>,
    /// Overwrite existing files, except settings and data
    #[arg(short, long)]
    pub(crate) force: bool,
}

#[derive(Args)]
pub(crate) struct Upgrade {
    #[command(flatten)]
    pub(crate) place: SiteArgs,
    /// An archive of images to load, as `make images` makes it
    #[arg(long, value_name = "FILE")]
    pub(crate) images: Option<PathBuf>,
    /// Go back to the version before the last upgrade, and to its data
    #[arg(long)]
    pub(crate) back: bool,
}

#[derive(Args)]
pub(crate) struct ShowConfig {
    /// Directory of the site
    #[arg(default_value = "./bty-host")]
    pub(crate) dest: PathBuf,
    /// Read this file, or *.toml in this directory, instead of the site's; may be repeated
    #[arg(long, value_name = "PATH")]
    pub(crate) config: Vec<PathBuf>,
}

#[derive(Args)]
pub(crate) struct Purge {
    #[command(flatten)]
    pub(crate) place: SiteArgs,
    /// Delete the data: machines, plans, events, cached images
    #[arg(long)]
    pub(crate) data: bool,
    /// Remove the container images
    #[arg(long)]
    pub(crate) images: bool,
    /// Delete everything: data, images, and DEST
    #[arg(long)]
    pub(crate) all: bool,
    /// Do not ask for confirmation
    #[arg(short, long)]
    pub(crate) yes: bool,
}

#[derive(Args)]
pub(crate) struct Doctor {
    #[command(flatten)]
    pub(crate) place: SiteArgs,
    /// Test DHCP on this network interface; needs root, takes no lease
    #[arg(long, value_name = "INTERFACE")]
    pub(crate) dhcp: Option<String>,
    /// Print the findings as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) fn completions(shell: clap_complete::Shell) {
    clap_complete::generate(shell, &mut Cli::command(), "bty-lab", &mut std::io::stdout());
}
