"""Logs in with azure-identity and psycopg2, which know of the stand-ins by the environment alone."""
import os

import psycopg2
from azure.identity import EnvironmentCredential

token = EnvironmentCredential().get_token("https://ossrdbms-aad.database.windows.net/.default").token
connection = psycopg2.connect(os.environ["DATABASE_URL"], password=token)
with connection.cursor() as cursor:
    cursor.execute("select session_user, ssl from pg_stat_ssl where pid = pg_backend_pid()")
    user, encrypted = cursor.fetchone()
assert encrypted
print(user)
