//! The `kurc` program: everything happens in [`kurc::cli`].

fn main() -> std::process::ExitCode {
    kurc::cli::main()
}
