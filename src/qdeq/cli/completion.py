"""`qdeq completion`: a script that lets a shell complete commands, options and their values."""

import dataclasses
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import tyro

from qdeq.cli.arguments import option_of
from qdeq.training.checked import plain_type

# In Bash's own words; zsh understands them with its bashcompinit.
_BASH = """\
_qdeq() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}"
    local command="${{COMP_WORDS[1]}}" words=""
    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=($(compgen -W "{commands}" -- "$word"))
        return
    fi
    case "$command $before" in
{values}
    esac
    if [ -z "$words" ] && [ "${{word#-}}" != "$word" ]; then
        case "$command" in
{options}
        esac
    fi
    if [ -n "$words" ]; then
        COMPREPLY=($(compgen -W "$words" -- "$word"))
    else
        COMPREPLY=($(compgen -f -- "$word"))
    fi
}}
complete -o filenames -F _qdeq qdeq
"""

# Its own completion first, which a short ~/.zshrc does not load.
_ZSH = """\
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit -i }
autoload -U +X bashcompinit && bashcompinit
"""


@dataclass(frozen=True)
class CompletionCommand:
    """Print a script that completes commands, options and their values in a shell."""

    shell: Annotated[
        Literal["bash", "zsh", "fish"], tyro.conf.Positional, tyro.conf.arg(metavar="SHELL")
    ]
    """bash: eval "$(qdeq completion bash)" in ~/.bashrc; zsh: the same with zsh in ~/.zshrc; fish:
    qdeq completion fish > ~/.config/fish/completions/qdeq.fish."""

    @classmethod
    def defaults(cls, argv: Sequence[str]) -> None:
        return None

    def execute(self, given: frozenset[str]) -> None:
        from qdeq.cli.main import COMMANDS

        print(script(self.shell, COMMANDS), end="")


def script(shell: str, commands: Mapping[str, Any]) -> str:
    """The text for a shell."""
    words = {name: _words(command) for name, command in commands.items()}
    if shell == "fish":
        return _fish(words)
    values = [
        f'        "{name} {option}") words="{" ".join(known)}" ;;'
        for name, options in words.items()
        for option, known in options.items()
        if known
    ]
    options = [f'            {name}) words="{" ".join(own)}" ;;' for name, own in words.items()]
    text = _BASH.format(
        commands=" ".join(words), values="\n".join(values), options="\n".join(options)
    )
    return f"{_ZSH}{text}" if shell == "zsh" else text


def _fish(words: Mapping[str, Mapping[str, Sequence[str]]]) -> str:
    lines = [f"complete -c qdeq -n __fish_use_subcommand -f -a '{' '.join(words)}'"]
    for name, options in words.items():
        for option, known in options.items():
            line = f"complete -c qdeq -n '__fish_seen_subcommand_from {name}'"
            line += f" -l {option[2:]}"
            line += f" -x -a '{' '.join(known)}'" if known else ""
            lines.append(line)
    return "\n".join(lines) + "\n"


def _words(command: Any) -> dict[str, Sequence[str]]:
    """Options, each with the values that are known."""
    hints = typing.get_type_hints(command, include_extras=True)
    found: dict[str, Sequence[str]] = {}
    for field in dataclasses.fields(command):
        plain = plain_type(hints[field.name])
        known = typing.get_args(plain) if typing.get_origin(plain) is Literal else ()
        if tyro.conf.Positional not in getattr(hints[field.name], "__metadata__", ()):
            found[option_of(field.name)] = known
    return {**found, "--help": ()}
