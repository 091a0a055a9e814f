"""The commands and the top-level help, without importing click: ``ovnk --help`` costs little more than Python."""

from __future__ import annotations

COMMANDS: dict[str, tuple[str, str]] = {
    "completion": ("ovnk_cli.commands.completion", "Print the completion script of a shell."),
    "describe": ("ovnk_cli.commands.objects", "Describe egress firewalls: rules, status, DNS names."),
    "diff": ("ovnk_cli.commands.diff", "What changes between two sets of files: rules, connections, rows."),
    "dns": ("ovnk_cli.commands.dns", "Which addresses a DNS name has, or had at a time."),
    "firewall": ("ovnk_cli.commands.firewall", "Which rule of an egress firewall decides each of many flows."),
    "flows": ("ovnk_cli.commands.show", "List the logical flows that the objects lead to."),
    "get": ("ovnk_cli.commands.objects", "Show egress firewalls with their status."),
    "graph": ("ovnk_cli.commands.show", "Show the rule graph: what is computed from what."),
    "lint": ("ovnk_cli.commands.lint", "Find rules that do nothing, or that deny too much or too little."),
    "matrix": ("ovnk_cli.commands.trace", "Who may talk to whom, for every pair of pods."),
    "purge": ("ovnk_cli.commands.sync", "Remove exactly our rows from a northbound database."),
    "rows": ("ovnk_cli.commands.show", "List the northbound rows that the objects lead to."),
    "sync": ("ovnk_cli.commands.sync", "Make a northbound database hold what the objects declare."),
    "trace": ("ovnk_cli.commands.trace", "What happens to a packet, and which line decides."),
    "validate": ("ovnk_cli.commands.show", "Check objects and say what is wrong, missing or assumed."),
    "version": ("ovnk_cli.commands.version", "Print versions."),
}
"""Name -> (module, one-line help). The module defines the command under the same name."""

SUMMARY = """OVN northbound control plane: manifests in, OVN rows out, and why.

Every command works on files (-f), without a cluster. Results go to stdout, everything else to stderr.
Exit status: 0 fine, 1 refused objects or an answer that differs, 2 usage, 3 unavailable or conflict."""


def help_text(program: str = "ovnk") -> str:
    """What ``ovnk --help`` prints."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, (_, text) in sorted(COMMANDS.items())]
    return "\n".join(
        (
            f"Usage: {program} COMMAND [OPTIONS]",
            "",
            SUMMARY,
            "",
            "Commands:",
            *lines,
            "",
            f"{program} COMMAND --help tells more.",
        )
    )
