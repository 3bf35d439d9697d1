//! What clap_complete's scripts lack: the items of `--option` after a comma, the words below a command, and processes.

use clap_complete::Shell;
use topology::option::TABLE;

/// The name that the program is called by.
pub(crate) const PROGRAM: &str = "gpu-numa";

/// Commands that take the numbers of processes.
const OF_PROCESSES: [&str; 2] = ["verify", "heal"];

/// Bash: items behind a comma, and items that hold "=", at which readline ends a word (COMP_WORDBREAKS); the user's processes.
const BASH: &str = r#"
_gpu__numa__items() {
    local line whole last cut
    line="${COMP_LINE:0:COMP_POINT}"
    whole="${line##*[[:space:]]}"
    cut="${whole%"${whole##*=}"}"
    case "${whole}" in
        --option=*) whole="${whole#--option=}" ;;
        *) [[ "${line%"${whole}"}" =~ [[:space:]]--option[[:space:]]+$ ]] || return 1 ;;
    esac
    last="${whole##*,}"
    COMPREPLY=($(compgen -P "${whole%"${last}"}" -W "ITEMS" -- "${last}"))
    [[ "${whole}" == "${line##*[[:space:]]}" ]] || cut="${cut#--option=}"
    if [[ "${COMP_WORDBREAKS}" == *=* ]]; then
        COMPREPLY=("${COMPREPLY[@]#"${cut}"}")
    elif [[ "${whole}" != "${line##*[[:space:]]}" ]]; then
        COMPREPLY=("${COMPREPLY[@]/#/--option=}")
    fi
}
_gpu__numa__pids() {
    local folder
    for folder in /proc/[0-9]*; do
        [[ ! -O "${folder}" ]] || printf '%s ' "${folder#/proc/}"
    done
}
"#;

/// Zsh: items behind a comma.
const ZSH: &str = r"
_gpu-numa_items() {
    local -a items
    items=(ITEMS)
    compset -P '*,'
    _describe -t items 'item' items
}
";

/// Fish: items behind a comma.
const FISH: &str = r#"
function __fish_gpu_numa_items
    set -l before (commandline -ct | string replace -r '^--option=' '' | string match -r '^.*,')
    printf '%s\t%s\n' ITEMS | string replace -r -- '^' "$before"
end
"#;

/// The script that clap_complete wrote, completed.
pub(crate) fn finish(shell: Shell, script: &str) -> String {
    match shell {
        Shell::Bash => bash(script),
        Shell::Zsh => {
            let script = replaced(
                script,
                ":ITEM,...:((off\\:",
                "))'",
                ":ITEM,...:_gpu-numa_items'",
            );
            let items = TABLE.iter().map(|row| {
                format!(
                    "\n        {}",
                    quoted(&format!("{}:{}", row.word, row.meaning.replace(':', "\\:")))
                )
            });
            let own = ZSH.replace("ITEMS", &items.collect::<String>());
            let script: String = script.lines().map(zsh_line).collect();
            // The call of the completing function is the last thing in the file.
            match script.rfind("\nif [ \"$funcstack[1]\"") {
                Some(at) => {
                    let (before, after) = script.split_at(at);
                    format!("{before}{own}{after}")
                }
                None => script + &own,
            }
        }
        Shell::Fish => {
            let script = replaced(
                script,
                "-a \"off\\t",
                "'\"\n",
                "-a '(__fish_gpu_numa_items)'\n",
            );
            let items = TABLE.iter().map(|row| {
                format!(
                    " {} {}",
                    row.word,
                    quoted(row.meaning).replace("'\\''", "\\'")
                )
            });
            let pids = OF_PROCESSES.map(|command| {
                format!(
                    "complete -c gpu-numa -n \"__fish_gpu_numa_using_subcommand {command}\" -f -a '(__fish_complete_pids)'\n"
                )
            });
            script + &FISH.replace("ITEMS", &items.collect::<String>()) + &pids.concat()
        }
        Shell::Elvish | Shell::PowerShell | _ => script.to_owned(),
    }
}

/// With one spelling of the program's name: clap_complete 4.6 looks for the words below a command under another one where
/// the name has a hyphen, and so never finds any.
fn bash(script: &str) -> String {
    let (set, asked) = (
        PROGRAM.replace('-', "__"),
        PROGRAM.replace('-', "__subcmd__"),
    );
    let words: Vec<&str> = TABLE.iter().map(|row| row.word).collect();
    let mut script = script.replace(&asked, &set).replacen(
        "    opts=\"\"\n",
        "    opts=\"\"\n    _gpu__numa__items && return 0\n",
        1,
    );
    for command in OF_PROCESSES {
        let begin = format!(" {set}__subcmd__{command})\n            opts=\"");
        script = script.replacen(&begin, &format!("{begin}$(_gpu__numa__pids)"), 1);
    }
    script + &BASH.replace("ITEMS", &words.join(" "))
}

/// A line of zsh's script, with processes where it names a PID.
fn zsh_line(line: &str) -> String {
    let ending = ":' \\";
    match line.strip_suffix(ending) {
        Some(before) if line.starts_with("'*::pid -- ") => format!("{before}:_pids' \\\n"),
        Some(_) | None => format!("{line}\n"),
    }
}

/// A word as a shell of Bourne's kind reads it.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// `script` with `new` in place of whatever goes from `from` to the next `to`, wherever that is.
fn replaced(script: &str, from: &str, to: &str, new: &str) -> String {
    let mut text = String::with_capacity(script.len());
    let mut rest = script;
    while let Some((before, after)) = rest.split_once(from) {
        let Some((_, after)) = after.split_once(to) else {
            break;
        };
        text.push_str(before);
        text.push_str(new);
        rest = after;
    }
    text + rest
}
