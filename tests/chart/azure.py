"""A stand-in for Azure: tokens for the workload identity of a pod, and the alerts of a file.

    azure.py ADDRESS CERTIFICATE KEY ALERTS SUBJECT NAMESPACE

ALERTS has a name of an alert on each line, read at each request: the alerts are about the victim in NAMESPACE, now.
Only the service account SUBJECT with the audience of Azure gets a token. The plan Defender for Containers is on.
"""

import base64
import datetime
import http.server
import json
import pathlib
import ssl
import sys
import urllib.parse

address, certificate, key, alerts, subject, namespace = sys.argv[1:]
HOST, PORT = address.split(":")


def alert(scope, number, name):
    cluster = f"{scope}/providers/Microsoft.ContainerService/managedClusters/blue"
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "id": f"{scope}/providers/Microsoft.Security/locations/westeurope/alerts/{number}",
        "name": str(number),
        "type": "Microsoft.Security/Locations/alerts",
        "properties": {
            "alertDisplayName": name,
            "severity": "Medium",
            "status": "Active",
            "startTimeUtc": now,
            "endTimeUtc": now,
            "timeGeneratedUtc": now,
            "resourceIdentifiers": [{"type": "AzureResource", "azureResourceId": cluster}],
            "entities": [
                {"type": "K8s-namespace", "name": namespace},
                {"type": "K8s-pod", "name": "mdc-simulation-victim"},
            ],
        },
    }


class Azure(http.server.BaseHTTPRequestHandler):
    def reply(self, status, body):
        body = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        form = dict(urllib.parse.parse_qsl(self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()))
        claims = form.get("client_assertion", "..").split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)) or b"{}")
        if claims.get("sub") != subject or "api://AzureADTokenExchange" not in claims.get("aud", []):
            self.reply(401, {"error": "invalid_client", "error_description": f"no federated credential for {claims}"})
        else:
            self.reply(200, {"token_type": "Bearer", "expires_in": 3600, "access_token": "a-token"})

    def do_GET(self):
        scope, _, resource = urllib.parse.urlsplit(self.path).path.partition("/providers/Microsoft.Security/")
        if self.headers.get("Authorization") != "Bearer a-token":
            self.reply(401, {"error": {"code": "InvalidAuthenticationToken", "message": "no token"}})
        elif resource == "pricings/Containers":
            self.reply(200, {"properties": {"pricingTier": "Standard", "extensions": []}})
        elif resource == "alerts":
            names = pathlib.Path(alerts).read_text().splitlines()
            self.reply(200, {"value": [alert(scope, number, name) for number, name in enumerate(names)]})
        else:
            self.reply(404, {"error": {"code": "ResourceNotFound", "message": f"no {self.path}"}})


server = http.server.ThreadingHTTPServer((HOST, int(PORT)), Azure)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
