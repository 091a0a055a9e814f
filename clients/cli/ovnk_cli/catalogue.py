"""The commands and the top-level help, without importing click: ``ovnk --help`` costs little more than Python."""

from __future__ import annotations

COMMANDS: dict[str, tuple[str, str]] = {
    "annotate": ("ovnk_cli.commands.mark", "Set and remove annotations of objects on a server."),
    "annotations": ("ovnk_cli.commands.annotations", "Annotations for nodes and pods, to be written back."),
    "apply": ("ovnk_cli.commands.change", "Make a server's objects what files state, all or none."),
    "completion": ("ovnk_cli.commands.completion", "Print the completion script of a shell."),
    "create": ("ovnk_cli.commands.change", "Create the objects of files on a server, all or none."),
    "delete": ("ovnk_cli.commands.change", "Delete objects from a server, all or none."),
    "describe": ("ovnk_cli.commands.objects", "Describe objects: what they say, and what became of it."),
    "diff": ("ovnk_cli.commands.diff", "What an edit changes: rules, connections, rows."),
    "dns": ("ovnk_cli.commands.dns", "Which addresses a DNS name has, or had at a time."),
    "drain": ("ovnk_cli.commands.drain", "Take the egress IPs off a node on a server, before it is rebooted."),
    "edit": ("ovnk_cli.commands.mark", "Change an object on a server in an editor."),
    "egressip": ("ovnk_cli.commands.egressip", "Which node holds which egress IP, and why some are on none."),
    "egressrouter": ("ovnk_cli.commands.egressrouter", "What egress router pods do: routes, redirects, nft rules."),
    "events": ("ovnk_cli.commands.follow", "What happened lately on a server."),
    "firewall": ("ovnk_cli.commands.firewall", "Which rule of an egress firewall decides each of many flows."),
    "flows": ("ovnk_cli.commands.show", "List the logical flows that the objects lead to."),
    "get": ("ovnk_cli.commands.objects", "Show objects as they stand."),
    "graph": ("ovnk_cli.commands.show", "Show the rule graph: what is computed from what."),
    "ipsec": ("ovnk_cli.commands.ipsec", "Certificates of nodes for IPsec: authority, signing, status."),
    "label": ("ovnk_cli.commands.mark", "Set and remove labels of objects on a server."),
    "lint": ("ovnk_cli.commands.lint", "Find egress objects that do nothing, too much, too little or harm."),
    "matrix": ("ovnk_cli.commands.trace", "Who may talk to whom, for every pair of pods."),
    "patch": ("ovnk_cli.commands.mark", "Change fields of an object on a server."),
    "plan": ("ovnk_cli.commands.change", "What apply would change on a server."),
    "purge": ("ovnk_cli.commands.sync", "Remove exactly our rows from a northbound database."),
    "replace": ("ovnk_cli.commands.change", "Replace objects on a server by those of files, all or none."),
    "report": ("ovnk_cli.commands.drain", "Tell a server that nodes answer, or do not: NODE=up, NODE=down."),
    "rows": ("ovnk_cli.commands.show", "List the northbound rows that the objects lead to."),
    "serve": ("ovnk_cli.commands.serve", "Serve the API: keep objects, program the northbound, answer questions."),
    "status": ("ovnk_cli.commands.follow", "How far changes have come on a server, and who writes."),
    "store": ("ovnk_cli.commands.store", "Verify, export and import the store of a server."),
    "sync": ("ovnk_cli.commands.sync", "Make a northbound database hold what the objects declare."),
    "trace": ("ovnk_cli.commands.trace", "What happens to a packet, and which line decides."),
    "uncordon": ("ovnk_cli.commands.drain", "Let a node on a server hold egress IPs again."),
    "validate": ("ovnk_cli.commands.show", "Check objects and say what is wrong, missing or assumed."),
    "version": ("ovnk_cli.commands.version", "Print versions."),
    "wait": ("ovnk_cli.commands.follow", "Wait for objects, or for a revision to arrive."),
    "watch": ("ovnk_cli.commands.objects", "Follow changes on a server."),
}
"""Name -> (module, one-line help). The module defines the command under the same name."""

SUMMARY = """OVN northbound control plane: manifests in, OVN rows out, and why.

Questions are asked of files (-f), without a cluster, or of a server (--server ADDRESS, or OVNK_SERVER), which keeps
objects and takes changes. Results go to stdout, everything else to stderr.
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
