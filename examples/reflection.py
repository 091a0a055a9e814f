"""Call the service without generated code: the server describes its messages itself.

    python examples/reflection.py unix:/run/ovnk/ovnk.sock
    python examples/reflection.py unix:/run/ovnk/ovnk.sock ovnk_api.v1.ObjectService/Get \
        '{"reference": {"kind": "Namespace", "name": "shop"}}'

Without a method it lists all of them. Each argument after the method is one request as JSON, each line of output one
answer. What fails is one line on stderr and exit status 1. Needs grpcio, grpcio-reflection and protobuf; the same steps
work in every language that has these three.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase


def methods(channel: grpc.Channel) -> Iterator[str]:
    """Every method of the server, as SERVICE/METHOD."""
    database = ProtoReflectionDescriptorDatabase(channel)
    pool = DescriptorPool(database)
    for name in sorted(database.get_services()):
        if name.startswith("grpc."):
            continue  # health and reflection itself, whose descriptions need not be there
        for method in pool.FindServiceByName(name).methods:
            yield f"{name}/{method.name}"


def call(channel: grpc.Channel, method: str, requests: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The answers of one method, as they come. Raises grpc.RpcError, KeyError (no such method), ParseError."""
    service, _, name = method.partition("/")
    pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
    found = pool.FindServiceByName(service).methods_by_name[name]
    asks = GetMessageClass(found.input_type)
    way = f"{'stream' if found.client_streaming else 'unary'}_{'stream' if found.server_streaming else 'unary'}"
    remote = getattr(channel, way)(
        f"/{method}",
        request_serializer=asks.SerializeToString,
        response_deserializer=GetMessageClass(found.output_type).FromString,
    )
    messages = [ParseDict(each, asks()) for each in requests]
    answers = remote(iter(messages) if found.client_streaming else messages[0])
    for answer in answers if found.server_streaming else [answers]:
        yield MessageToDict(answer)


def main(address: str, method: str = "", *requests: str) -> str:
    """Print methods, or the answers of one; what went wrong, if anything."""
    with grpc.insecure_channel(address) as channel:
        try:
            if not method:
                print(*methods(channel), sep="\n")
                return ""
            if not requests:
                return f"give a request: {method} '{{}}'"
            for answer in call(channel, method, [json.loads(each) for each in requests]):
                print(json.dumps(answer), flush=True)
        except grpc.RpcError as error:
            return f"{error.code().name}: {error.details()}"
        except KeyError:
            return f"no such method: {method}"
        except ParseError as error:
            return " ".join(str(error).split())
        except ValueError as error:
            return f"not JSON: {error}"
    return ""


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]) or 0)
