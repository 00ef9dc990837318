"""A database backend for Django that logs in with the process's Entra identity."""
from azure.identity import EnvironmentCredential
from django.db.backends.postgresql import base

SCOPE = "https://ossrdbms-aad.database.windows.net/.default"
credential = EnvironmentCredential()


class DatabaseWrapper(base.DatabaseWrapper):
    def get_connection_params(self):
        # Each connect asks: azure-identity has the token in its cache until shortly before its end.
        return {**super().get_connection_params(), "password": credential.get_token(SCOPE).token}
