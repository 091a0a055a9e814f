"""Settings: precedence, faults that say where, what, why and what instead, and what is shown."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from click import Context
from ovnk_cli.cli import cli
from ovnk_server.configure import Configured, SettingsError, configure, keys, show

BASE = {"XDG_RUNTIME_DIR": "/run/user/1", "HOME": "/nonexistent"}


def _file(tmp_path: Path, text: str) -> str:
    path = tmp_path / "ovnk.toml"
    path.write_text(text)
    return str(path)


def _value(configured: Configured, name: str) -> Any:
    value: Any = configured.settings
    for part in name.split("."):
        value = getattr(value, part)
    return value


def test_flags_win_over_the_environment_over_the_file_over_defaults(tmp_path: Path) -> None:
    file = _file(tmp_path, "[limits]\ncalls = 1\nconnections = 1\ncalls_per_second = 1\n")
    environ = {**BASE, "OVNK_LIMITS_CALLS": "2", "OVNK_LIMITS_CONNECTIONS": "2"}
    found = configure(file, environ, {"limits.calls": "3"})
    limits = found.settings.limits
    assert (limits.calls, limits.connections, limits.calls_per_second, limits.call_s) == (3, 2, 1, 30.0)
    origins = [found.origins[f"limits.{name}"] for name in ("calls", "connections", "calls_per_second", "call_s")]
    assert origins == ["--limits-calls", "OVNK_LIMITS_CONNECTIONS", file, "default"]


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("read_only", "true", True),
        ("read_only", "0", False),
        ("limits.call_s", "1.5", 1.5),
        ("dns.servers", "192.0.2.1, 192.0.2.2:53", ("192.0.2.1", "192.0.2.2:53")),
        ("log.level", "debug", "debug"),
        ("holder", "here", "here"),
    ],
)
def test_text_becomes_what_the_key_is(name: str, text: str, value: object) -> None:
    assert _value(configure(None, {**BASE, keys()[name].variable: text}, {}), name) == value


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("listn = ['unix:/a']", "listn = .*there is no such key; perhaps listen is meant"),
        ("[limits]\ncalls = 'many'", r"limits.calls = \"many\": expected int, got str; it is: Calls"),
        ("[limits]\ncalls = 0", "limits.calls = 0: expected int >= 1"),
        ("[log]\nlevel = 'loud'", r"log.level = \"loud\": invalid enum value"),
        ("[limits]\ncalls = 1\n[limits]", "is not TOML"),
        ("read_only = 'true'", "read_only = .*expected bool"),
        ("store = 'disk:/x'", "store = disk:/x: is no store; write sqlite:PATH"),
        ("store = 'etcd:here'", "store = etcd:here: .*HOST:PORT"),
        ("[northbound]\naddress = 'tcp:here'", "northbound.address = tcp:here: is no address"),
        ("[northbound]\naddress = 'unix:/x'\nca = '/x'", "only some of its TLS files are set"),
        ("[dns]\nservers = ['dns.example']", "dns.servers = dns.example: not the address"),
        ("[telemetry]\nmetrics = 'here:http'", "telemetry.metrics = here:http: the port must be"),
        ("[limits]\nmessage_bytes = 2048\nlarge_message_bytes = 1024", "is less than limits.message_bytes"),
        ("listen = ['unix:relative']", "the path of a socket must be absolute"),
        (f"listen = ['unix:/{'x' * 120}']", "at most 107 bytes"),
        ("listen = ['unix:/a', 'unix:/a']", "names a listener twice"),
        ("listen = ['tcp:0.0.0.0:1']", "TCP without tls.cert, tls.key, tls.client_ca"),
        ("listen = ['tcp:127.0.0.1:1']\n[tls]\ncert = '/a'\nkey = '/b'", "TCP without tls.client_ca"),
        ("listen = ['tcp:10.0.0.1:1']\ninsecure_loopback = true", "for loopback addresses only"),
    ],
)
def test_a_fault_names_file_key_value_reason_and_fix(tmp_path: Path, text: str, told: str) -> None:
    file = _file(tmp_path, text)
    with pytest.raises(SettingsError, match=told) as caught:
        configure(file, BASE, {})
    assert str(caught.value).startswith(file)
    assert all(fault.fix for fault in caught.value.faults)


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        configure(_file(tmp_path, "a = 1\n[limits]\ncalls = 0\n"), {**BASE, "OVNK_READ_ONLY": "maybe"}, {})
    assert [fault.where for fault in caught.value.faults][-1] == "OVNK_READ_ONLY"
    assert len(caught.value.faults) == 3


def test_a_missing_file_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nothing.toml: --config: No such file"):
        configure(str(tmp_path / "nothing.toml"), BASE, {})


def test_insecure_tcp_on_loopback_needs_its_switch() -> None:
    flags: dict[str, Any] = {"listen": ("tcp:127.0.0.1:0",), "insecure_loopback": True}
    assert configure(None, BASE, flags).settings.listen == ("tcp:127.0.0.1:0",)


def test_what_depends_on_the_process_is_filled_in() -> None:
    one, two = configure(None, BASE, {}).settings, configure(None, BASE, {}).settings
    assert one.listen[0].startswith("unix:/") and one.store.startswith("sqlite:/")
    assert one.holder and one.holder != two.holder


def test_what_is_shown_is_a_file_that_says_the_same(tmp_path: Path) -> None:
    found = configure(None, BASE, {"limits.calls": "9", "dns.servers": ("192.0.2.1",), "holder": "here"})
    text = show(found)
    assert "calls = 9  # --limits-calls" in text
    assert len(tomllib.loads(text)) > 5
    assert configure(_file(tmp_path, text), BASE, {}).settings == found.settings


def test_every_key_says_what_it_means() -> None:
    assert len(keys()) > 40
    assert all(len(each.says) > 10 for each in keys().values())


def test_the_page_for_operators_has_every_key_and_default() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "server.md").read_text()
    for each in keys().values():
        default = json.dumps(list(each.default) if isinstance(each.default, tuple) else each.default)
        assert f"| `{each.name}` | `{default}` | {each.says} |" in page


@pytest.mark.parametrize(
    ("variable", "told"),
    [
        ("OVNK_LIMITS_CALLZ", "OVNK_LIMITS_CALLZ: there is no such setting; perhaps OVNK_LIMITS_CALLS is meant"),
        ("OVNK_QQQQQ", "there is no such setting; ovnk serve --show-config lists every key"),
    ],
)
def test_a_variable_that_looks_like_a_setting_and_is_none(variable: str, told: str) -> None:
    with pytest.raises(SettingsError) as found:
        configure(None, {**BASE, variable: "3"}, {})
    assert str(found.value).startswith("environment: ") and told in str(found.value)


def test_variables_of_others_are_passed_over() -> None:
    """Those of every command, and those that Kubernetes makes of a service called ovnk."""
    commands = [command for name in cli.list_commands(Context(cli)) if (command := cli.get_command(Context(cli), name))]
    every = [each for command in commands for each in (command, *getattr(command, "commands", {}).values())]
    ours = {name for each in every for param in each.params if isinstance(name := param.envvar, str)}
    assert {"OVNK_SERVER", "OVNK_NAMESPACE", "OVNK_TLS_CA", "OVNK_DNS_TIMEOUT", "OVNK_CONFIG", "OVNK_STORE"} <= ours
    links = {
        "OVNK_SERVICE_HOST",
        "OVNK_SERVICE_PORT",
        "OVNK_SERVICE_PORT_GRPC",
        "OVNK_PORT",
        "OVNK_PORT_7443_TCP",
        "OVNK_PORT_7443_TCP_ADDR",
        "OVNK_METRICS_SERVICE_HOST",
        "OVNK_METRICS_PORT_9310_TCP_PROTO",
    }
    settings = {setting.variable for setting in keys().values()}
    configure(None, {**BASE, "OVNK_FAILPOINTS": "", **dict.fromkeys((ours | links) - settings, "x")}, {})
