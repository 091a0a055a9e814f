"""Settings from where operators write them: a TOML file, the environment, flags. The later of these wins.

Whatever is wrong is told with where it was written, the key, the value, what is wrong and what to write instead; all
faults at once.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, Final

import msgspec

from ovnk_core.errors import OvnkError
from ovnk_core.runtime.dns_query import parse_server
from ovnk_core.store.address import parse_etcd
from ovnk_core.terms.struct import Value
from ovnk_server.listening import LOOPBACK, Listener, parse_endpoint, parse_listener
from ovnk_server.settings import ServerSettings

PREFIX = "OVNK_"
_OTHERS: Final = re.compile(
    # What the command, its clients and tests read; they may be set where a server is started, too.
    "OVNK_(CONFIG|SERVER|NAMESPACE|TLS_(CA|CERT|KEY)|DNS_(SERVER|TIMEOUT)|FAILPOINTS"
    # What Kubernetes tells every container of a service that is called ovnk, or ovnk-something.
    r"|(.+_)?(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(ADDR|PORT|PROTO))?)?))"
)
"""Variables that begin as ours do and are no settings."""


class Fault(Value, frozen=True, kw_only=True):
    """One thing wrong with one setting."""

    where: str
    key: str
    value: str
    reason: str
    fix: str

    def __str__(self) -> str:
        got = f" = {self.value}" if self.value else ""
        return f"{self.where}: {self.key}{got}: {self.reason}; {self.fix}"


class SettingsError(OvnkError):
    """The settings cannot be used, for ``faults``."""

    is_usage = True

    def __init__(self, *faults: Fault) -> None:
        self.faults = faults
        super().__init__("\n".join(map(str, faults)))


class Setting(Value, frozen=True, kw_only=True):
    """One key. ``name`` is dotted, ``type`` what msgspec reads it as, ``says`` its meaning."""

    name: str
    type: Any
    default: Any
    says: str

    @property
    def flag(self) -> str:
        return "--" + self.name.replace(".", "-").replace("_", "-")

    @property
    def variable(self) -> str:
        return PREFIX + self.name.replace(".", "_").upper()

    @property
    def is_list(self) -> bool:
        return isinstance(self.default, tuple)

    @property
    def is_switch(self) -> bool:
        return isinstance(self.default, bool)


class Configured(Value, frozen=True, kw_only=True):
    """Settings, and where each key's value comes from."""

    settings: ServerSettings
    origins: dict[str, str]


@cache
def keys() -> dict[str, Setting]:
    """Every key by dotted name, in the order of the struct."""
    return {each.name: each for each in _keys(ServerSettings, "")}


def _keys(owner: type[msgspec.Struct], prefix: str) -> Iterator[Setting]:
    for field in msgspec.structs.fields(owner):
        name = prefix + field.name
        if isinstance(field.default, msgspec.Struct):
            yield from _keys(type(field.default), f"{name}.")
            continue
        metas = getattr(field.type, "__metadata__", ())
        says = next((meta.description for meta in metas if meta.description), "")
        yield Setting(name=name, type=field.type, default=field.default, says=says)


def configure(
    file: str | None, environ: Mapping[str, str], flags: Mapping[str, str | tuple[str, ...] | bool]
) -> Configured:
    """Everything together. ``flags``: dotted name -> what was given. Raises SettingsError."""
    known, faults = keys(), list[Fault]()
    given: dict[str, tuple[str, Any]] = {}
    if file is not None:
        given |= {name: (file, value) for name, value in _read(file, faults)}
    for name, setting in known.items():
        if setting.variable in environ:
            given[name] = (setting.variable, _text(setting, environ[setting.variable]))
    faults += _unknown_variables(environ)
    given |= {name: (known[name].flag, _text(known[name], value)) for name, value in flags.items()}
    values: dict[str, Any] = {}
    for name, (where, value) in given.items():
        try:
            values[name] = msgspec.convert(value, known[name].type, strict=where == file)
        except msgspec.ValidationError as error:
            reason = str(error).split(" - at ")[0].lower().replace("`", "")
            fix = f"it is: {known[name].says}"
            faults.append(Fault(where=where, key=name, value=_shown(value), reason=reason, fix=fix))
    origins = {name: given[name][0] if name in given else "default" for name in known}
    if not faults:
        _fill(values, environ, faults)
        faults += _contradictions(_built(ServerSettings, "", values), origins)
    if faults:
        raise SettingsError(*faults)
    return Configured(settings=_built(ServerSettings, "", values), origins=origins)


