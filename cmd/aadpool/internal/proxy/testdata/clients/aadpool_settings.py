# Settings for Django's own tests, and for a small project: the database is behind the proxy, at PGHOST.
import os

DATABASES = {
    alias: {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "postgres",
        "USER": "orders-api",
        "HOST": os.environ["PGHOST"],
        "PORT": os.environ["PGPORT"],
        "TEST": {"NAME": "test_django_" + alias},
    }
    for alias in ("default", "other")
}
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "django.contrib.sessions"]
SECRET_KEY = "not a secret"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
USE_TZ = False
