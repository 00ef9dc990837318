from settings import *  # noqa: F403

INSTALLED_APPS = ["orders"]
SECRET_KEY = "not a secret"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
