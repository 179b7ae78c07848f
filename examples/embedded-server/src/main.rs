//! A program with a bty server inside: it serves below `/bty` on a free port, decides what a
//! machine boots, and stops.
//!
//!     cargo run --manifest-path examples/embedded-server/Cargo.toml -- STATE_DIR

use std::process::ExitCode;

use bty_web::{Config, Result, Server, ServerClient, worker};

fn main() -> ExitCode {
    // plans run in processes of their own, and this program is their program too
    if worker::is_requested() {
        return worker::serve();
    }
    let Some(state) = std::env::args().nth(1) else {
        eprintln!("usage: embedded-server STATE_DIR");
        return ExitCode::from(2);
    };
    let runtime = tokio::runtime::Runtime::new().expect("threads can be started");
    match runtime.block_on(run(&state)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(state: &str) -> Result<()> {
    let config = Config::from_values([("paths.state_dir", state), ("server.host", "127.0.0.1")])?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let base = format!("http://{}/bty", listener.local_addr()?);
    let builder = Server::builder().config(config).base_path("/bty").listener(listener);
    let server = builder.worker(worker::this_program).start().await?;

    // what the firmware of a machine requests, and then its live environment
    let client = ServerClient::new(&base, None)?;
    let script = client.get("/pxe/52-54-00-00-00-01").await?;
    let plan = client.get("/pxe/52-54-00-00-00-01/plan").await?;
    println!("{}\n{}", script.as_str().unwrap_or_default(), plan.as_str().unwrap_or_default());

    server.stop().await?;
    println!("stopped");
    Ok(())
}
