//! The moon-server program.

use moon_server::config::{self, Outcome};
use moon_server::startup;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Exit code of a configuration that is not understood or not supported.
const CONFIG_ERROR_EXIT_CODE: i32 = 1;

fn main() {
    let args: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|a| a.to_string_lossy().into_owned())
        .collect();
    let loaded = match config::load(&args) {
        Ok(Outcome::Run(loaded)) => *loaded,
        Ok(Outcome::Print(text)) => {
            print!("{text}");
            return;
        }
        Err(error) => {
            eprintln!("{error}");
            std::process::exit(CONFIG_ERROR_EXIT_CODE);
        }
    };
    match startup::check(&loaded.config, |_| Ok(())) {
        Ok(checked) => {
            for note in loaded.notes.iter().chain(&checked.notes) {
                println!("{note}");
            }
            println!("{}", loaded.config.durability_line());
        }
        Err(refusal) => {
            eprintln!("{refusal}");
            std::process::exit(startup::REFUSED_EXIT_CODE);
        }
    }
}
