//! `kurc help`: the commands, and the words of the language.

use std::io::{self, IsTerminal as _};

use clap::CommandFactory as _;

use super::args::Cli;
use super::{USAGE, colors_wanted, explain, out};
use crate::diag::did_you_mean;
use crate::model::help::{TOPICS, help, words};

/// Prints the help of a command or topic, or that of kurc.
pub(super) fn print(topic: Option<&str>) -> u8 {
    let mut cli = Cli::command();
    let Some(topic) = topic else { return out(&cli.render_long_help().to_string()) };
    // A command is meant rather than a word of the language.
    let words: Vec<&str> = words().collect();
    if !TOPICS.contains(&topic)
        && let Some(command) = cli.find_subcommand_mut(topic)
    {
        let name = format!("kurc {topic}");
        return out(&command.clone().bin_name(name).render_long_help().to_string());
    }
    if let Some(page) = help(topic) {
        return out(&explain::text(&page, colors_wanted() && io::stdout().is_terminal()));
    }
    say!("error: there is no help about `{topic}`");
    let commands: Vec<String> = cli.get_subcommands().map(|c| c.get_name().to_owned()).collect();
    let known = commands.iter().map(String::as_str).chain(TOPICS.iter().copied()).chain(words);
    match did_you_mean(topic, known) {
        Some(near) => say!("  = help: did you mean `kurc help {near}`?"),
        None => say!("  = help: topics are {}, a word of a Kurfile, or a command", TOPICS.join(", ")),
    }
    USAGE
}
