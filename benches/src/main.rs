//! `pieces`: names all pieces; `pieces NAME TIMES`: runs one of them, for a program that counts instructions.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut pieces = vivarium_benches::all();
    if arguments.is_empty() {
        for piece in pieces {
            println!("{}", piece.name);
        }
        return ExitCode::SUCCESS;
    }
    let [name, times] = &arguments[..] else { return usage() };
    let Ok(times) = times.parse::<u32>() else { return usage() };
    let Some(piece) = pieces.iter_mut().find(|piece| piece.name == name) else { return usage() };
    for _ in 0..times {
        piece.run();
    }
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    eprintln!("usage: pieces [NAME TIMES]; without arguments it lists the names");
    ExitCode::from(2)
}
