"""Asks a running ragweave server and streams the answer: client.py QUESTION [[http://]HOST:PORT].

Needs `pip install grpcio grpcio-reflection`; the server describes itself, so no generated code is needed."""
import re
import sys

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

address = sys.argv[2] if len(sys.argv) > 2 else "127.0.0.1:50051"
place = re.fullmatch(r"(?:http://)?([^/?#@]+:\d+)/?", address, re.IGNORECASE)
if not place:
    sys.exit(f"client.py: {address!r} is not HOST:PORT or http://HOST:PORT (there is no TLS)")
channel = grpc.insecure_channel(place[1])
pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
method = pool.FindServiceByName("ragweave.v1.RagService").methods_by_name["Generate"]
Request, Response = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
generate = channel.unary_stream("/ragweave.v1.RagService/Generate", Request.SerializeToString, Response.FromString)
for event in generate(Request(query=sys.argv[1]), timeout=60):
    print(event.delta.text, end="", flush=True)
    if event.HasField("started"):
        sources = [source.chunk_id for source in event.started.sources]
print("\nsources:", ", ".join(sources))