def _read(file: str, faults: list[Fault]) -> Iterator[tuple[str, Any]]:
    try:
        document = tomllib.loads(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        reason, fix = error.strerror or str(error), "give the path of a TOML file"
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        reason, fix = f"is not TOML: {error}", "mend it there"
    else:
        for name, value in _flat(document, ""):
            if name in keys():
                yield name, value
                continue
            fix = _meant(name, keys())
            faults.append(Fault(where=file, key=name, value=_shown(value), reason="there is no such key", fix=fix))
        return
    faults.append(Fault(where=file, key="--config", value="", reason=reason, fix=fix))


def _unknown_variables(environ: Mapping[str, str]) -> Iterator[Fault]:
    known = {setting.variable for setting in keys().values()}
    for name in sorted(environ.keys() - known):
        if name.startswith(PREFIX) and not _OTHERS.fullmatch(name):
            # Without its value: nobody knows what that is for.
            reason, fix = "there is no such setting", _meant(name, known)
            yield Fault(where="environment", key=name, value="", reason=reason, fix=fix)


def _meant(name: str, known: Iterable[str]) -> str:
    close = get_close_matches(name, known, 1)
    return f"perhaps {close[0]} is meant" if close else "ovnk serve --show-config lists every key"


def _flat(table: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        name = prefix + key
        if isinstance(value, dict) and name not in keys():
            yield from _flat(value, f"{name}.")
        else:
            yield name, value


def _text(setting: Setting, value: Any) -> Any:
    if setting.is_list:
        parts = (value,) if isinstance(value, str) else value
        return [part.strip() for text in parts for part in text.split(",") if part.strip()]
    return value


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 80 else text[:80] + "..."


def _built(owner: type[Any], prefix: str, values: Mapping[str, Any]) -> Any:
    parts: dict[str, Any] = {}
    for field in msgspec.structs.fields(owner):
        name = prefix + field.name
        if isinstance(field.default, msgspec.Struct):
            parts[field.name] = _built(type(field.default), f"{name}.", values)
        elif name in values:
            parts[field.name] = values[name]
    return owner(**parts)


# ------------------------------------------------------------------------------------------ who runs it, and where


def _fill(values: dict[str, Any], environ: Mapping[str, str], faults: list[Fault]) -> None:
    """Defaults that depend on the process."""
    is_root = os.geteuid() == 0
    if not values.get("listen"):
        directory = "/run" if is_root else environ.get("XDG_RUNTIME_DIR", "")
        if not directory:
            reason = "XDG_RUNTIME_DIR is not set, so there is no place for the socket"
            faults.append(Fault(where="default", key="listen", value="", reason=reason, fix="pass --listen unix:PATH"))
        values["listen"] = (f"unix:{directory}/ovnk/ovnk.sock",)
    if not values.get("store"):
        home = environ.get("XDG_STATE_HOME") or str(Path(environ.get("HOME", "/nonexistent")) / ".local/state")
        values["store"] = f"sqlite:{'/var/lib' if is_root else home}/ovnk/ovnk.db"
    if not values.get("holder"):
        values["holder"] = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}"


_REMOTE: Final = re.compile(r"unix:.+|(tcp|ssl):(\[[0-9A-Fa-f:.]+\]|[^\s:\[\]]+):[0-9]{1,5}")
_FILES: Final = ("tls.cert", "tls.key", "tls.client_ca")


def _contradictions(settings: ServerSettings, origins: Mapping[str, str]) -> Iterator[Fault]:
    """What is wrong although each key alone is fine."""

    def fault(key: str, value: str, reason: str, fix: str) -> Fault:
        return Fault(where=origins[key], key=key, value=value, reason=reason, fix=fix)

    tls, has_tls = settings.tls, all((settings.tls.cert, settings.tls.key, settings.tls.client_ca))
    listeners: list[Listener] = []
    for text in settings.listen:
        try:
            listeners.append(parse_listener(text))
        except ValueError as error:
            yield fault("listen", text, str(error), "write unix:PATH or tcp:HOST:PORT")
    if len({each.text for each in listeners}) < len(listeners):
        yield fault("listen", ",".join(settings.listen), "names a listener twice", "name each once")
    for each in listeners:
        if each.is_tcp and not has_tls and not settings.insecure_loopback:
            missing = ", ".join(name for name in _FILES if not getattr(tls, name.removeprefix("tls.")))
            yield fault("listen", each.text, f"TCP without {missing}", "set all of tls.cert, tls.key, tls.client_ca")
        if each.is_tcp and not has_tls and settings.insecure_loopback and each.host not in LOOPBACK:
            fix = f"use one of {', '.join(LOOPBACK)}, or TLS"
            yield fault("listen", each.text, "insecure_loopback is for loopback addresses only", fix)
    if any((tls.cert, tls.key, tls.client_ca)) and not has_tls:
        yield fault("tls.cert", tls.cert, "only some of tls.cert, tls.key, tls.client_ca are set", "set all, or none")
    try:
        _check_store(settings.store)
    except ValueError as error:
        fix = "write sqlite:PATH, etcd:HOST:PORT,... or memory"
        yield fault("store", settings.store, str(error), fix)
    for database, name in ((settings.northbound, "northbound"), (settings.southbound, "southbound")):
        for remote in filter(None, database.address.split(",")):
            if not _REMOTE.fullmatch(remote.strip()) and not (remote == "memory" and name == "northbound"):
                fix = "write unix:PATH, tcp:HOST:PORT or ssl:HOST:PORT"
                yield fault(f"{name}.address", remote, "is no address of a database server", fix)
        files = (database.ca, database.cert, database.key)
        if any(files) and not all(files):
            fix = f"set all of {name}.ca, {name}.cert and {name}.key"
            yield fault(f"{name}.address", database.address, "only some of its TLS files are set", fix)
    yield from _odd(settings, fault)


def _odd(settings: ServerSettings, fault: Callable[[str, str, str, str], Fault]) -> Iterator[Fault]:
    """What is wrong with the rest."""
    for text in settings.dns.servers:
        try:
            parse_server(text)
        except ValueError as error:
            yield fault("dns.servers", text, str(error), "as in 192.0.2.1:53")
    if settings.limits.large_message_bytes < settings.limits.message_bytes:
        shown = str(settings.limits.large_message_bytes)
        yield fault("limits.large_message_bytes", shown, "is less than limits.message_bytes", "raise it")
    if settings.telemetry.metrics:
        try:
            parse_endpoint(settings.telemetry.metrics)
        except ValueError as error:
            yield fault("telemetry.metrics", settings.telemetry.metrics, str(error), "as in 127.0.0.1:9310")


def _check_store(text: str) -> None:
    """Raises ValueError. The log itself is not made here: that may load grpc, which is not configured yet."""
    scheme, _, rest = text.partition(":")
    if scheme == "etcd":
        parse_etcd(rest)
    elif text != "memory" and not (scheme == "sqlite" and rest):
        raise ValueError("is no store")


def show(configured: Configured) -> str:
    """Every key with its effective value, as a TOML file, and where the value comes from."""
    lines: list[str] = []
    table = ""
    for name in keys():
        head, _, last = name.rpartition(".")
        if head != table:
            lines += ["", f"[{head}]"]
            table = head
        value: Any = configured.settings
        for part in name.split("."):
            value = getattr(value, part)
        shown = json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)
        lines.append(f"{last} = {shown}  # {configured.origins[name]}")
    return "\n".join(lines) + "\n"
