//! The subcommands of `bty-web` other than `serve`.

use std::process::Output;

use bty_tests::web::{Web, web_path};

use super::pxe::{MAC, add_image};

fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn run(web: &Web, arguments: &[&str], code: i32) -> String {
    let output = web.command(arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", said(&output));
    said(&output)
}

#[test]
fn the_help_matches_its_snapshot() {
    let output = std::process::Command::new(web_path()).arg("--help").output().unwrap();
    insta::assert_snapshot!("help", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn shells_complete_the_command() {
    let output =
        std::process::Command::new(web_path()).args(["completions", "bash"]).output().unwrap();
    assert!(said(&output).contains("simulate-fleet"));
}

#[test]
fn machines_are_assigned_and_simulated_from_a_shell() {
    let web = Web::start();
    add_image(&web);
    let mut shown = run(
        &web,
        &[
            "machine",
            "set",
            MAC,
            "--plan",
            "bty-flash-once",
            "--image",
            "debian",
            "--disk",
            "S1",
            "--label",
            "lab",
        ],
        0,
    );
    shown += &run(&web, &["machine", "list"], 0);
    shown += &run(&web, &["plan", "simulate", MAC], 0);
    shown += &run(&web, &["machine", "set", MAC, "--plan", "bty-rollout"], 2);
    shown += &run(
        &web,
        &[
            "machine",
            "set",
            MAC,
            "--plan",
            "bty-rollout",
            "--param",
            "label=lab",
            "--param",
            "percent=50",
        ],
        0,
    );
    shown += &run(&web, &["machine", "set", MAC, "--image", "fedora"], 2);
    shown += &run(&web, &["machine", "show", "xx"], 2);
    shown += &run(&web, &["machine", "show", "525400000001"], 1);
    insta::assert_snapshot!("machines", shown);
    let before = web.events(MAC).len();
    run(&web, &["machine", "set", MAC, "--plan", "bty-rollout"], 0);
    assert_eq!(web.events(MAC).len(), before, "nothing has changed, and nothing is ordered");
    run(&web, &["machine", "set", MAC, "--again"], 0);
    assert_eq!(web.events(MAC).len(), before + 1);
    let gone = web.command(&["machine", "list", "--server", "127.0.0.1:9"]).output().unwrap();
    assert_eq!(gone.status.code(), Some(1));
    assert!(said(&gone).contains("http://127.0.0.1:9/machines: "), "{}", said(&gone));
}

#[test]
fn images_are_listed_checked_and_deleted_from_a_shell() {
    let web = Web::start();
    add_image(&web);
    run(
        &web,
        &["machine", "set", MAC, "--plan", "bty-flash-once", "--image", "debian", "--disk", "S1"],
        0,
    );
    let list = run(&web, &["image", "list"], 0);
    assert!(
        list.lines().nth(1).is_some_and(|line| line.starts_with("debian  abababababab  -  ")),
        "{list}"
    );
    assert!(run(&web, &["image", "check", "debian"], 1).contains("failed  debian: "));
    assert!(
        run(&web, &["image", "refresh"], 0).contains("0 images checked, 0 with another digest")
    );
    assert!(run(&web, &["image", "check", "fedora"], 1).contains("has no image fedora"));
    let refused = run(&web, &["image", "delete", "debian"], 1);
    assert!(refused.contains("debian is used by 1 machine") && refused.contains(MAC), "{refused}");
    assert_eq!(run(&web, &["image", "delete", "debian", "--force"], 0), "deleted debian\n");
    assert!(run(&web, &["machine", "list"], 0).contains("on hold: its image debian was deleted"));
}

#[test]
fn plans_are_edited_and_compared_from_a_shell() {
    let web = Web::start();
    let file = web.state().join("new.rhai");
    let edit = |text: &str, code: i32| {
        std::fs::write(&file, text).unwrap();
        run(
            &web,
            &["plan", "edit", "mine", "--file", file.to_str().unwrap(), "--note", "a try"],
            code,
        )
    };
    assert_eq!(edit("fn boot(m) { boot_disk() }\n", 0), "saved mine as revision 1\n");
    assert_eq!(edit("fn boot(m) { boot_disk() }\n", 0), "mine is unchanged\n");
    insta::assert_snapshot!("refused_plan", edit("fn boot(m) { boot_dsik() }\n", 2));
    assert_eq!(run(&web, &["plan", "show", "mine"], 0), "fn boot(m) { boot_disk() }\n");
    let edited = web
        .command(&["plan", "edit", "mine"])
        .env("EDITOR", "sed -i s/boot_disk/boot_live/")
        .output()
        .unwrap();
    assert_eq!(said(&edited), "saved mine as revision 2\n");
    let failed = web.command(&["plan", "edit", "mine"]).env("EDITOR", "false").output().unwrap();
    assert!(said(&failed).contains("nothing was saved"), "{}", said(&failed));
    run(&web, &["machine", "set", MAC, "--plan", "mine"], 0);
    std::fs::write(&file, "fn boot(m) { boot_disk() }\n").unwrap();
    let compared =
        run(&web, &["plan", "simulate", "--plan", "mine", "--file", file.to_str().unwrap()], 0);
    assert!(
        compared.contains("disk instead of exit")
            && compared.contains("1 of 1 machine would change"),
        "{compared}"
    );
    let list = run(&web, &["plan", "list"], 0);
    assert!(
        list.contains("bty-flash-once") && list.lines().any(|line| line.starts_with("mine  ")),
        "{list}"
    );
}

#[test]
fn the_configuration_is_checked_and_shown_without_its_secrets() {
    let web = Web::with(&[("BTY_ADMIN_PASSWORD", "s3cret")]);
    assert!(run(&web, &["check-config"], 0).contains("the configuration is valid"));
    let shown = run(&web, &["show-config"], 0);
    assert!(
        shown.contains("password = \"(set)\"  # env(BTY_ADMIN_PASSWORD)")
            && !shown.contains("s3cret"),
        "{shown}"
    );
    let wrong = web.command(&["check-config"]).env("BTY_SERVER_PORT", "http").output().unwrap();
    assert_eq!(wrong.status.code(), Some(2));
    assert!(
        said(&wrong).contains(
            "server.port: expected a port from 1 to 65535, or 0 for a free one, found http \
             (env(BTY_SERVER_PORT))"
        ),
        "{}",
        said(&wrong)
    );
    let taken = web.command(&[]).output().unwrap();
    assert!(said(&taken).contains("cannot listen on"), "{}", said(&taken));
    let mut hash = web.command(&["hash-password"]);
    hash.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut child = hash.spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"s3cret\n").unwrap();
    let hash = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    let other = Web::with(&[("BTY_ADMIN_PASSWORD", hash.trim())]);
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    other.request("POST", "/ui/login", &form, b"password=s3cret").expect(303);
}

#[test]
fn commands_read_the_environment_file_of_the_service() {
    let web = Web::idle(None, &[]);
    let (elsewhere, file) = (tempfile::tempdir().unwrap(), web.state().join("bty-web.env"));
    let state = elsewhere.path().display().to_string();
    let hash = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ$aGFzaA";
    let text = format!(
        "# of the service\nBTY_ADMIN_PASSWORD='{hash}'\nBTY_PATHS_STATE_DIR=\"{state}\"\n\
         BTY_SERVER_PORT=7\n"
    );
    std::fs::write(&file, text).unwrap();
    let command = |arguments: &[&str], env: &[(&str, &str)]| {
        let mut command = std::process::Command::new(web_path());
        command.args(arguments).env_clear().env("BTY_ENV_FILE", &file).envs(env.iter().copied());
        let output = command.output().unwrap();
        (output.status.code().unwrap(), said(&output))
    };
    let (code, checked) = command(&["check-config"], &[]);
    assert!(code == 0 && !checked.contains("warning"), "a password is set: {checked}");
    let (_, shown) = command(&["show-config"], &[("BTY_SERVER_PORT", "8")]);
    assert!(
        shown.contains(&format!(
            "password = \"(set)\"  # env(BTY_ADMIN_PASSWORD) of {}\n",
            file.display()
        )),
        "{shown}"
    );
    assert!(
        shown.contains("port = \"8\"  # env(BTY_SERVER_PORT)\n"),
        "the environment is stronger: {shown}"
    );

    let (code, refused) = command(&["token", "create", "ci", "--scope", "read"], &[]);
    assert!(
        code == 1 && refused.contains(&format!("{state} contains no state of a server; ")),
        "{refused}"
    );
    let mut server = Web::start();
    server.end();
    std::fs::copy(server.state().join("state.db"), elsewhere.path().join("state.db")).unwrap();
    assert_eq!(
        command(&["token", "create", "ci", "--scope", "read"], &[]).0,
        0,
        "in the state of the service"
    );
    assert!(command(&["token", "list"], &[]).1.contains("ci"));

    let config = web.state().join("other.toml");
    std::fs::write(&config, "[server]\nport = 9\nhost = \"127.0.0.1\"\n").unwrap();
    let (_, other) = command(&["show-config", "--config", config.to_str().unwrap()], &[]);
    assert!(
        other.contains("port = \"9\"") && other.contains("password = \"\""),
        "another server's: {other}"
    );

    // root can read every file, so a directory stands in for an unreadable one
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    let (code, warned) = command(&["check-config"], &[("BTY_SERVER_HOST", "127.0.0.1")]);
    assert!(
        code == 0 && warned.contains(&format!("warning: cannot read {}: ", file.display())),
        "{warned}"
    );
}

#[test]
fn commands_never_create_a_state() {
    let web = Web::idle(None, &[]);
    let dir = web.state().join("nowhere");
    for arguments in [
        &["token", "create", "ci", "--scope", "admin"][..],
        &["token", "list"],
        &["token", "revoke", "1"],
        &["export", "/nonexistent/x"],
    ] {
        for dir in [&dir, web.state()] {
            let output = web.command(arguments).env("BTY_PATHS_STATE_DIR", dir).output().unwrap();
            assert_eq!(output.status.code(), Some(1));
            let expected = format!(
                "bty-web: {} contains no state of a server; set BTY_PATHS_STATE_DIR to the \
                 server's state directory, or --config to its configuration\n",
                dir.display()
            );
            assert_eq!(said(&output), expected);
        }
    }
    assert_eq!(std::fs::read_dir(web.state()).unwrap().count(), 0, "nothing was made");
}
