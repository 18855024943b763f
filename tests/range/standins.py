"""The range's stand-ins: what the cluster would find outside if it had a way out.

    standins.py STATE BLOBS SINK_IP

metadata  169.254.169.254:80  the cloud's metadata service. STATE/flavour says whose, read at
                              each request: azure, azure-multiple (a token only for a named
                              identity), aws, gcp, none (the connection is reset)
sink      SINK_IP:80          the threat-intelligence test domain: 200 to everything
registry  127.0.0.1:5000      every image registry, pull only: manifests in
                              STATE/images/HOST/NAME/TAG, blobs in BLOBS (see `image`).
                              STATE/registry-delay: seconds to wait before a manifest

Every request is a line on stdout: kind, client, method, path, status.
"""

import http.server
import json
import pathlib
import socket
import socketserver
import struct
import sys
import threading
import time
import urllib.parse

STATE, BLOBS, SINK_IP = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3]
TOKEN = "eyJ0eXAiOiJKV1QifQ.eyJzdWIiOiJub3QtYS1yZWFsLXRva2VuIn0.stand-in"
ROLES = "/latest/meta-data/iam/security-credentials/"


def setting(name, default):
    try:
        return (STATE / name).read_text().strip()
    except FileNotFoundError:
        return default


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        length = int(self.headers.get("Content-Length") or 0)
        self.rfile.read(length)
        url = urllib.parse.urlsplit(self.path)
        self.query = dict(urllib.parse.parse_qsl(url.query))
        reply = self.reply(url.path)
        if reply is None:
            # Close with a reset, as if nothing were listening.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.log_request("reset")
            self.connection.close()
            return
        status, kind, body = reply
        if isinstance(body, dict):
            body = json.dumps(body)
        if isinstance(body, str):
            body = body.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        for name, value in self.extra.items():
            self.send_header(name, value)
        size = body.stat().st_size if isinstance(body, pathlib.Path) else len(body)
        self.send_header("Content-Length", str(size))
        self.end_headers()
        if self.command == "HEAD":
            return
        if isinstance(body, pathlib.Path):
            with body.open("rb") as file:
                self.connection.sendfile(file)
        else:
            self.wfile.write(body)

    do_HEAD = do_POST = do_PUT = do_GET

    @property
    def extra(self):
        return {}

    def log_request(self, code="-", size="-"):
        status = getattr(code, "value", code)
        print(type(self).__name__.lower(), self.client_address[0], self.command, self.path, status, flush=True)

    def log_message(self, *_):
        pass


class Metadata(Handler):
    def reply(self, path):
        flavour = setting("flavour", "azure")
        if flavour == "none":
            return None
        answer = {"aws": self.aws, "gcp": self.gcp}.get(flavour, self.azure)
        return answer(path, flavour)

    def azure(self, path, flavour):
        if self.headers.get("Metadata", "").lower() != "true":
            return 400, "application/json", {"error": "Bad request. Required metadata header not specified"}
        if path == "/metadata/identity/oauth2/token":
            if flavour == "azure-multiple" and not {"msi_res_id", "client_id", "object_id"} & self.query.keys():
                return 400, "application/json", {
                    "error": "invalid_request",
                    "error_description": "Multiple user assigned identities exist, please specify the clientId / resourceId of the identity in the token request",
                }
            return 200, "application/json", {
                "access_token": TOKEN,
                "expires_in": "86399",
                "resource": self.query.get("resource", ""),
                "token_type": "Bearer",
            }
        compute = {
            "subscriptionId": "00000000-0000-0000-0000-000000000001",
            "resourceGroupName": "MC_range_range_westeurope",
            "location": "westeurope",
        }
        prefix, name = path.rsplit("/", 1)
        if prefix == "/metadata/instance/compute" and name in compute:
            return 200, "text/plain", compute[name]
        return 404, "application/json", {"error": "Not found"}

    def aws(self, path, _):
        if path == "/latest/api/token":
            if self.command == "PUT":
                return 200, "text/plain", "stand-in-session-token"
            return 405, "text/plain", ""
        if self.headers.get("X-aws-ec2-metadata-token") != "stand-in-session-token":
            return 401, "text/plain", ""
        if path == ROLES:
            return 200, "text/plain", "range-node-role"
        if path == ROLES + "range-node-role":
            return 200, "text/plain", {
                "Code": "Success",
                "AccessKeyId": "ASIA-NOT-A-REAL-KEY",
                "SecretAccessKey": "not-a-real-secret",
                "Token": TOKEN,
            }
        return 404, "text/plain", ""

    def gcp(self, path, _):
        if self.headers.get("Metadata-Flavor") != "Google":
            return 403, "text/plain", "Missing Metadata-Flavor:Google header."
        if path == "/computeMetadata/v1/instance/service-accounts/default/token":
            return 200, "application/json", {"access_token": TOKEN, "expires_in": 3599, "token_type": "Bearer"}
        return 404, "text/plain", ""

    @property
    def extra(self):
        return {"Metadata-Flavor": "Google"} if setting("flavour", "azure") == "gcp" else {}


class Sink(Handler):
    def reply(self, path):
        return 200, "text/plain", b""


class Registry(Handler):
    digest = None

    def reply(self, path):
        self.digest = None
        if path == "/v2/":
            return 200, "application/json", "{}"
        for kind in ("manifests", "blobs"):
            name, found, reference = path.removeprefix("/v2/").partition(f"/{kind}/")
            if found and ".." not in path:
                break
        else:
            return 404, "application/json", {"errors": [{"code": "NAME_UNKNOWN"}]}
        if kind == "manifests" and ":" not in reference:
            time.sleep(float(setting("registry-delay", "0") or 0))
            tag = STATE / "images" / self.query.get("ns", "localhost") / name / reference
            if not tag.is_file():
                return 404, "application/json", {"errors": [{"code": "MANIFEST_UNKNOWN"}]}
            reference = tag.read_text().strip()
        blob = BLOBS / reference.removeprefix("sha256:")
        if not blob.is_file():
            return 404, "application/json", {"errors": [{"code": "BLOB_UNKNOWN"}]}
        self.digest = reference
        kind = "application/vnd.oci.image.manifest.v1+json" if kind == "manifests" else "application/octet-stream"
        return 200, kind, blob

    @property
    def extra(self):
        return {"Docker-Content-Digest": self.digest} if self.digest else {}


class Server(http.server.ThreadingHTTPServer):
    # The standard method first resolves its own name, which takes long without DNS.
    server_bind = socketserver.TCPServer.server_bind


def server(address, handler):
    listener = Server(address, handler)
    threading.Thread(target=listener.serve_forever).start()


server(("169.254.169.254", 80), Metadata)
server((SINK_IP, 80), Sink)
server(("127.0.0.1", 5000), Registry)
