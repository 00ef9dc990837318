import os

import dj_database_url
import django
from django.conf import settings

settings.configure(DATABASES={"default": dj_database_url.parse(os.environ["DATABASE_URL"])})
django.setup()

from django.db import connection  # noqa: E402

with connection.cursor() as cursor:
    cursor.execute("select session_user || ' ' || current_database() as who")
    print(cursor.fetchone()[0])
