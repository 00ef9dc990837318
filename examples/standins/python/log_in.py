"""The stand-ins' environment, and a login as a service does it: azure-identity and psycopg."""
import json
import os
import sys
import urllib.parse
import urllib.request

import psycopg
from azure.identity import ClientSecretCredential


def environment(ports, directory):
    """Tells the stand-ins by which ports they are reached. Returns what they have for a service."""
    control = f"http://localhost:{ports['control']}"

    def ask(method, path):
        with urllib.request.urlopen(urllib.request.Request(control + path, method=method)) as answer:
            return answer.read()

    ask("PUT", "/ports?" + urllib.parse.urlencode(ports))
    ca = os.path.join(directory, "ca.pem")
    with open(ca, "wb") as file:
        file.write(ask("GET", "/ca.pem"))
    return json.loads(ask("GET", "/env?" + urllib.parse.urlencode({"ca": ca})))


def log_in(env):
    """Logs in with a token as the password. Returns who it is."""
    credential = ClientSecretCredential(
        env["AZURE_TENANT_ID"], env["AZURE_CLIENT_ID"], env["AZURE_CLIENT_SECRET"],
        authority=env["AZURE_AUTHORITY_HOST"],
        disable_instance_discovery=True,  # the stand-in is no host that Microsoft knows; from 1.13 on
        connection_verify=env["SSL_CERT_FILE"])
    token = credential.get_token("https://ossrdbms-aad.database.windows.net/.default").token
    with psycopg.connect(env["DATABASE_URL"], password=token) as connection:
        return connection.execute("select session_user").fetchone()[0]


if __name__ == "__main__":
    control, entra, postgres, directory = sys.argv[1:]
    print(log_in(environment({"control": control, "entra": entra, "postgres": postgres}, directory)))
