# What a Django project does with its database, after migrate.
import django

django.setup()

from django.contrib.auth.models import Group, User
from django.db import connection, transaction

User.objects.all().delete()
Group.objects.all().delete()
group = Group.objects.create(name="buyers")
for n in range(100):
    User.objects.create_user(f"user{n}").groups.add(group)
try:
    with transaction.atomic():
        User.objects.update(is_staff=True)
        raise RuntimeError("roll back")
except RuntimeError:
    pass
assert User.objects.filter(is_staff=True).count() == 0
assert group.user_set.filter(username__endswith="7").count() == 10
users = User.objects.select_for_update().order_by("id")
with transaction.atomic():
    assert len(list(users.iterator(chunk_size=10))) == 100  # by a server-side cursor
for _ in range(20):
    connection.close()  # as at the end of each request, where CONN_MAX_AGE is 0
    with connection.cursor() as cursor:
        cursor.execute("select session_user")
        assert cursor.fetchone() == ("orders-api",)
print("done")
