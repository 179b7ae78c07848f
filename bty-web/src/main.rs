//! The `bty-web` command.

fn main() -> std::process::ExitCode {
    bty_web::command::main()
}
