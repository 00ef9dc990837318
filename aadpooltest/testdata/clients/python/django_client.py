"""Migrates a database with Django and works with a model, as the role that owns the database."""
import os
import sys

import django
from django.conf import settings
from django.core.management import call_command

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
settings.configure(
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes"],
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    DATABASES={
        "default": {
            "ENGINE": "entra_backend",
            "HOST": os.environ["PGHOST"],
            "PORT": os.environ["PGPORT"],
            "USER": os.environ["PGUSER"],
            "NAME": os.environ["PGDATABASE"],
            "OPTIONS": {"sslmode": "verify-full", "sslrootcert": os.environ["PGSSLROOTCERT"]},
        }
    },
)
django.setup()
call_command("migrate", verbosity=0)

from django.contrib.auth.models import User  # noqa: E402: models can be imported once Django is set up
from django.db import connection  # noqa: E402

User.objects.create_user("ada")
assert User.objects.filter(username="ada").count() == 1
with connection.cursor() as cursor:
    cursor.execute("select session_user")
    print(cursor.fetchone()[0])
